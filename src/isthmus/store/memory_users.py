"""The people of a store in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from isthmus.store.audit import Note
from isthmus.store.users import PassKind, StoredPass, StoredTries, StoredUser


class MemoryUsers:
    """In plain maps."""

    def __init__(self) -> None:
        self._users: dict[str, StoredUser] = {}
        self._passes: dict[str, StoredPass] = {}
        self._tries: dict[bytes, StoredTries] = {}

    def add_lines(self, notes: Sequence[Note]) -> None:
        raise NotImplementedError

    def add_user(self, user: StoredUser, passes: Collection[StoredPass], notes: Sequence[Note] = ()) -> bool:
        if user.name in self._users:
            return False
        self._users[user.name] = user
        self._passes |= {made.id: made for made in passes}
        self.add_lines(notes)
        return True

    def user(self, name: str) -> StoredUser | None:
        return self._users.get(name)

    def users(self, after: str = "", limit: int = -1) -> list[StoredUser]:
        found = [self._users[name] for name in sorted(self._users) if name > after]
        return found if limit < 0 else found[:limit]

    def put_user(
        self,
        user: StoredUser,
        *,
        drop: Collection[PassKind] = (),
        passes: Collection[StoredPass] = (),
        notes: Sequence[Note] = (),
    ) -> bool:
        stored = self._users.get(user.name)
        if stored is None or stored.version != user.version - 1:
            return False
        self._users[user.name] = user
        self._passes = {i: p for i, p in self._passes.items() if p.user != user.name or p.kind not in drop}
        self._passes |= {made.id: made for made in passes}
        self.add_lines(notes)
        return True

    def remove_user(self, name: str, notes: Sequence[Note] = ()) -> bool:
        if self._users.pop(name, None) is None:
            return False
        self._passes = {i: p for i, p in self._passes.items() if p.user != name}
        self.add_lines(notes)
        return True

    def add_pass(self, made: StoredPass, notes: Sequence[Note] = ()) -> None:
        self._passes[made.id] = made
        self.add_lines(notes)

    def pass_of(self, digest: bytes) -> StoredPass | None:
        return next((p for p in self._passes.values() if p.digest == digest), None)

    def passes(
        self, kind: PassKind, user: str | None = None, after: str = "", limit: int = -1
    ) -> list[StoredPass]:
        ids = sorted(
            i for i, p in self._passes.items() if p.kind == kind and user in (None, p.user) and i > after
        )
        return [self._passes[i] for i in (ids if limit < 0 else ids[:limit])]

    def touch_pass(self, pass_id: str, at: datetime) -> None:
        if pass_id in self._passes:
            self._passes[pass_id] = replace(self._passes[pass_id], used_at=at)

    def drop_pass(self, pass_id: str, notes: Sequence[Note] = ()) -> bool:
        if self._passes.pop(pass_id, None) is None:
            return False
        self.add_lines(notes)
        return True

    def forget_passes(self, ended: datetime) -> None:
        self._passes = {i: p for i, p in self._passes.items() if p.expires_at > ended}

    def tries(self, name: bytes) -> StoredTries | None:
        return self._tries.get(name)

    def put_tries(self, tries: StoredTries, forget: datetime) -> None:
        self._tries = {n: t for n, t in self._tries.items() if t.at >= forget}
        self._tries[tries.name] = tries

    def clear_tries(self, name: bytes) -> None:
        self._tries.pop(name, None)
