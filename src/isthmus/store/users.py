"""Who may use a node: users, and the passes (sessions, tokens, one-time codes) that stand for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, get_args

from isthmus.store.audit import Note

UserRole = Literal["admin", "modeller", "approver", "auditor", "operator", "service"]
USER_ROLES: tuple[UserRole, ...] = get_args(UserRole)
PassKind = Literal["session", "token", "once"]
PASS_KINDS: tuple[PassKind, ...] = get_args(PassKind)


@dataclass(frozen=True, slots=True)
class StoredUser:
    """A person. `password` is an Argon2id hash; `second` the sealed secret of the authenticator app, in use once `second_on`;
    `second_step` the last step whose code was used. `version` counts the changes."""

    name: str
    roles: tuple[UserRole, ...]
    added_at: datetime
    password: str | None = field(default=None, repr=False)
    second: bytes | None = field(default=None, repr=False)
    second_on: bool = False
    second_step: int = 0
    version: int = 1


@dataclass(frozen=True, slots=True)
class StoredPass:
    """A secret that stands for a user, or for nobody but itself; only its SHA-256 is kept. `roles`: None for all of the user."""

    id: str
    kind: PassKind
    digest: bytes = field(repr=False)
    user: str | None
    roles: tuple[UserRole, ...] | None
    made_by: str
    made_at: datetime
    expires_at: datetime
    used_at: datetime


@dataclass(frozen=True, slots=True)
class StoredTries:
    """Sign-ins in a row that failed under one name, which is kept as a digest: it need not be anybody's."""

    name: bytes
    count: int
    at: datetime


class UserStore(Protocol):
    """The part of a store that knows people; the rules of `Store` hold."""

    def add_user(self, user: StoredUser, passes: Collection[StoredPass], notes: Sequence[Note] = ()) -> bool:
        """False, and nothing done, if the name is taken."""

    def user(self, name: str) -> StoredUser | None: ...

    def users(self, after: str = "", limit: int = -1) -> list[StoredUser]:
        """By name, from the one behind `after` on; -1: all."""

    def put_user(
        self,
        user: StoredUser,
        *,
        drop: Collection[PassKind] = (),
        passes: Collection[StoredPass] = (),
        notes: Sequence[Note] = (),
    ) -> bool:
        """Replaces the user, drops its passes of these kinds, adds others. False, and nothing done, unless the stored one is
        of the version before."""

    def remove_user(self, name: str, notes: Sequence[Note] = ()) -> bool:
        """Together with its passes. False, and nothing done, if there is none."""

    def add_pass(self, made: StoredPass, notes: Sequence[Note] = ()) -> None: ...

    def pass_of(self, digest: bytes) -> StoredPass | None: ...

    def passes(
        self, kind: PassKind, user: str | None = None, after: str = "", limit: int = -1
    ) -> list[StoredPass]:
        """By id, of one user or of all, from the one behind `after` on; -1: all."""

    def touch_pass(self, pass_id: str, at: datetime) -> None:
        """It was used."""

    def drop_pass(self, pass_id: str, notes: Sequence[Note] = ()) -> bool:
        """False, and nothing done, if there is none."""

    def forget_passes(self, ended: datetime) -> None:
        """Drops those that had expired by then."""

    def tries(self, name: bytes) -> StoredTries | None: ...

    def put_tries(self, tries: StoredTries, forget: datetime) -> None:
        """Forgets all that are older than `forget`."""

    def clear_tries(self, name: bytes) -> None: ...
