"""What nodes write down, and the heads that they keep of each other's logs. (T25, C7)"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from isthmus.base.clock import SystemClock
from isthmus.base.errors import PeerError, PolicyError
from isthmus.crypto.seal import PartyKey
from isthmus.jobs.consent import run_digest
from isthmus.jobs.control import Ended, HeadKept, HeadTold
from isthmus.service import jobs
from isthmus.service.audit import HEAD_EVERY, Audit
from isthmus.service.courses import Leading
from isthmus.store.audit import AuditCheck, AuditKind, AuditLine, Finding
from isthmus.store.records import Store
from isthmus.store.sql import SqlStore
from isthmus.wire.link import CONTROL
from tests.service import parties
from tests.service.parties import Party, settled


class World(parties.World):
    """On the engine that needs no kernels."""

    def text(self, name: str = "card", **sections: object) -> bytes:
        return super().text(name, **({"crypto": {"engine": "paillier"}} | sections))


def findings(name: str, key: PartyKey, store: Store, partner: str, partner_key: PartyKey) -> list[Finding]:
    check = AuditCheck(name, key.public)
    for line in store.audit():
        check.take(line)
    check.compare(store.heads(), {partner: partner_key.public})
    return check.findings


def of_job(party: Party, job_id: str) -> list[tuple[str, str, str]]:
    lines = [line for line in party.store.audit() if line.object == job_id]
    assert {line.digest for line in lines} == {party.jobs.find(job_id).digest.hex()}
    return [(line.kind, line.actor, line.code) for line in lines]


def newest(party: Party, whose: str) -> int:
    return max((kept.head.number for kept in party.store.heads() if kept.whose == whose), default=0)


def last(party: Party) -> AuditLine:
    line = party.store.last_line()
    assert line is not None
    return line


def test_a_job_leaves_its_lines_and_its_heads_at_both_sides(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            bank, (partner,) = world.bank, world.partners
            job_id = await world.propose()
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            await settled()
            assert of_job(bank, job_id) == [
                ("job.proposed", "bank/local", ""), ("consent.signed", "bank/local", ""),
                ("job.accepted", "data-co", ""), ("job.started", "bank", ""), ("job.done", "bank", ""),
            ]  # fmt: skip
            assert of_job(partner, job_id) == [
                ("job.proposed", "bank", ""), ("job.accepted", "data-co/local", ""),
                ("consent.signed", "data-co/local", ""), ("job.started", "data-co", ""),
                ("job.done", "data-co", ""),
            ]  # fmt: skip
            assert newest(bank, "own") == newest(partner, "partner") == last(bank).number
            assert newest(partner, "own") == newest(bank, "partner") == last(partner).number
            for one, other in ((bank, partner), (partner, bank)):
                assert findings(one.name, one.key, one.store, other.name, other.key) == []

    asyncio.run(play())


def test_refusals_failures_and_broken_rules_are_on_record(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            bank, (partner,) = world.bank, world.partners
            refused = await world.propose("first")
            partner.jobs.refuse(refused)
            await world.ended(refused)
            assert of_job(bank, refused)[-1] == ("job.refused", "data-co", "refused")
            assert of_job(partner, refused)[-1] == ("job.refused", "data-co/local", "refused")
            failed = await world.propose("second")
            job = bank.jobs.find(failed)
            bank.store.move_job(failed, {"proposed"}, "running", job.created_at)
            course = Leading(bank.jobs._here, job)
            course.fail(PolicyError("vectors", partner="data-co", allowed=3))
            await world.ended(failed)
            assert of_job(bank, failed)[-2:] == [
                ("rule.broken", "data-co", "vectors"), ("job.failed", "bank", "vectors")
            ]  # fmt: skip
            assert of_job(partner, failed)[-1] == ("job.failed", "bank", "vectors")
            late = await world.propose(
                "third",
                metadata={"name": "third", "purpose": "Rank applicants by risk", "valid_until": "2098-01-01"},
            )
            partner.jobs._clock = Later()
            with pytest.raises(PolicyError):
                await partner.jobs.accept(late)
            assert of_job(partner, late)[-1] == ("rule.broken", "data-co/local", "expired")

    asyncio.run(play())


class Later(SystemClock):
    """A thousand years on."""

    def now(self):  # type: ignore[no-untyped-def]
        return super().now().replace(year=3026)


def test_no_id_column_value_or_secret_is_in_a_log_and_a_partner_cannot_put_one_there(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            bank, (partner,) = world.bank, world.partners
            for party in (bank, partner):
                file = party.data / "canary.csv"
                rows = [f"canary-id-{i},{i * 7 % 11}.4242,{i % 2}" for i in range(40)]
                file.write_text("\n".join(["canary-key,canary-column,bad", *rows]) + "\n")
                await party.datasets.add("own", str(file), key="canary-key")
            job_id = await world.propose()
            run = run_of(partner, job_id)
            for body in (Ended(run, "canary-code").encode(), b"\xffcanary-bytes", b"\xffcanary-bytes"):
                await bank.lines[partner.name, CONTROL].put(body)
            await settled()
            for party in (bank, partner):
                text = "\n".join(line.to_json() for line in party.store.audit())
                assert "dataset.added" in text
                secret = party.key.to_bytes().hex()
                assert not [c for c in ("canary", "4242", secret, str(party.data), "Rank") if c in text]
            seen = [(line.kind, line.actor, line.code) for line in partner.store.audit()]
            assert ("job.failed", "bank", "bad_message") in seen
            assert seen.count(("rule.broken", "bank", "bad_message")) == 1

    asyncio.run(play())


def run_of(party: Party, job_id: str) -> bytes:
    job = party.jobs.find(job_id)
    return run_digest(job.digest, job.number)


class Books:
    """The audit log of one party on disk."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.key = PartyKey.generate()
        self.path = folder / f"{name}.db"
        self.open()

    def open(self) -> None:
        self.store = SqlStore(self.path)
        self.audit = Audit(self.name, self.key, self.store, SystemClock())

    def write(self, lines: int) -> None:
        for _ in range(lines):
            self.audit.write(AuditKind.JOB_DONE, "j-1")

    def told(self, partner: Books) -> HeadTold:
        head = self.audit.head(partner.name)
        assert head is not None
        return head

    def tell(self, partner: Books) -> list[HeadKept]:
        """Tells the head and takes the answer."""
        kept = partner.audit.on_told(self.name, self.key.public, self.told(partner))
        for head in kept:
            self.audit.on_kept(partner.name, head)
        return kept

    def findings(self, partner: Books) -> list[Finding]:
        return findings(self.name, self.key, self.store, partner.name, partner.key)


@pytest.fixture
def books(tmp_path: Path) -> tuple[Books, Books]:
    bank, partner = Books("bank", tmp_path), Books("data-co", tmp_path)
    bank.write(4)
    bank.tell(partner)
    partner.write(2)
    partner.tell(bank)
    return bank, partner


def kinds(books: Books) -> list[tuple[str, str, str]]:
    lines = [line for line in books.store.audit() if line.kind == "head.differs"]
    return [(line.object, line.actor, line.code) for line in lines]


def test_a_restored_older_database_is_found_through_the_partners_head(books: tuple[Books, Books]) -> None:
    bank, partner = books
    bank.store.close()
    backup = bank.path.with_suffix(".backup")
    shutil.copy(bank.path, backup)
    bank.open()
    bank.write(5)
    bank.tell(partner)
    bank.store.close()
    shutil.copy(backup, bank.path)
    bank.open()
    assert bank.findings(partner) == []
    bank.write(1)
    bank.tell(partner)
    assert kinds(bank) == [("bank", "data-co", "step_changed")]
    assert kinds(partner) == [("bank", "bank", "step_changed")]
    assert bank.findings(partner) == [Finding("cut", 7, 9, "data-co")]
    assert partner.findings(bank) == [Finding("rewound", 5, 5, "bank")]
    bank.write(10)
    bank.tell(partner)
    assert bank.findings(partner) == [Finding("rewritten", 9, 9, "data-co")]


def test_a_node_learns_on_connecting_what_its_partner_holds(books: tuple[Books, Books]) -> None:
    bank, partner = books
    bank.store.connection.exec_driver_sql("DROP TRIGGER audit_remains")
    bank.store.connection.exec_driver_sql("DELETE FROM audit WHERE number > 2")
    bank.store.connection.exec_driver_sql("DELETE FROM head")
    assert bank.findings(partner) == []
    for head in partner.audit.held("bank"):
        bank.audit.on_kept("data-co", head)
    assert bank.findings(partner) == [Finding("cut", 4, 4, "data-co")]
    assert kinds(bank) == [("bank", "data-co", "step_changed")]


def test_heads_that_were_not_signed_by_whose_log_it_is_are_refused(books: tuple[Books, Books]) -> None:
    bank, partner = books
    held = len(bank.store.heads())
    theirs, mine = partner.told(bank), bank.told(partner)
    with pytest.raises(PeerError) as caught:
        bank.audit.on_told("data-co", bank.key.public, theirs)
    assert caught.value.code == "bad_signature"
    with pytest.raises(PeerError):
        bank.audit.on_told("shop", partner.key.public, theirs)
    with pytest.raises(PeerError):
        bank.audit.on_kept("data-co", HeadKept(mine.number + 1, mine.digest, mine.signature))
    with pytest.raises(PeerError):
        bank.audit.on_kept("data-co", HeadKept(theirs.number, theirs.digest, theirs.signature))
    assert len(bank.store.heads()) == held


def test_a_head_is_due_after_so_many_lines(books: tuple[Books, Books]) -> None:
    bank, partner = books
    bank.write(HEAD_EVERY - 1)
    assert not bank.audit.due("data-co")
    bank.write(1)
    assert bank.audit.due("data-co")
    bank.told(partner)
    assert not bank.audit.due("data-co")


def test_proposals_beyond_the_limit_are_refused_and_leave_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PROPOSALS_MAX", 1)

    async def play() -> None:
        async with World(tmp_path) as world:
            bank, (partner,) = world.bank, world.partners
            await world.propose("first")
            for name in ("second", "third"):
                proposed = await bank.jobs.propose(world.text(name), None)
                await settled()
                assert of_job(bank, proposed.id)[-1] == ("job.refused", "data-co", "busy")
            seen = [(line.kind, line.object, line.code) for line in partner.store.audit()]
            assert seen.count(("job.refused", "control", "busy")) == 1
            assert len(partner.store.jobs()) == 1

    asyncio.run(play())
