"""People, the passes that stand for them, and sign-ins that failed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Row, delete, select, update

from isthmus.store.audit import Note
from isthmus.store.sql.lines import Lines
from isthmus.store.sql.tables import BYTES, NUMBER, TEXT, noun
from isthmus.store.users import PassKind, StoredPass, StoredTries, StoredUser, UserRole

PERSON = noun(
    "person",
    name=TEXT,
    roles=TEXT,
    added_at=TEXT,
    password=TEXT,
    second=BYTES,
    second_on=NUMBER,
    second_step=NUMBER,
    version=NUMBER,
)
PASS = noun(
    "person_pass",
    id=TEXT,
    kind=TEXT,
    digest=BYTES,
    person=TEXT,
    roles=TEXT,
    made_by=TEXT,
    made_at=TEXT,
    expires_at=TEXT,
    used_at=TEXT,
)
TRIES = noun("sign_in_tries", name=BYTES, count=NUMBER, at=TEXT)


class Users(Lines):
    one_time = ("person_pass",)

    def add_user(self, user: StoredUser, passes: Collection[StoredPass], notes: Sequence[Note] = ()) -> bool:
        with self._write():
            row = self._insert(PERSON).values(name=user.name, **_fields(user))
            added = self._count(row.on_conflict_do_nothing()) == 1
            if added:
                self._add_passes(passes)
                self._add_lines(notes)
        return added

    def user(self, name: str) -> StoredUser | None:
        row = self._first(select(PERSON).where(PERSON.c.name == name))
        return _user(row) if row else None

    def users(self, after: str = "", limit: int = -1) -> list[StoredUser]:
        found = select(PERSON).where(PERSON.c.name > after).order_by(PERSON.c.name)
        return [_user(row) for row in self._all(found.limit(limit if limit >= 0 else None))]

    def put_user(
        self,
        user: StoredUser,
        *,
        drop: Collection[PassKind] = (),
        passes: Collection[StoredPass] = (),
        notes: Sequence[Note] = (),
    ) -> bool:
        same = (PERSON.c.name == user.name) & (PERSON.c.version == user.version - 1)
        with self._write():
            put = self._count(update(PERSON).where(same).values(_fields(user))) == 1
            if put:
                self._execute(delete(PASS).where(PASS.c.person == user.name, PASS.c.kind.in_(drop)))
                self._add_passes(passes)
                self._add_lines(notes)
        return put

    def remove_user(self, name: str, notes: Sequence[Note] = ()) -> bool:
        with self._write():
            self._execute(delete(PASS).where(PASS.c.person == name))
            removed = self._count(delete(PERSON).where(PERSON.c.name == name)) == 1
            if removed:
                self._add_lines(notes)
        return removed

    def add_pass(self, made: StoredPass, notes: Sequence[Note] = ()) -> None:
        with self._write():
            self._add_passes([made])
            self._add_lines(notes)

    def _add_passes(self, passes: Collection[StoredPass]) -> None:
        for made in passes:
            self._execute(
                self._insert(PASS).values(
                    id=made.id,
                    kind=made.kind,
                    digest=made.digest,
                    person=made.user,
                    roles=None if made.roles is None else " ".join(made.roles),
                    made_by=made.made_by,
                    made_at=made.made_at.isoformat(),
                    expires_at=made.expires_at.isoformat(),
                    used_at=made.used_at.isoformat(),
                )
            )

    def pass_of(self, digest: bytes) -> StoredPass | None:
        row = self._first(select(PASS).where(PASS.c.digest == digest))
        return _pass(row) if row else None

    def passes(
        self, kind: PassKind, user: str | None = None, after: str = "", limit: int = -1
    ) -> list[StoredPass]:
        found = select(PASS).where(PASS.c.kind == kind, PASS.c.id > after).order_by(PASS.c.id)
        if user is not None:
            found = found.where(PASS.c.person == user)
        return [_pass(row) for row in self._all(found.limit(limit if limit >= 0 else None))]

    def touch_pass(self, pass_id: str, at: datetime) -> None:
        with self._write():
            self._execute(update(PASS).where(PASS.c.id == pass_id).values(used_at=at.isoformat()))

    def drop_pass(self, pass_id: str, notes: Sequence[Note] = ()) -> bool:
        with self._write():
            dropped = self._count(delete(PASS).where(PASS.c.id == pass_id)) == 1
            if dropped:
                self._add_lines(notes)
        return dropped

    def forget_passes(self, ended: datetime) -> None:
        with self._write():
            self._execute(delete(PASS).where(PASS.c.expires_at <= ended.isoformat()))

    def tries(self, name: bytes) -> StoredTries | None:
        row = self._first(select(TRIES).where(TRIES.c.name == name))
        if row is None:
            return None
        digest, count, at = tuple(row)
        return StoredTries(digest, count, datetime.fromisoformat(at))

    def put_tries(self, tries: StoredTries, forget: datetime) -> None:
        fields = {"count": tries.count, "at": tries.at.isoformat()}
        put = self._insert(TRIES).values(name=tries.name, **fields)
        with self._write():
            self._execute(delete(TRIES).where(TRIES.c.at < forget.isoformat()))
            self._execute(put.on_conflict_do_update(index_elements=["name"], set_=fields))

    def clear_tries(self, name: bytes) -> None:
        with self._write():
            self._execute(delete(TRIES).where(TRIES.c.name == name))


def _fields(user: StoredUser) -> dict[str, Any]:
    return {
        "roles": " ".join(user.roles),
        "added_at": user.added_at.isoformat(),
        "password": user.password,
        "second": user.second,
        "second_on": int(user.second_on),
        "second_step": user.second_step,
        "version": user.version,
    }


def _user(row: Row[Any]) -> StoredUser:
    return StoredUser(
        name=row.name,
        roles=_roles(row.roles),
        added_at=datetime.fromisoformat(row.added_at),
        password=row.password,
        second=row.second,
        second_on=bool(row.second_on),
        second_step=row.second_step,
        version=row.version,
    )


def _pass(row: Row[Any]) -> StoredPass:
    return StoredPass(
        id=row.id,
        kind=row.kind,
        digest=row.digest,
        user=row.person,
        roles=None if row.roles is None else _roles(row.roles),
        made_by=row.made_by,
        made_at=datetime.fromisoformat(row.made_at),
        expires_at=datetime.fromisoformat(row.expires_at),
        used_at=datetime.fromisoformat(row.used_at),
    )


def _roles(text: str) -> tuple[UserRole, ...]:
    return cast("tuple[UserRole, ...]", tuple(text.split()))
