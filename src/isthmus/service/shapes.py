"""The shapes of what the HTTP interface answers, with an example of each, for the OpenAPI document.

`views` makes the answers; a test holds real ones against these shapes, in which an unknown field is an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from isthmus.service.agreement_shapes import GrantNoteShape, RoomShape

_AT = "2026-03-02T09:30:00+00:00"
_PARTNER: dict[str, Any] = {
    "name": "data-co",
    "key": "5f" * 32,
    "fingerprint": "a41c 09be 7d52 3f80 6c11 e9d4 02ab 57f3",
    "next_fingerprint": None,
    "address": "https://data.example:8443",
    "words": ["babad", "babaf", "babag", "babah"],
    "confirmed": True,
    "joined_at": _AT,
    "connected": True,
    "since": _AT,
    "problem": None,
}
_JOB: dict[str, Any] = {
    "id": "j-h5vgk3ta",
    "name": "card",
    "state": "running",
    "role": "label_owner",
    "label_owner": "bank",
    "number": 1,
    "digest": "3f" * 32,
    "created_at": _AT,
    "changed_at": _AT,
    "parties": [
        {"party": "bank", "state": "running", "signed": True, "code": None},
        {"party": "data-co", "state": "running", "signed": True, "code": None},
    ],
    "progress": {"stage": "train", "done": 23, "total": 60, "eta_s": 41.0, "note": ""},
    "waiting": None,
    "error": None,
    "result": None,
    "folder": "/srv/isthmus/jobs/j-h5vgk3ta",
}


def _like(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


class ErrorShape(BaseModel):
    """An error in words: class, code, sentence, hint."""

    model_config = ConfigDict(extra="forbid")

    kind: Annotated[str, Field(alias="class")]
    code: str
    detail: str
    hint: str
    fields: Annotated[dict[str, str], Field(description="What the words in braces stand for.")]


class ProblemShape(ErrorShape):
    """RFC 9457 problem details."""

    model_config = _like(
        {
            "type": "/docs/errors/not_found",
            "title": "not found",
            "status": 404,
            "class": "ConfigError",
            "code": "not_found",
            "detail": "There is no job j-none.",
            "hint": "List what exists: isthmus job ls.",
            "fields": {"what": "job j-none", "list_command": "isthmus job ls"},
            "party": "bank",
            "field": None,
            "trace_id": "9c1e5b7a40d2",
        }
    )

    type: str
    title: str
    status: int
    party: str
    field: str | None
    trace_id: str


_ROTATION: dict[str, Any] = {
    "fingerprint": "0c1f 77ab 90de 4402 5a6b 1e3c 88f0 d2b7",
    "next_fingerprint": "a41c 09be 7d52 3f80 6c11 e9d4 02ab 57f3",
    "until": _AT,
    "waits_for": ["data-co"],
}


class RotationShape(BaseModel):
    """The change of this node's key: fingerprints, when the overlap ends, partners not yet heard with the new key. What
    is null or empty while no key is being changed: everything but `fingerprint`."""

    model_config = _like(_ROTATION)

    fingerprint: str
    next_fingerprint: str | None
    until: str | None
    waits_for: list[str]


class NodeShape(RotationShape):
    model_config = _like(
        _ROTATION
        | {
            "party": "bank",
            "version": "0.1.0",
            "mode": "direct",
            "address": "https://bank.example:8443",
            "link_port": 8443,
            "home": "/srv/isthmus",
        }
    )

    party: str
    version: str
    mode: str
    address: str | None
    link_port: int | None
    home: str


class FindingShape(BaseModel):
    model_config = _like({"probe": "disk", "value": "31 GB free", "verdict": "ok", "cure": ""})

    probe: str
    value: str
    verdict: Literal["ok", "warn", "fail"]
    cure: str


class LineShape(BaseModel):
    """An invitation, one line to carry to the partner."""

    model_config = _like({"line": "isthmus-invite-1.eyJ..."})

    line: str


class PartnerShape(BaseModel):
    """`next_fingerprint`: of the key that the partner is about to change to, which is pinned as well."""

    model_config = _like(_PARTNER)

    name: str
    key: str
    fingerprint: str
    next_fingerprint: str | None
    address: str | None
    words: list[str]
    confirmed: bool
    joined_at: str
    connected: bool
    since: str | None
    problem: ErrorShape | None


class AcceptedShape(PartnerShape):
    """A partner just joined; `reply` is a line to carry back where the inviter does not listen."""

    model_config = _like(_PARTNER | {"confirmed": False, "connected": False, "since": None, "reply": None})

    reply: str | None


class DatasetShape(BaseModel):
    """One version of a dataset; `encoding` and `profile` only where one dataset is shown."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "dataset": "applicants@1",
                    "path": "/data/applicants.csv",
                    "sha256": "a1" * 32,
                    "rows": 27000,
                    "columns": 18,
                    "key": "phone",
                    "as": "phone-cn",
                    "label": "bad",
                    "added_at": _AT,
                }
            ]
        },
    )

    dataset: str
    path: str
    sha256: str
    rows: int
    columns: int
    key: str
    form: Annotated[str, Field(alias="as")]
    label: str | None
    added_at: str
    encoding: str | None = None
    profile: list[dict[str, Any]] | None = None


class ProgressShape(BaseModel):
    model_config = _like({"stage": "train", "done": 23, "total": 60, "eta_s": 41.0, "note": ""})

    stage: str
    done: int
    total: int | None
    eta_s: float | None
    note: str | None


class StandingShape(BaseModel):
    """Where one party of a job stands."""

    model_config = _like({"party": "bank", "state": "accepted", "signed": True, "code": None})

    party: str
    state: str
    signed: bool
    code: str | None


class WaitingShape(BaseModel):
    """Why a job waits: `partner_offline`, `disk_full`, `rewound`, `paused` or another code; and since when."""

    model_config = _like({"reason": "partner_offline", "since": _AT})

    reason: str
    since: str


class JobShape(BaseModel):
    model_config = _like(_JOB)

    id: str
    name: str
    state: str
    role: str
    label_owner: str
    number: int
    digest: str
    created_at: str
    changed_at: str
    parties: list[StandingShape]
    progress: ProgressShape | None
    waiting: WaitingShape | None
    error: ErrorShape | None
    result: dict[str, Any] | None
    folder: str


class EventShape(BaseModel):
    model_config = _like(
        {"id": 12, "at": _AT, "kind": "stage.state", "party": "bank", "data": {"stage": "align"}}
    )

    id: int
    at: str
    kind: str
    party: str
    data: dict[str, Any]


class StageShape(BaseModel):
    model_config = _like({"stage": "align", "what": "Find the shared rows"})

    stage: str
    what: str


class LeakShape(BaseModel):
    model_config = _like({"stage": "align", "party": "bank", "learns": "which of its ids are shared"})

    stage: str
    party: str
    learns: str


class PlanShape(BaseModel):
    """What a job will do, and who learns what."""

    model_config = _like(
        {
            "digest": "3f" * 32,
            "resolved": {"apiVersion": "isthmus/v1", "kind": "Job"},
            "stages": [{"stage": "align", "what": "Find the shared rows"}],
            "engine": {"chosen": "lattice", "why": "named", "reason": "The job file names it.", "costs": [], "notes": []},
            "leaks": [{"stage": "align", "party": "bank", "learns": "which of its ids are shared"}],
            "messages": ["align.blinded"],
            "own_columns": ["limit", "age"],
            "rooms": [{"party": "bank", "memory_bytes": 320000000, "disk_bytes": 26000000}],
            "grants": [],
        }
    )  # fmt: skip

    digest: str
    resolved: dict[str, Any]
    stages: list[StageShape]
    engine: dict[str, Any]
    leaks: list[LeakShape]
    messages: list[str]
    own_columns: list[str] | None
    rooms: list[RoomShape]
    grants: list[GrantNoteShape]


Item = TypeVar("Item", bound=BaseModel)


class PageShape(BaseModel, Generic[Item]):
    """One page of a list; `next` is the cursor of the page after it, if there is one."""

    model_config = ConfigDict(extra="forbid")

    items: list[Item]
    next: str | None


PROBLEM_REPLIES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem, in the language asked for.",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemShape"}}},
    }
}


def shaped(shape: Any) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers in this shape."""
    return {200: {"model": shape, "description": "As asked."}}


_AUDIT_LINE: dict[str, Any] = {
    "party": "bank",
    "number": 7,
    "at": _AT,
    "actor": "bank/local",
    "kind": "job.accepted",
    "object": "j-h5vgk3ta",
    "digest": "3f" * 32,
    "code": "",
    "before": "7a" * 32,
    "signature": "c1" * 64,
}
_KEPT_HEAD: dict[str, Any] = {
    "partner": "data-co",
    "whose": "own",
    "number": 7,
    "digest": "7a" * 32,
    "signature": "c1" * 64,
    "at": _AT,
}


class AuditLineShape(BaseModel):
    """A line of the audit log. `before` is the digest of the line before it; the signature covers all other fields."""

    model_config = _like(_AUDIT_LINE)

    party: str
    number: int
    at: str
    actor: str
    kind: str
    object: str
    digest: str
    code: str
    before: str
    signature: str


class AuditPageShape(BaseModel):
    """Lines in order, oldest first, and the cursor of the page after it; null when this is the last one."""

    model_config = _like({"lines": [_AUDIT_LINE], "next": None})

    lines: list[AuditLineShape]
    next: int | None


class KeptHeadShape(BaseModel):
    """A head of the own log that a partner keeps (`own`), or of the partner's log that is kept here (`partner`)."""

    model_config = _like(_KEPT_HEAD)

    partner: str
    whose: Literal["own", "partner"]
    number: int
    digest: str
    signature: str
    at: str


class EarlierKeyShape(BaseModel):
    """A key that a party has given up, or that was revoked; what it signed is taken until `until`."""

    model_config = _like({"party": "bank", "key": "4e" * 32, "until": _AT})

    party: str
    key: str
    until: str


class AuditHeadsShape(BaseModel):
    """All that is needed to check the log: this party, the keys of all parties it knows, now and earlier (oldest first),
    and the heads."""

    model_config = _like(
        {"party": "bank", "keys": {"bank": "5f" * 32}, "earlier_keys": [], "heads": [_KEPT_HEAD]}
    )

    party: str
    keys: dict[str, str]
    earlier_keys: list[EarlierKeyShape]
    heads: list[KeptHeadShape]
