"""One contract; memory, SQLite and PostgreSQL."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DatabaseError, IntegrityError

from isthmus.base import files
from isthmus.base.errors import LocalError
from isthmus.crypto.seal import PartyKey
from isthmus.store import memory, records
from isthmus.store.audit import FIRST, AuditCheck, AuditKind, Head, KeptHead, Note
from isthmus.store.memory import MemoryStore
from isthmus.store.records import Answer, Invitation, KeptReply, KnownKey, Store, StoredJob, StoredPartner
from isthmus.store.sql import Server, SqlStore
from isthmus.store.sql.database import MIGRATIONS

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
WORDS = ("babad", "babaf", "babag", "babah")


class Opened:
    """A store, and the means to open it again: the store in memory stays as it is."""

    def __init__(self, make: Callable[[], Store]) -> None:
        self._make = make
        self.store = make()

    def again(self) -> Store:
        if isinstance(self.store, SqlStore):
            self.store.close()
            self.store = self._make()
        return self.store


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    match request.param:
        case "memory":
            opened = Opened(MemoryStore)
        case "sqlite":
            opened = Opened(lambda: SqlStore(tmp_path / "node.db"))
        case _:
            place = request.getfixturevalue("database")
            opened = Opened(lambda: SqlStore(place))
    yield opened
    opened.store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Server:
    """Where an SQL store can be opened."""
    return request.getfixturevalue("database") if request.param == "postgresql" else tmp_path / "node.db"


def partner(name: str = "data-co", confirmed: bool = False) -> StoredPartner:
    return StoredPartner(name, b"k" * 32, "https://data.example:8443", b"der", WORDS, confirmed, NOW)


def job(job_id: str = "j-1", number: int = 1, digest: bytes = b"d" * 32) -> StoredJob:
    return StoredJob(job_id, digest, number, b"{}", "card", "label_owner", "bank", "proposed", None, NOW, NOW)


def test_keys_and_what_goes_with_their_change_are_written_together(opened: Opened) -> None:
    store = opened.store
    store.put_partner(partner(confirmed=True))
    store.put_partner(partner("gone"))
    store.put_invitation(Invitation("i-1", b"s" * 32, LATER))
    offered = KnownKey("data-co", b"n" * 32, "next", NOW, LATER)
    store.change_keys([note()], put=[offered, KnownKey("shop", b"x" * 32, "revoked", LATER, LATER)])
    store = opened.again()
    assert store.known_keys("data-co") == [offered]
    assert [key.party for key in store.known_keys()] == ["data-co", "shop"]
    changed = replace(partner(confirmed=True), public_key=b"n" * 32)
    retired = KnownKey("data-co", b"k" * 32, "retired", LATER, LATER)
    store.change_keys(
        [note(), note()],
        put=[retired],
        drop=[("data-co", b"n" * 32)],
        partner=changed,
        gone=["gone"],
        void_invitations=True,
    )
    store = opened.again()
    assert store.known_keys("data-co") == [retired]
    assert store.partners() == [changed]
    assert store.invitation("i-1") is None
    assert len(store.audit()) == 3


def test_a_partner_is_there_after_the_store_is_opened_again(opened: Opened) -> None:
    opened.store.put_partner(partner())
    opened.store.put_partner(partner(confirmed=True))
    store = opened.again()
    assert store.partner("data-co") == partner(confirmed=True)
    assert store.partners() == [partner(confirmed=True)]
    assert store.partner("other") is None


def test_an_invitation_is_spent_once_and_brings_its_partner(opened: Opened) -> None:
    invitation = Invitation("i-1", b"s" * 32, LATER)
    opened.store.put_invitation(invitation)
    store = opened.again()
    assert store.invitation("i-1") == invitation
    assert store.spend_invitation("i-1", partner())
    assert not store.spend_invitation("i-1", partner("second"))
    assert [p.name for p in opened.again().partners()] == ["data-co"]
    assert opened.store.invitation("i-1") is None
    assert "s" * 8 not in repr(invitation)


def test_versions_of_a_dataset_count_up_by_name(opened: Opened) -> None:
    for name, sha in (("apps", "a"), ("apps", "b"), ("risk", "c")):
        opened.store.add_dataset(name, f"/data/{name}.csv", sha, {"encoding": "utf-8"}, {"rows": 3}, NOW)
    store = opened.again()
    assert [d.title for d in store.datasets()] == ["apps@1", "apps@2", "risk@1"]
    second = store.dataset("apps", 2)
    assert second is not None
    assert (second.sha256, second.options, second.profile) == ("b", {"encoding": "utf-8"}, {"rows": 3})
    assert store.dataset("apps", 3) is None


def test_a_job_is_added_once_and_a_run_of_a_digest_once(opened: Opened) -> None:
    assert opened.store.add_job(job(), [Answer("bank", "accepted", b"s" * 64), Answer("data-co", "asked")])
    assert not opened.store.add_job(job(), [])
    assert not opened.store.add_job(job("j-2"), [])
    assert opened.store.add_job(job("j-1-2", number=2), [])
    store = opened.again()
    assert [j.id for j in store.jobs()] == ["j-1-2", "j-1"]
    assert store.job("j-1") == job()
    assert (store.runs_of(b"d" * 32), store.runs_of(b"e" * 32)) == (2, 0)
    assert [a.party for a in store.answers("j-1")] == ["bank", "data-co"]


def test_a_job_moves_only_from_the_states_that_are_named(opened: Opened) -> None:
    store = opened.store
    store.add_job(job(), [])
    assert not store.move_job("j-1", {"queued"}, "running", LATER)
    assert store.move_job("j-1", {"proposed", "accepted"}, "queued", LATER)
    assert store.move_job("j-1", {"queued"}, "failed", LATER, error={"code": "bug"})
    store = opened.again()
    ended = store.job("j-1")
    assert ended is not None
    assert (ended.state, ended.error, ended.changed_at) == ("failed", {"code": "bug"}, LATER)
    assert [e.data["state"] for e in store.events("j-1")] == ["proposed", "queued", "failed"]
    assert store.jobs_in({"failed"}) == [ended]
    assert not store.move_job("j-9", {"queued"}, "failed", LATER)


def test_an_answer_and_what_it_moves_come_together_or_not_at_all(opened: Opened) -> None:
    store = opened.store
    store.add_job(job(), [Answer("bank", "accepted", b"s" * 64), Answer("data-co", "asked")])
    refused = Answer("data-co", "refused", code="refused")
    assert not store.move_job("j-1", {"queued"}, "refused", LATER, answers=[refused], notes=[note()])
    store = opened.again()
    assert store.answers("j-1") == [Answer("bank", "accepted", b"s" * 64), Answer("data-co", "asked")]
    assert store.audit() == []
    signed = Answer("data-co", "accepted", b"t" * 64)
    assert store.move_job("j-1", {"proposed"}, "accepted", LATER, answers=[signed], notes=[note()])
    store = opened.again()
    assert store.answers("j-1") == [Answer("bank", "accepted", b"s" * 64), signed]
    moved = store.job("j-1")
    assert moved is not None
    assert (moved.state, len(store.audit())) == ("accepted", 1)
    assert not store.move_job(
        "j-1", {"proposed"}, "refused", LATER, answers=[refused]
    )  # the first word counts
    assert opened.again().answers("j-1")[1] == signed


def test_a_commit_that_fails_leaves_neither_the_answer_nor_the_move(
    place: Path | Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlStore(place)
    store.add_job(job(), [Answer("data-co", "asked")])

    def full(point: str) -> None:
        raise LocalError("disk_full", path="node.db")

    with monkeypatch.context() as during:
        during.setattr(files, "committed", full)
        with pytest.raises(LocalError, match="disk_full"):
            store.move_job("j-1", {"proposed"}, "accepted", LATER, answers=[Answer("data-co", "accepted")])
    assert store.answers("j-1") == [Answer("data-co", "asked")]
    assert store.job("j-1") == job()
    store.close()


def test_answers_replace_and_events_are_read_on_from_an_id(opened: Opened) -> None:
    store = opened.store
    store.add_job(job(), [Answer("data-co", "asked")])
    store.put_answer("j-1", Answer("data-co", "refused", code="refused"))
    first = store.add_event("j-1", NOW, "stage.state", "data-co", {"stage": "align"})
    second = store.add_event("j-1", NOW, "stage.state", "data-co", {"stage": "bin"})
    store = opened.again()
    assert store.answers("j-1") == [Answer("data-co", "refused", code="refused")]
    assert store.events("j-1", after=first.id) == [second]
    assert store.events("j-1", limit=1)[0].kind == "job.state"


def test_a_file_that_is_no_store_is_named_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LocalError) as caught:
        SqlStore(path)
    assert caught.value.code == "database_damaged"


@pytest.mark.parametrize("page", range(1, 6))
def test_a_damaged_page_is_found_when_the_store_is_opened(tmp_path: Path, page: int) -> None:
    path = tmp_path / "node.db"
    store = SqlStore(path)
    size = store.connection.exec_driver_sql("PRAGMA page_size").scalar() or 0
    store.close()
    with path.open("r+b") as file:
        file.seek(page * size)
        file.write(b"\xa5" * size)
    with pytest.raises(LocalError) as caught:
        SqlStore(path)
    assert (caught.value.code, caught.value.fields["path"]) == ("database_damaged", str(path))


def test_the_sql_store_syncs_every_commit_and_checks_references(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "node.db")
    pragmas = {
        name: store.connection.exec_driver_sql(f"PRAGMA {name}").scalar()
        for name in ("journal_mode", "synchronous")
    }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}
    with pytest.raises(IntegrityError):
        store.add_event("j-none", NOW, "log", "", {})
    store.put_partner(partner())
    store.close()


KEY = PartyKey.generate()


def note(kind: AuditKind = AuditKind.JOB_STARTED, at: datetime = NOW) -> Note:
    return Note("bank", KEY, at, "bank", kind, "j-1")


def kept(number: int, digest: bytes = b"h" * 32, whose: Literal["own", "partner"] = "partner") -> KeptHead:
    return KeptHead("data-co", whose, Head(number, digest, b"s" * 64), NOW)


def kinds(store: Store) -> list[str]:
    return [line.kind for line in store.audit()]


def test_lines_of_the_audit_log_are_numbered_chained_and_there_again(opened: Opened) -> None:
    opened.store.add_lines([note(), note(AuditKind.JOB_DONE, LATER)])
    store = opened.again()
    store.put_partner(partner(), [note(AuditKind.PARTNER_JOINED, LATER)])
    first, second, third = store.audit()
    assert [first.number, second.number, third.number] == [1, 2, 3]
    assert (first.before, second.before) == (FIRST, first.own_digest().hex())
    assert third == store.last_line()
    assert store.audit(after=1, limit=1) == [second]
    assert store.audit(since=LATER) == [second, third]
    check = AuditCheck("bank", KEY.public)
    for line in store.audit():
        check.take(line)
    assert (check.lines, check.findings) == (3, [])


def test_every_change_takes_its_line_along_and_no_change_writes_none(opened: Opened) -> None:
    store = opened.store
    assert store.last_line() is None
    store.put_invitation(Invitation("i-1", b"s" * 32, LATER), [note(AuditKind.PARTNER_INVITED)])
    assert store.spend_invitation("i-1", partner(), [note(AuditKind.PARTNER_JOINED)])
    assert not store.spend_invitation("i-1", partner(), [note(AuditKind.PARTNER_JOINED)])
    store.put_partner(partner(confirmed=True), [note(AuditKind.PARTNER_CONFIRMED)])
    store.add_dataset("apps", "/data/apps.csv", "a", {}, {"rows": 3}, NOW, [note(AuditKind.DATASET_ADDED)])
    assert store.add_job(job(), [], [note(AuditKind.JOB_PROPOSED), note(AuditKind.CONSENT_SIGNED)])
    assert not store.add_job(job(), [], [note(AuditKind.JOB_PROPOSED)])
    store.put_answer("j-1", Answer("data-co", "accepted"), [note(AuditKind.JOB_ACCEPTED)])
    assert not store.move_job("j-1", {"queued"}, "running", NOW, notes=[note(AuditKind.JOB_STARTED)])
    assert store.move_job("j-1", {"proposed"}, "refused", NOW, notes=[note(AuditKind.JOB_REFUSED)])
    assert store.put_head(kept(1), [note(AuditKind.HEAD_DIFFERS)])
    assert not store.put_head(kept(1), [note(AuditKind.HEAD_DIFFERS)])
    assert kinds(opened.again()) == [
        "partner.invited", "partner.joined", "partner.confirmed", "dataset.added", "job.proposed",
        "consent.signed", "job.accepted", "job.refused", "head.differs",
    ]  # fmt: skip


def test_heads_are_kept_in_the_order_in_which_they_came(opened: Opened) -> None:
    for head in (kept(7), kept(9), kept(7, b"i" * 32), kept(8, whose="own")):
        assert opened.store.put_head(head)
    assert opened.again().heads() == [kept(7), kept(9), kept(7, b"i" * 32), kept(8, whose="own")]


def test_the_lowest_of_too_many_heads_give_way(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, records):
        monkeypatch.setattr(module, "HEADS_MAX", 3)
    for number in (1, 2, 5, 3, 4):
        opened.store.put_head(kept(number))
    opened.store.put_head(kept(1, whose="own"))
    assert [(k.whose, k.head.number) for k in opened.store.heads()] == [
        ("partner", 5), ("partner", 3), ("partner", 4), ("own", 1)
    ]  # fmt: skip


def test_a_change_that_fails_leaves_no_line(place: Path | Server) -> None:
    store = SqlStore(place)
    with pytest.raises(IntegrityError):
        store.put_answer("j-none", Answer("data-co", "accepted"), [note()])
    with pytest.raises(IntegrityError):
        store.add_event("j-none", NOW, "log", "", {})
    assert store.audit() == []
    store.put_partner(partner())
    store.close()


@pytest.mark.parametrize("statement", ["DELETE FROM audit", "UPDATE audit SET code = 'bug'"])
def test_the_database_itself_refuses_to_touch_a_line(place: Path | Server, statement: str) -> None:
    store = SqlStore(place)
    store.add_lines([note()])
    with pytest.raises(DatabaseError, match="only added to"):
        store.connection.exec_driver_sql(statement)
    assert kinds(store) == ["job.started"]
    store.close()


OLD = Path(__file__).parent / "old" / "form-3.db"
OLD_KEY = PartyKey.from_bytes(bytes(range(32)))


def old_database(tmp_path: Path, form: int) -> Path:
    """A database of the time before migrations, and of its earlier forms."""
    path = tmp_path / "node.db"
    shutil.copy(OLD, path)
    with closing(sqlite3.connect(path)) as old, old:
        for table in ("kept_reply", "head", "audit")[: (0, 3, 1, 0)[form]]:
            old.execute(f"DROP TABLE {table}")
        old.execute(f"PRAGMA user_version = {form}")
    return path


@pytest.mark.parametrize("form", [1, 2, 3])
def test_a_database_of_the_time_before_migrations_is_taken_over_whole(tmp_path: Path, form: int) -> None:
    path = old_database(tmp_path, form)
    SqlStore(path).close()
    store = SqlStore(path)
    assert store.partners() == [partner(confirmed=True)]
    assert store.invitation("i-1") is None
    assert store.invitation("i-2") == Invitation("i-2", b"t" * 32, NOW)
    (dataset,) = store.datasets()
    assert (dataset.title, dataset.sha256, dataset.profile) == ("apps@1", "ab" * 32, {"rows": 3})
    (found,) = store.jobs()
    assert (found.state, found.error) == ("failed", {"code": "bug", "sentence": "信用"})
    assert store.answers("j-1") == [Answer("bank", "accepted", b"s" * 64), Answer("data-co", "asked")]
    assert [e.kind for e in store.events("j-1")] == ["job.state", "job.state", "stage.state"]
    assert [head.head.number for head in store.heads()] == ([] if form == 1 else [7, 9, 8])
    assert len(store.audit()) == (0 if form == 1 else 5)
    reply = KeptReply("k1", b"d" * 32, NOW, 200, b"{}")
    assert store.claim_key(KeptReply("k1", b"e" * 32, NOW), NOW) == (reply if form == 3 else None)
    store.add_lines([Note("bank", OLD_KEY, LATER, "bank", AuditKind.NODE_STARTED)])
    assert store.add_event("j-1", LATER, "log", "", {}).id == 4
    check = AuditCheck("bank", OLD_KEY.public)
    for line in store.audit():
        check.take(line)
    assert (check.lines, check.findings) == (1 if form == 1 else 6, [])
    with pytest.raises(IntegrityError):
        store.connection.exec_driver_sql("DELETE FROM audit")
    store.close()


def test_no_revision_bears_a_word_of_alembic_and_each_stands_on_another() -> None:
    script = ScriptDirectory(str(MIGRATIONS))
    revisions = {found.revision: found.down_revision for found in script.walk_revisions()}
    assert not set(revisions) & {"head", "heads", "base", "current"}
    assert [name for name, down in revisions.items() if down is None] == ["partners"]
    versions = {path.name for path in (MIGRATIONS / "versions").glob("*.py")} - {"__init__.py"}
    assert len(revisions) == len(versions)


def test_a_program_of_the_time_before_migrations_refuses_the_database(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "node.db")
    assert store.connection.exec_driver_sql("PRAGMA user_version").scalar() == 4
    store.close()


@pytest.mark.parametrize(
    "change", ["PRAGMA user_version = 5", "INSERT INTO alembic_version VALUES ('later')"]
)
def test_a_database_of_a_later_version_is_left_alone(tmp_path: Path, change: str) -> None:
    path = tmp_path / "node.db"
    SqlStore(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as later:
        later.execute(change)
    before = path.read_bytes()
    with pytest.raises(LocalError) as caught:
        SqlStore(path)
    assert caught.value.code == "database_newer"
    assert path.read_bytes() == before


def test_a_last_line_with_an_impossible_number_stops_the_log(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "node.db")
    store.connection.exec_driver_sql(
        f"INSERT INTO audit VALUES ({2**62}, '', '', '', '', '', '', '', '', '')"
    )
    with pytest.raises(LocalError) as caught:
        store.add_lines([note()])
    assert caught.value.code == "database_damaged"
    store.close()


def test_a_key_is_claimed_once_and_forgotten_when_it_is_old(opened: Opened) -> None:
    store = opened.store
    claim = KeptReply("k1", b"d" * 32, NOW)
    assert store.claim_key(claim, NOW) is None
    assert store.claim_key(KeptReply("k1", b"e" * 32, LATER), NOW) == claim
    store.keep_reply("k1", 200, b"{}")
    store.claim_key(KeptReply("k2", b"d" * 32, LATER), NOW)
    store.free_key("k2")
    store = opened.again()
    assert store.claim_key(claim, NOW) == KeptReply("k1", b"d" * 32, NOW, 200, b"{}")
    assert store.claim_key(KeptReply("k2", b"f" * 32, LATER), NOW) is None
    assert store.claim_key(KeptReply("k1", b"f" * 32, LATER), LATER) is None


def test_lists_are_read_on_from_an_item(opened: Opened) -> None:
    store = opened.store
    for number in range(4):
        store.add_job(job(f"j-{number}", number=number + 1), [])
        store.put_partner(partner(f"p{number}"))
        store.add_dataset("a" if number < 2 else "b", "/t.csv", "s", {}, {}, NOW)
    store = opened.again()
    assert [j.id for j in store.jobs(2, before="j-3")] == ["j-2", "j-1"]
    assert store.jobs(2, before="j-0") == store.jobs(2, before="none") == []
    assert [p.name for p in store.partners("p1", 1)] == ["p2"]
    assert [d.title for d in store.datasets(("a", 1), 2)] == ["a@2", "b@1"]
    assert (len(store.partners()), len(store.datasets())) == (4, 4)


def test_names_are_in_the_order_of_their_bytes(opened: Opened) -> None:
    for name in ("b", "B", "a", "a-b", "ab", "a_b"):
        opened.store.add_dataset(name, "/t.csv", "s", {}, {}, NOW)
    assert [d.name for d in opened.store.datasets()] == ["B", "a", "a-b", "a_b", "ab", "b"]
    assert [d.name for d in opened.store.datasets(("a-b", 1))] == ["a_b", "ab", "b"]


def test_jobs_are_counted_by_state(opened: Opened) -> None:
    store = opened.store
    assert (store.count_jobs(), store.answers_now()) == ({}, True)
    for number in range(3):
        store.add_job(job(f"j-{number}", number=number + 1), [])
    store.move_job("j-1", {"proposed"}, "queued", LATER)
    assert opened.again().count_jobs() == {"proposed": 2, "queued": 1}


def test_an_ended_job_is_removed_whole_and_its_run_never_comes_back(opened: Opened) -> None:
    store = opened.store
    for number in (1, 2):
        store.add_job(job(f"j-{number}", number=number), [Answer("data-co", "asked")])
    assert not store.remove_job("j-1", [note()])
    assert not store.remove_job("j-none", [note()])
    store.move_job("j-1", {"proposed"}, "failed", NOW)
    store.move_job("j-2", {"proposed"}, "done", LATER)
    last = store.add_event("j-2", LATER, "log", "", {})
    assert [j.id for j in store.ended_before(LATER)] == ["j-1"]
    assert store.remove_job("j-2", [note(AuditKind.JOB_REMOVED)])
    store = opened.again()
    assert (store.job("j-2"), store.answers("j-2"), store.events("j-2")) == (None, [], [])
    assert [j.id for j in store.jobs()] == ["j-1"]
    assert len(store.events("j-1")) == 2
    assert kinds(store) == ["job.removed"]
    assert store.runs_of(b"d" * 32) == 2
    assert not store.add_job(job("j-2", number=2), [], [note()])
    assert not store.add_job(job("j-0", number=0), [])
    assert store.add_job(job("j-3", number=3), [])
    assert store.add_event("j-3", LATER, "log", "", {}).id > last.id
    assert kinds(store) == ["job.removed"]


def test_runs_begin_after_a_number_once_it_is_set(opened: Opened) -> None:
    store = opened.store
    store.begin_runs_after(7000)
    store.begin_runs_after(6000)
    store = opened.again()
    assert store.runs_of(b"e" * 32) == 7000
    assert store.add_job(job("j-1", number=1), [])
    assert store.add_job(job("j-2", number=7001), [])
    assert store.runs_of(b"d" * 32) == 7001


def test_a_closed_sql_store_does_not_answer(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "node.db")
    store.close()
    assert not store.answers_now()


def test_a_full_disk_is_named_and_undone_and_the_store_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "node.db")
    pages = store.connection.exec_driver_sql("PRAGMA page_count").scalar()
    store.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LocalError) as caught:
        store.add_dataset("apps", "/data/apps.csv", "a", {"text": "x" * 200_000}, {}, NOW, [note()])
    assert (caught.value.code, caught.value.fields["path"]) == ("disk_full", str(tmp_path / "node.db"))
    assert (store.datasets(), store.audit()) == ([], [])
    store.connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    assert (
        store.add_dataset("apps", "/data/apps.csv", "a", {"text": "x" * 200_000}, {}, NOW, [note()]).version
        == 1
    )
    store.close()


LIMITED = """
import resource, sys
from pathlib import Path
from isthmus.base.errors import LocalError
from isthmus.store.records import Invitation
from isthmus.store.sql import Server, SqlStore
from isthmus.store.sql.database import MIGRATIONS
from tests.store.test_store import LATER, note

store = SqlStore(Path(sys.argv[1]))
size = Path(sys.argv[1] + "-wal").stat().st_size
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, hard))
try:
    store.put_invitation(Invitation("big", b"s" * 50000, LATER), [note()])
except LocalError as error:
    print(error.code)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
assert (store.invitation("big"), store.audit()) == (None, [])
store.put_invitation(Invitation("again", b"s" * 50000, LATER), [note()])
store.close()
"""


def test_a_write_that_the_system_refuses_is_named_and_undone_and_the_store_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    done = subprocess.run([sys.executable, "-c", LIMITED, path], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("disk_error\n", 0), done.stderr
    store = SqlStore(path)
    assert store.invitation("again") is not None
    assert kinds(store) == ["job.started"]
    store.close()


def test_every_commit_of_the_store_passes_the_place_where_a_crash_can_be_staged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlStore(tmp_path / "node.db")
    passed: list[tuple[str, int]] = []

    def committed(what: str) -> None:
        with closing(sqlite3.connect(tmp_path / "node.db")) as other:
            passed.append((what, other.execute("SELECT count(*) FROM partner").fetchone()[0]))

    monkeypatch.setattr(files, "committed", committed)
    store.put_partner(partner())
    assert passed == [("before store", 0), ("after store", 1)]
    store.close()
