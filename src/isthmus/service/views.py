"""What the HTTP interface shows of a partner, a dataset, a job, a plan and an error."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import Any

from isthmus.base.errors import IsthmusError, rebuild
from isthmus.base.progress import Step
from isthmus.jobs.plan import Plan
from isthmus.service.keys import Keys, shown
from isthmus.store.audit import KeptHead
from isthmus.store.records import Answer, Event, StoredDataset, StoredJob, StoredPartner
from isthmus.wire.link import LinkState


def error_view(error: IsthmusError, language: str) -> dict[str, Any]:
    """Code, sentence and hint of an error, in one language."""
    return {
        "class": type(error).__name__,
        "code": error.code,
        "detail": error.sentence(language),
        "hint": error.hint(language),
        "fields": {name: str(value) for name, value in error.fields.items()},
    }


def problem(error: IsthmusError, language: str, party: str) -> dict[str, Any]:
    """RFC 9457 problem details."""
    field = error.fields.get("field")
    return {
        "type": f"/docs/errors/{error.code}",
        "title": error.code.replace("_", " "),
        "status": error.status,
        **error_view(error, language),
        "party": party,
        "field": None if field is None else str(field),
        "trace_id": secrets.token_hex(6),
    }


def partner_view(
    partner: StoredPartner, state: LinkState | None, language: str, next_key: bytes | None = None
) -> dict[str, Any]:
    return {
        "name": partner.name,
        "key": partner.public_key.hex(),
        "fingerprint": shown(partner.public_key),
        "next_fingerprint": next_key and shown(next_key),
        "address": partner.address,
        "words": list(partner.words),
        "confirmed": partner.confirmed,
        "joined_at": partner.joined_at.isoformat(),
        "connected": bool(state and state.connected),
        "since": state.since.isoformat() if state else None,
        "problem": error_view(state.problem, language) if state and state.problem else None,
    }


def rotation_view(keys: Keys, public_key: bytes) -> dict[str, Any]:
    row = keys.row
    return {
        "fingerprint": shown(public_key),
        "next_fingerprint": shown(row.public_key) if row else None,
        "until": row.until.isoformat() if row else None,
        "waits_for": keys.waits_for(),
    }


def dataset_view(dataset: StoredDataset, *, whole: bool = False) -> dict[str, Any]:
    view: dict[str, Any] = {
        "dataset": dataset.title,
        "path": dataset.path,
        "sha256": dataset.sha256,
        "rows": dataset.profile["rows"],
        "columns": len(dataset.profile["columns"]),
        "key": dataset.options["key"],
        "as": dataset.options["as"],
        "label": dataset.options["label"],
        "added_at": dataset.added_at.isoformat(),
    }
    if whole:
        view["encoding"] = dataset.options["encoding"]
        view["profile"] = dataset.profile["columns"]
    return view


def job_view(
    job: StoredJob, answers: list[Answer], step: Step | None, folder: str, language: str
) -> dict[str, Any]:
    error = job.error and rebuild(job.error["class"], job.error["code"], job.error["fields"])
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "role": job.role,
        "label_owner": job.label_owner,
        "number": job.number,
        "digest": job.digest.hex(),
        "created_at": job.created_at.isoformat(),
        "changed_at": job.changed_at.isoformat(),
        "parties": [
            {"party": a.party, "state": a.state, "signed": a.signature is not None, "code": a.code}
            for a in answers
        ],
        "progress": progress_view(job, step),
        "waiting": waiting_view(job),
        "error": error_view(error, language) if error else None,
        "result": job.result,
        "folder": folder,
    }


def waiting_view(job: StoredJob) -> dict[str, Any] | None:
    """Why a job waits, as a code, and since when."""
    if job.state != "waiting" or job.error is None:
        return None
    code, fields = job.error["code"], job.error["fields"]
    reason = {"partner_failed": fields.get("code", code), "partner_rewound": "rewound"}.get(code, code)
    return {"reason": reason, "since": fields.get("since") or job.changed_at.isoformat()}


def progress_view(job: StoredJob, step: Step | None) -> dict[str, Any] | None:
    if step is None or job.state != "running":
        return None
    return {
        "stage": step.stage,
        "done": step.done,
        "total": step.total,
        "eta_s": step.eta_s,
        "note": step.note,
    }


def event_view(event: Event, own: str) -> dict[str, Any]:
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "kind": event.kind,
        "party": event.party or own,
        "data": event.data,
    }


def plan_view(plan: Plan, language: str, own_columns: list[str] | None) -> dict[str, Any]:
    return {
        "digest": plan.digest.hex(),
        "resolved": plan.resolved,
        "stages": [{"stage": s.name, "what": s.title.of(language)} for s in plan.stages],
        "engine": _engine_view(plan, language),
        "leaks": [
            {"stage": row.stage, "party": row.party, "learns": row.learns.of(language)} for row in plan.leaks
        ],
        "messages": list(plan.messages),
        "own_columns": own_columns,
        "rooms": [asdict(room) for room in plan.rooms],
        "grants": [asdict(note) | {"words": note.words.of(language)} for note in plan.grants],
    }


def _engine_view(plan: Plan, language: str) -> dict[str, Any]:
    return {
        "chosen": plan.choice.engine,
        "why": plan.choice.why,
        "reason": plan.reason.of(language),
        "costs": [asdict(cost) for cost in plan.choice.costs],
        "notes": [note.of(language) for note in plan.notes],
    }


def kept_head_view(kept: KeptHead) -> dict[str, Any]:
    """A head of an audit log, and who holds it."""
    return {
        "partner": kept.partner,
        "whose": kept.whose,
        "number": kept.head.number,
        "digest": kept.head.digest.hex(),
        "signature": kept.head.signature.hex(),
        "at": kept.at.isoformat(),
    }
