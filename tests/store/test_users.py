"""People in a store: one contract; memory, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.postgres import PASSWORD, PostgresServer, postgres_server

from isthmus.crypto.seal import PartyKey
from isthmus.store.audit import AuditKind, Note
from isthmus.store.memory import MemoryStore
from isthmus.store.records import Store
from isthmus.store.sql import Server, SqlStore
from isthmus.store.users import PassKind, StoredPass, StoredTries, StoredUser, UserRole

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
NOTE = Note("bank", PartyKey.generate(), NOW, "bank/ann", AuditKind.USER_ADDED, "ann")
ANN = StoredUser("ann", ("admin", "modeller"), NOW, "$argon2id$", b"sealed", True, 7)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    match request.param:
        case "memory":
            made: Store = MemoryStore()
        case "sqlite":
            made = SqlStore(tmp_path / "node.db")
        case _:
            running: PostgresServer = request.getfixturevalue("server")
            made = SqlStore(Server(running.url(running.make_database()), PASSWORD))
    yield made
    made.close()


def a_pass(pass_id: str, kind: PassKind = "session", user: str | None = "ann") -> StoredPass:
    roles: tuple[UserRole, ...] | None = ("service",) if user is None else None
    return StoredPass(pass_id, kind, pass_id.encode() * 8, user, roles, "bank/ann", NOW, LATER, NOW)


def test_a_user_is_added_once_with_its_passes_and_its_line(store: Store) -> None:
    once = a_pass("o1", "once")
    assert store.add_user(ANN, [once], [NOTE])
    assert not store.add_user(StoredUser("ann", (), LATER), [a_pass("o2", "once")], [NOTE])
    assert store.user("ann") == ANN
    assert store.user("bob") is None
    assert store.passes("once") == [once]
    assert [line.object for line in store.audit()] == ["ann"]


def test_of_two_changes_to_one_version_of_a_user_one_is_done(store: Store) -> None:
    store.add_user(ANN, [a_pass("s1"), a_pass("t1", "token")])
    changed = StoredUser("ann", ("auditor",), NOW, None, None, version=2)
    assert store.put_user(changed, drop=["session", "once"], passes=[a_pass("s2")], notes=[NOTE])
    assert not store.put_user(changed, drop=["token"], passes=[a_pass("s3")], notes=[NOTE])
    assert store.user("ann") == changed
    assert [p.id for kind in ("session", "token", "once") for p in store.passes(kind)] == ["s2", "t1"]
    assert len(store.audit()) == 1


def test_a_user_goes_with_all_that_stands_for_it(store: Store) -> None:
    store.add_user(ANN, [a_pass("s1"), a_pass("t1", "token"), a_pass("o1", "once")])
    store.add_pass(a_pass("t2", "token", None), [NOTE])
    assert store.remove_user("ann", [NOTE])
    assert not store.remove_user("ann", [NOTE])
    assert store.pass_of(b"s1" * 8) is None
    assert store.passes("token") == [a_pass("t2", "token", None)]
    assert len(store.audit()) == 2


def test_users_and_passes_come_in_order_and_in_pages(store: Store) -> None:
    for name in ("cy", "ann", "bob"):
        store.add_user(StoredUser(name, ("modeller",), NOW), [a_pass(f"t-{name}", "token", name)])
    assert [u.name for u in store.users()] == ["ann", "bob", "cy"]
    assert [u.name for u in store.users("ann", 1)] == ["bob"]
    assert [p.id for p in store.passes("token", after="t-ann", limit=1)] == ["t-bob"]
    assert [p.id for p in store.passes("token", "cy")] == ["t-cy"]


def test_a_pass_is_touched_dropped_and_forgotten(store: Store) -> None:
    store.add_user(ANN, [a_pass("s1"), a_pass("s2")])
    store.touch_pass("s1", LATER)
    found = store.pass_of(b"s1" * 8)
    assert found is not None
    assert found.used_at == LATER
    assert store.drop_pass("s1", [NOTE])
    assert not store.drop_pass("s1", [NOTE])
    assert len(store.audit()) == 1
    store.forget_passes(LATER - timedelta(seconds=1))
    assert [p.id for p in store.passes("session")] == ["s2"]
    store.forget_passes(LATER)
    assert store.passes("session") == []


def test_tries_are_counted_by_name_and_old_ones_forgotten(store: Store) -> None:
    store.put_tries(StoredTries(b"a", 1, NOW), NOW)
    store.put_tries(StoredTries(b"a", 2, NOW), NOW)
    store.put_tries(StoredTries(b"b", 5, LATER), NOW)
    assert store.tries(b"a") == StoredTries(b"a", 2, NOW)
    store.put_tries(StoredTries(b"c", 1, LATER), LATER)
    assert store.tries(b"a") is None
    store.clear_tries(b"b")
    assert store.tries(b"b") is None


def test_no_session_and_no_token_goes_into_a_backup(store: Store) -> None:
    assert isinstance(store, MemoryStore) or "person_pass" in store.one_time_tables()  # type: ignore[attr-defined]


def test_what_is_secret_about_people_is_in_no_repr() -> None:
    shown = repr(ANN) + repr(a_pass("s1"))
    for secret in ("argon2id", "sealed", "s1s1"):
        assert secret not in shown
