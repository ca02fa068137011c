"""What parties and people agree on, as it is stored: grants and the runs under them, projects, approvals."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from isthmus.store.audit import Note

GrantState = Literal["asked", "given", "refused", "revoked"]
"""`expired` is no state that is stored: it follows from the day."""

ProjectState = Literal["active", "archived"]
ApprovalState = Literal["open", "approved", "refused"]


@dataclass(frozen=True, slots=True)
class StoredGrant:
    """A grant at its holder or at its user (`held`: whether the data is here). `terms` are canonical JSON as asked for or as
    signed; `columns` the holder's own list. A state never goes back."""

    id: str
    held: bool
    partner: str
    state: GrantState
    terms: bytes
    made_at: datetime
    changed_at: datetime
    signature: bytes = b""
    ending: bytes = b""
    columns: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GrantRun:
    """One run under a grant, counted once however often it resumes. `rows` are the ids that the user brought, `shared` those
    that both have; 0 until they are known."""

    run: bytes
    holder: str
    user: str
    dataset: str
    grant: str
    at: datetime
    rows: int = 0
    shared: int = 0


@dataclass(frozen=True, slots=True)
class StoredProject:
    """A purpose that several parties share. `document` is what `maker` has signed."""

    name: str
    maker: str
    document: bytes
    signature: bytes
    state: ProjectState
    made_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class StoredApproval:
    """A decision that people of this party have to take. `people` have said yes, or have asked for it themselves."""

    id: str
    kind: Literal["start"]
    job: str
    asked_by: str
    people: tuple[str, ...]
    state: ApprovalState
    asked_at: datetime
    changed_at: datetime
    decided_by: str = ""
    reason: str = ""


class Agreements(Protocol):
    """The part of the store that `service/grants`, `projects` and `approvals` ask."""

    def add_grant(self, grant: StoredGrant, notes: Sequence[Note] = ()) -> bool:
        """False, and nothing done, if the id is taken."""

    def change_grant(
        self, grant: StoredGrant, since: Collection[GrantState], notes: Sequence[Note] = ()
    ) -> bool:
        """Replaces the grant of that id. False, and nothing done, unless its state is in `since`."""

    def grant(self, grant_id: str) -> StoredGrant | None: ...

    def grants(self, limit: int = 50, before: str | None = None) -> list[StoredGrant]:
        """Newest first, from the one older than the grant `before` on."""

    def grants_with(self, partner: str, held: bool) -> list[StoredGrant]:
        """Oldest first: those given to this partner (`held`), or those that it gave."""

    def add_run(self, run: GrantRun, notes: Sequence[Note] = ()) -> bool:
        """False, and nothing done, if this run is counted at this holder."""

    def run_of(self, run: bytes, holder: str) -> GrantRun | None: ...

    def note_sizes(self, run: bytes, holder: str, rows: int, shared: int) -> None:
        """Keeps what the alignment of a counted run has shown; a zero leaves what stands there."""

    def runs_under(self, grant_id: str) -> int: ...

    def runs_since(self, holder: str, user: str, dataset: str, since: datetime) -> list[GrantRun]:
        """Runs on any version of the dataset, oldest first, under whatever grant."""

    def put_project(self, project: StoredProject, notes: Sequence[Note] = ()) -> None:
        """Adds the project or replaces the one of that name."""

    def project(self, name: str) -> StoredProject | None: ...

    def projects(self, after: str = "", limit: int = -1) -> list[StoredProject]:
        """By name, from the one behind `after` on; -1: all."""

    def add_approval(self, approval: StoredApproval) -> bool:
        """False, and nothing done, if the id is taken."""

    def change_approval(
        self, approval: StoredApproval, people: tuple[str, ...], notes: Sequence[Note] = ()
    ) -> bool:
        """Replaces the approval. False, and nothing done, unless it is open and these people have said yes."""

    def approval(self, approval_id: str) -> StoredApproval | None: ...

    def approvals(self, limit: int = 50, before: str | None = None) -> list[StoredApproval]:
        """Newest first, from the one older than the approval `before` on."""
