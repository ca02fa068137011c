"""The shapes of grants, projects and approvals, with an example of each, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_AT = "2026-03-02T09:30:00+00:00"
_PURPOSE = "Rank card holders by the chance of missing the payment of the next month"


def _like(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


class OwnColumnsShape(BaseModel):
    """Columns by name, which stay at the holder."""

    model_config = _like({"include": ["*"], "exclude": ["staff"], "aliases": {"late_12m": "repayment-1"}})

    include: list[str]
    exclude: list[str]
    aliases: dict[str, str]


class GrantShape(BaseModel):
    """A grant, or a request for one. `own_columns` only at the holder (`held`); the user sees their number and aliases."""

    model_config = _like(
        {
            "id": "g-k5vq2mtx4ahzq6wn",
            "state": "given",
            "held": True,
            "holder": "data-co",
            "user": "river-bank",
            "dataset": "habits",
            "purpose": _PURPOSE,
            "operations": ["align", "train"],
            "until": "2026-05-31",
            "days_left": 90,
            "runs": 10,
            "runs_left": 9,
            "runs_30d": 20,
            "min_rows": 1000,
            "partner_rows_max": 1000000,
            "min_change": 0,
            "job": "",
            "columns": 6,
            "aliases": ["repayment-1"],
            "own_columns": {"include": ["*"], "exclude": [], "aliases": {"late_12m": "repayment-1"}},
            "signature": "c1" * 64,
            "made_at": _AT,
            "changed_at": _AT,
        }
    )

    id: str
    state: Literal["asked", "given", "refused", "revoked", "expired"]
    held: bool
    holder: str
    user: str
    dataset: str
    purpose: str
    operations: list[str]
    until: str
    days_left: int
    runs: int
    runs_left: int
    runs_30d: int | None
    min_rows: int
    partner_rows_max: int | None
    min_change: int | None
    job: Annotated[
        str, Field(description="The hash of the one job file that it is for, if it is for one alone.")
    ]
    columns: int | None
    aliases: list[str]
    own_columns: OwnColumnsShape | None
    signature: str
    made_at: str
    changed_at: str


class ProjectShape(BaseModel):
    model_config = _like(
        {
            "name": "card-2026",
            "maker": "river-bank",
            "purpose": _PURPOSE,
            "parties": ["data-co", "river-bank"],
            "four_eyes": True,
            "state": "active",
            "made_at": _AT,
            "changed_at": _AT,
        }
    )

    name: str
    maker: str
    purpose: str
    parties: list[str]
    four_eyes: bool
    state: Literal["active", "archived"]
    made_at: str
    changed_at: str


class ApprovalShape(BaseModel):
    """A decision of this party. `people` have said yes; `needed` is how many have to."""

    model_config = _like(
        {
            "id": "a-h5vgk3ta",
            "kind": "start",
            "job": "j-h5vgk3ta",
            "name": "card",
            "state": "open",
            "asked_by": "river-bank",
            "people": [],
            "needed": 1,
            "decided_by": "",
            "reason": "",
            "asked_at": _AT,
            "changed_at": _AT,
        }
    )

    id: str
    kind: Literal["start"]
    job: str
    name: str
    state: Literal["open", "approved", "refused", "closed"]
    asked_by: str
    people: list[str]
    needed: int
    decided_by: str
    reason: str
    asked_at: str
    changed_at: str


class GrantNoteShape(BaseModel):
    """The grant that a job would run under at one feature owner, or why there is none."""

    model_config = _like(
        {
            "holder": "data-co",
            "dataset": "habits@1",
            "state": "missing",
            "grant": "",
            "until": "",
            "runs_left": 0,
            "code": "grant_missing",
            "words": "No grant of data-co covers this job: nothing is granted of habits.",
        }
    )

    holder: str
    dataset: str
    state: Literal["found", "ending", "missing"]
    grant: str
    until: str
    runs_left: int
    code: str
    words: str


class RoomShape(BaseModel):
    """Memory at the peak and disk that a job takes at one party."""

    model_config = _like({"party": "data-co", "memory_bytes": 310000000, "disk_bytes": 26000000})

    party: str
    memory_bytes: int
    disk_bytes: int
