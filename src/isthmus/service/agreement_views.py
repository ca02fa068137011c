"""What the HTTP interface shows of a grant, a project and an approval."""

from __future__ import annotations

from datetime import date
from typing import Any

from isthmus.base.clock import Clock
from isthmus.jobs.grant_terms import Terms
from isthmus.service.grants import Grants, columns_of, terms_of
from isthmus.service.projects import Project
from isthmus.store.agreements import StoredApproval, StoredGrant, StoredProject
from isthmus.store.records import StoredJob


def grant_view(grant: StoredGrant, grants: Grants, clock: Clock) -> dict[str, Any]:
    """`own_columns` are names; they are shown at the holder alone."""
    terms = terms_of(grant)
    signed = terms if isinstance(terms, Terms) else None
    days = (date.fromisoformat(terms.until) - clock.now().date()).days
    own = columns_of(grant) if grant.held and grant.columns is not None else None
    return {
        "id": grant.id,
        "state": grants.standing(grant),
        "held": grant.held,
        "holder": terms.holder,
        "user": terms.user,
        "dataset": terms.dataset,
        "purpose": terms.purpose,
        "operations": list(terms.operations),
        "until": terms.until,
        "days_left": max(days, 0),
        "runs": terms.runs,
        "runs_left": grants.runs_left(grant),
        "runs_30d": signed.runs_30d if signed else None,
        "min_rows": terms.min_rows,
        "partner_rows_max": signed.partner_rows_max if signed else None,
        "min_change": signed.min_change if signed else None,
        "job": signed.job if signed else "",
        "columns": signed.columns.count if signed else None,
        "aliases": list(signed.columns.aliases) if signed else [],
        "own_columns": own.model_dump(mode="json", exclude={"salt"}) if own else None,
        "signature": grant.signature.hex(),
        "made_at": grant.made_at.isoformat(),
        "changed_at": grant.changed_at.isoformat(),
    }


def project_view(stored: StoredProject) -> dict[str, Any]:
    project = Project.from_bytes(stored.document)
    return {
        "name": stored.name,
        "maker": stored.maker,
        "purpose": project.purpose,
        "parties": list(project.parties),
        "four_eyes": project.four_eyes,
        "state": stored.state,
        "made_at": stored.made_at.isoformat(),
        "changed_at": stored.changed_at.isoformat(),
    }


def approval_view(approval: StoredApproval, job: StoredJob | None, needs_two: bool) -> dict[str, Any]:
    """`closed`: nobody decided it, and the job has gone another way."""
    over = job is None or job.state not in ("draft", "proposed")
    return {
        "id": approval.id,
        "kind": approval.kind,
        "job": approval.job,
        "name": job.name if job else "",
        "state": "closed" if approval.state == "open" and over else approval.state,
        "asked_by": approval.asked_by,
        "people": list(approval.people),
        "needed": 2 if needs_two else 1,
        "decided_by": approval.decided_by,
        "reason": approval.reason,
        "asked_at": approval.asked_at.isoformat(),
        "changed_at": approval.changed_at.isoformat(),
    }
