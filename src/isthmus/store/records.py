"""The rows of a node's store and the questions that can be asked of it; `memory` and `sql` answer them alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, get_args

from isthmus.store.agreements import Agreements
from isthmus.store.audit import AuditLine, KeptHead, Note
from isthmus.store.users import UserStore

JobState = Literal[
    "draft",
    "proposed",
    "accepted",
    "queued",
    "running",
    "waiting",
    "paused",
    "done",
    "failed",
    "refused",
    "stopped",
]
STATES: tuple[JobState, ...] = get_args(JobState)
ENDED: frozenset[JobState] = frozenset({"done", "failed", "refused", "stopped"})
ANY_RUN = b""
"""Stands for every digest where numbers of runs are kept."""
HEADS_MAX = 1000
"""Heads kept of each log at each partner."""

Role = Literal["label_owner", "feature_owner"]


@dataclass(frozen=True, slots=True)
class StoredPartner:
    """A partner; job traffic flows only once `confirmed`. `words` are the four words of this join."""

    name: str
    public_key: bytes
    address: str | None
    certificate_der: bytes | None
    words: tuple[str, ...]
    confirmed: bool
    joined_at: datetime


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A public key of a party, or of this one, beside the one that counts.

    next      announced at `at`, not yet heard; what it replaces ends at `until`
    retired   replaced at `at`; what it signed is taken until `until`
    revoked   trusted no more since `at`
    """

    party: str
    public_key: bytes
    state: Literal["next", "retired", "revoked"]
    at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation that was given out; the secret opens one join and is then gone."""

    id: str
    secret: bytes = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """One version of a registered table; `sha256` is the digest of the file as registered."""

    name: str
    version: int
    path: str
    sha256: str
    options: dict[str, Any]
    profile: dict[str, Any]
    added_at: datetime

    @property
    def title(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class StoredJob:
    """One run of a job file at this node. `number` counts the runs of the same file, from 1."""

    id: str
    digest: bytes
    number: int
    document: bytes
    name: str
    role: Role
    label_owner: str
    state: JobState
    test_ids_path: str | None
    created_at: datetime
    changed_at: datetime
    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Where one party of a job stands, as far as this node knows; the signature is its consent to the hash."""

    party: str
    state: Literal["asked", "accepted", "refused", "running", "done", "failed"]
    signature: bytes | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job; ids rise and are never given twice."""

    id: int
    job: str
    at: datetime
    kind: str
    party: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeptReply:
    """What stands under an idempotency key: the digest of the request, and the reply once there is one."""

    key: str
    request: bytes
    at: datetime
    status: int | None = None
    body: bytes = field(default=b"", repr=False)


class Store(UserStore, Agreements, Protocol):
    """Every write is durable when the call returns; a call that fails leaves everything as it was.

    `notes` become lines of the audit log in the same transaction, in their order; a call that does nothing writes none.
    """

    def put_partner(self, partner: StoredPartner, notes: Sequence[Note] = ()) -> None:
        """Adds the partner or replaces the one of that name."""

    def partner(self, name: str) -> StoredPartner | None: ...

    def partners(self, after: str = "", limit: int = -1) -> list[StoredPartner]:
        """By name, from the one behind `after` on; -1: all."""

    def known_keys(self, party: str | None = None) -> list[KnownKey]:
        """Keys beside those that count, of all parties or of one, by `at`."""

    def change_keys(
        self,
        notes: Sequence[Note],
        *,
        put: Sequence[KnownKey] = (),
        drop: Sequence[tuple[str, bytes]] = (),
        partner: StoredPartner | None = None,
        gone: Collection[str] = (),
        void_invitations: bool = False,
    ) -> None:
        """All of it together: keys added or replaced, keys dropped, a partner put, partners removed, open invitations voided."""

    def put_invitation(self, invitation: Invitation, notes: Sequence[Note] = ()) -> None: ...

    def invitation(self, invitation_id: str) -> Invitation | None: ...

    def spend_invitation(
        self, invitation_id: str, partner: StoredPartner, notes: Sequence[Note] = ()
    ) -> bool:
        """Removes the invitation and puts the partner, together. False, and nothing done, if it is not there."""

    def add_dataset(
        self,
        name: str,
        path: str,
        sha256: str,
        options: dict[str, Any],
        profile: dict[str, Any],
        at: datetime,
        notes: Sequence[Note] = (),
    ) -> StoredDataset:
        """Adds the next version of `name`, from 1."""

    def dataset(self, name: str, version: int) -> StoredDataset | None: ...

    def datasets(self, after: tuple[str, int] = ("", 0), limit: int = -1) -> list[StoredDataset]:
        """By name and version, from the one behind `after` on; -1: all."""

    def add_job(self, job: StoredJob, answers: Collection[Answer], notes: Sequence[Note] = ()) -> bool:
        """False, and nothing done, if the id is taken, that run of the digest exists, or it is no later than a removed one."""

    def job(self, job_id: str) -> StoredJob | None: ...

    def jobs(self, limit: int = 50, before: str | None = None) -> list[StoredJob]:
        """Newest first, from the one older than the job `before` on."""

    def jobs_in(self, states: Collection[JobState]) -> list[StoredJob]:
        """Oldest first."""

    def count_jobs(self) -> dict[JobState, int]:
        """How many jobs are in each state that any is in."""

    def runs_of(self, digest: bytes) -> int:
        """The highest run number that this digest has had, also of jobs that were removed; at least that of
        `begin_runs_after`; 0 if there is none."""

    def begin_runs_after(self, number: int) -> None:
        """From now on no run of any digest gets this number or a lower one here. A lower one than before changes nothing."""

    def ended_before(self, at: datetime) -> list[StoredJob]:
        """Jobs that ended before then, oldest first."""

    def remove_job(self, job_id: str, notes: Sequence[Note] = ()) -> bool:
        """With its answers and events. False, and nothing done, unless it has ended. That run can never be added again."""

    def move_job(
        self,
        job_id: str,
        since: Collection[JobState],
        to: JobState,
        at: datetime,
        *,
        error: dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
        answers: Sequence[Answer] = (),
        notes: Sequence[Note] = (),
    ) -> bool:
        """Moves the job on, puts answers of parties, and notes the event `job.state`, together. False, and nothing done,
        unless its state is in `since`."""

    def put_answer(self, job_id: str, answer: Answer, notes: Sequence[Note] = ()) -> None: ...

    def answers(self, job_id: str) -> list[Answer]:
        """By party."""

    def add_event(self, job_id: str, at: datetime, kind: str, party: str, data: dict[str, Any]) -> Event: ...

    def events(self, job_id: str, after: int = 0, limit: int = 500) -> list[Event]: ...

    def add_lines(self, notes: Sequence[Note]) -> None:
        """Writes what goes with no other change."""

    def audit(self, after: int = 0, limit: int = 500, since: datetime | None = None) -> list[AuditLine]:
        """Lines with higher numbers than `after`, oldest first; none before `since`."""

    def last_line(self) -> AuditLine | None: ...

    def put_head(self, kept: KeptHead, notes: Sequence[Note] = ()) -> bool:
        """False, and nothing done, if this head is there. At most HEADS_MAX of one log: the lowest give way."""

    def heads(self) -> list[KeptHead]:
        """In the order in which they came."""

    def claim_key(self, claim: KeptReply, since: datetime) -> KeptReply | None:
        """Forgets keys older than `since`; then None if the key was free and is now claimed, else what stands there."""

    def keep_reply(self, key: str, status: int, body: bytes) -> None:
        """The reply to the request that claimed the key."""

    def free_key(self, key: str) -> None:
        """The request that claimed the key made nothing."""

    def answers_now(self) -> bool:
        """Whether the store can be read."""

    def close(self) -> None: ...
