"""The course of a job: what moves it, and what does not. Workers are real processes with a small runner."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from isthmus.base.canonical import canonical_json
from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigError, DataError, LineError, LocalError, PolicyError
from isthmus.base.record import WEIGHED
from isthmus.crypto.seal import PartyKey
from isthmus.jobs.consent import run_digest, sign
from isthmus.jobs.control import Again, Ended, Go, Halted, Proposal, Reply, Start, Started
from isthmus.jobs.engine import Facts, Pace
from isthmus.jobs.plan import Plan
from isthmus.jobs.spec import job_digest, load_job, parse_job, resolve
from isthmus.service import jobs
from isthmus.service.courses import Leading, attempt_digest
from isthmus.service.offline import Offline
from isthmus.service.views import waiting_view
from isthmus.store.checkpoints import Checkpoints
from isthmus.store.records import StoredJob
from isthmus.wire.link import CONTROL, Probe
from isthmus.wire.message import Message
from tests.service import parties
from tests.service.parties import Party, settled, until


class World(parties.World):
    """Jobs on the engine that needs no kernels: what runs here is a small runner, and most tests care for its course alone."""

    def text(self, name: str = "card", **sections: Any) -> bytes:
        return super().text(name, **({"crypto": {"engine": "paillier"}} | sections))


async def say(world: parties.World, sender: Party, receiver: Party, message: Message | bytes) -> None:
    """Puts something on the control channel and lets it be dealt with."""
    body = message if isinstance(message, bytes) else message.encode()
    await sender.lines[receiver.name, CONTROL].put(body)
    await settled()


def run_of(party: Party, job_id: str) -> bytes:
    job = party.jobs.find(job_id)
    return run_digest(job.digest, job.number)


def code_of(party: Party, job_id: str) -> str | None:
    error = party.jobs.find(job_id).error
    return error["code"] if error else None


def test_a_job_that_all_have_accepted_runs_at_both_sides(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose()
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            mine, theirs = world.bank.jobs.find(job_id), partner.jobs.find(job_id)
            assert (mine.state, theirs.state) == ("done", "done"), (mine.error, theirs.error)
            assert mine.result is not None
            assert mine.result["rows"] == 30
            assert mine.result["digest"] == mine.digest.hex()
            assert mine.result["cpu_s"] > 0
            assert mine.result["peak_bytes"] > 2**20
            assert theirs.result is not None
            assert theirs.result["rows"] == 40
            for party in (world.bank, partner):
                await until(partial(party.all_are, "done"))
            assert (world.bank.folder / job_id / "scores.csv").is_file()
            assert not {name for name in mine.result["environment"] if "TOKEN" in name or "KEY" in name}

    asyncio.run(play())


def test_nothing_runs_before_the_last_partner_has_accepted(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path, ("data-co", "shop")) as world:
            first, second = world.partners
            job_id = await world.propose()
            await first.jobs.accept(job_id)
            await until(lambda: world.bank.states()["data-co"] == "accepted")
            assert world.bank.jobs.find(job_id).state == "proposed"
            assert {digest for _, _, digest in world.board.opened} == {CONTROL}
            await second.jobs.accept(job_id)
            await world.ended(job_id)
            assert world.bank.one().result["rows"] == 60  # type: ignore[index]

    asyncio.run(play())


def test_a_refusal_ends_the_job_everywhere(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path, ("data-co", "shop")) as world:
            first, second = world.partners
            job_id = await world.propose()
            await second.jobs.accept(job_id)
            first.jobs.refuse(job_id)
            await world.ended(job_id)
            assert {p.jobs.find(job_id).state for p in (world.bank, first, second)} == {"refused"}
            assert code_of(world.bank, job_id) == "refused"
            with pytest.raises(ConfigError) as caught:
                await first.jobs.accept(job_id)
            assert caught.value.code == "conflict"

    asyncio.run(play())


def test_what_arrives_for_a_job_that_nobody_accepted_does_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose()
            run = run_of(partner, job_id)
            for forged in (
                Start(run, 1, 0, 0),
                Started(run, 1, 0, 0, 0),
                Go(run, 1, 0),
                Halted(run, 1, "worker_killed", 0, 0),
                Again(run),
                Start(bytes(32), 1, 0, 0),
                b"",
                b"\xff" * 100,
                Start(run, 1, 0, 0).encode() + b"x",
            ):
                await say(world, world.bank, partner, forged)
            for reply in (
                Started(run, 1, 0, 0, 0),
                Start(run, 1, 0, 0),
                Ended(run, ""),
                Reply(run, True, b"", ""),
                Reply(run, True, bytes(64), ""),
                Reply(bytes(32), True, bytes(64), ""),
            ):
                await say(world, partner, world.bank, reply)
            assert (world.bank.one().state, partner.one().state) == ("proposed", "proposed")
            assert {digest for _, _, digest in world.board.opened} == {CONTROL}
            assert not (partner.folder / job_id).exists()
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            assert world.bank.one().state == "done"

    asyncio.run(play())


def test_a_consent_by_another_key_or_for_another_run_does_not_count(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose()
            job, run = world.bank.one(), run_of(world.bank, job_id)
            for signature in (
                sign(job.digest, 1, "data-co", PartyKey.generate()),
                sign(job.digest, 2, "data-co", partner.key),
                sign(job.digest, 1, "bank", partner.key),
            ):
                await say(world, partner, world.bank, Reply(run, True, signature, ""))
            assert world.bank.one().state == "proposed"

    asyncio.run(play())


def test_a_proposal_that_is_not_the_proposers_own_is_dropped(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            resolved = resolve(load_job(world.text()))
            digest, document = job_digest(resolved), _canonical(resolved)
            good = sign(digest, 1, "bank", world.bank.key)
            other = resolve(
                parse_job(resolved | {"parties": {"label_owner": "data-co", "feature_owners": ["bank"]}})
            )
            open_ended = {**resolved, "crypto": {**resolved["crypto"], "engine": "auto"}}
            for proposal in (
                Proposal(1, document, sign(digest, 1, "bank", PartyKey.generate())),
                Proposal(2, document, good),
                Proposal(1, document.replace(b'"trees":100', b'"trees":101'), good),
                Proposal(1, document + b" ", good),
                Proposal(1, b"{}", good),
                Proposal(1, b"\xff", good),
                Proposal(1, _canonical(other), sign(job_digest(other), 1, "bank", world.bank.key)),
                Proposal(1, _canonical(open_ended), sign(job_digest(open_ended), 1, "bank", world.bank.key)),
            ):
                await say(world, world.bank, partner, proposal)
            assert partner.store.jobs() == []
            await say(world, world.bank, partner, Proposal(1, document, good))
            await say(world, world.bank, partner, Proposal(1, document, good))
            assert partner.one().state == "proposed"

    asyncio.run(play())


def _canonical(document: dict[str, object]) -> bytes:
    return canonical_json(document)


def test_a_table_that_changed_is_noticed_before_signing_and_before_running(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose()
            table = partner.data / "table.csv"
            before = table.read_text()
            table.write_text(before + "u9999,1,1\n")
            with pytest.raises(DataError) as caught:
                await partner.jobs.accept(job_id)
            assert caught.value.code == "dataset_changed"
            assert partner.one().state == "proposed"
            table.write_text(before)
            (world.bank.data / "table.csv").write_text("id,x,bad\n")
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            assert code_of(world.bank, job_id) == "dataset_changed"
            assert code_of(partner, job_id) == "partner_failed"
            with pytest.raises(DataError):
                await world.bank.jobs.propose(world.text("second"), None)

    asyncio.run(play())


@pytest.mark.parametrize(
    ("name", "label", "partner_code"),
    [
        ("partner-fails", "partner_failed", "too_small"),
        ("partner-dies", "partner_failed", "gave_up"),
        ("label-dies", "gave_up", "partner_failed"),
        ("label-connects", "bug", "partner_failed"),
        ("label-prints", None, None),
    ],
)
def test_a_failure_is_told_in_both_places(
    tmp_path: Path, name: str, label: str | None, partner_code: str | None
) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose(name)
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            assert (code_of(world.bank, job_id), code_of(partner, job_id)) == (label, partner_code)
            for party in (world.bank, partner):
                await until(partial(party.all_are, "done", "failed"))
            if name == "partner-fails":
                answers = {a.party: a.code for a in world.bank.store.answers(job_id)}
                assert answers["data-co"] == "too_small"

    asyncio.run(play())


def test_one_job_runs_at_a_time_and_the_next_one_waits(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            first = await world.propose("partner-hangs")
            await partner.jobs.accept(first)
            hangs = partner.folder / first / "hangs"
            await until(lambda: hangs.exists() and bool(hangs.read_text()))
            second = await world.propose("card")
            await partner.jobs.accept(second)
            await until(lambda: world.bank.jobs.find(second).state == "queued")
            await settled()
            assert partner.jobs.find(second).state == "accepted"
            os.kill(int(hangs.read_text()), signal.SIGKILL)
            await world.ended(first)
            await world.ended(second)
            assert {world.bank.jobs.find(job).state for job in (first, second)} == {"done"}

    asyncio.run(play())


def test_a_worker_that_dies_once_is_started_again(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose("partner-dies-once")
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            for party in (world.bank, partner):
                job = party.jobs.find(job_id)
                assert (job.state, job.error) == ("done", None)
                assert job.result is not None
                assert job.result["attempts"] == 2
                states = [e.data["state"] for e in party.store.events(job_id) if e.kind == "job.state"]
                assert states[-3:] == ["waiting", "running", "done"]
                assert not (party.folder / job_id / "record.db").exists()
            kinds = [line.kind for line in partner.store.audit()]
            assert kinds.count("job.started") == kinds.count("job.resumed") == kinds.count("job.done") == 1

    asyncio.run(play())


@pytest.mark.parametrize("who", ["bank", "data-co"])
def test_a_partner_that_restarts_begins_another_attempt(tmp_path: Path, who: str) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose("partner-hangs")
            await partner.jobs.accept(job_id)
            await until((partner.folder / job_id / "hangs").exists)
            # Which of the two sees the other one restart first is not in anybody's hands.
            party, other = (world.bank, "data-co") if who == "bank" else (partner, "bank")
            party.lines[other, attempt_digest(run_of(world.bank, job_id), 1)].restarted.set()
            await world.ended(job_id)
            assert world.bank.jobs.find(job_id).state == partner.jobs.find(job_id).state == "done"

    asyncio.run(play())


def test_a_node_that_stops_ends_its_worker_and_goes_on_when_it_begins_again(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose("partner-hangs")
            await partner.jobs.accept(job_id)
            hangs = partner.folder / job_id / "hangs"
            await until(lambda: hangs.exists() and bool(hangs.read_text()))
            await partner.jobs.close()
            with pytest.raises(ProcessLookupError):
                os.kill(int(hangs.read_text()), 0)
            assert partner.jobs.find(job_id).state == "running"
            await until(lambda: world.bank.jobs.find(job_id).state == "waiting")
            world.again(partner)
            await world.ended(job_id)
            assert world.bank.jobs.find(job_id).state == partner.jobs.find(job_id).state == "done"

    asyncio.run(play())


def test_a_node_that_begins_again_goes_on_with_what_ran(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose("partner-hangs")
            await partner.jobs.accept(job_id)
            await until((partner.folder / job_id / "hangs").exists)
            await world.bank.jobs.close()
            assert world.bank.jobs.find(job_id).state == "running"
            world.again(world.bank)
            await world.ended(job_id)
            assert world.bank.jobs.find(job_id).state == partner.jobs.find(job_id).state == "done"

    asyncio.run(play())


@pytest.mark.trust("N1")
def test_a_job_says_that_its_partner_is_away_and_since_when_and_that_it_is_back(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose("partner-hangs")
            await partner.jobs.accept(job_id)
            await until((partner.folder / job_id / "hangs").exists)
            offline = Offline(world.bank.store, world.bank, SystemClock(), world.bank.jobs._courses)

            def waiting() -> dict[str, Any] | None:
                offline.look()
                return waiting_view(world.bank.jobs.find(job_id))

            world.bank.away = {"data-co": 1.0}
            assert waiting() is None
            world.bank.away = {"data-co": 3600.0}
            before = datetime.now(UTC)
            said = waiting()
            assert said is not None
            assert said["reason"] == "partner_offline"
            away_s = (before - datetime.fromisoformat(said["since"])).total_seconds()
            assert 3500 < away_s < 3700
            assert waiting() == said
            world.bank.away = {}
            assert waiting() is None
            assert world.bank.jobs.find(job_id).state == "running"
            states = [e.data["state"] for e in world.bank.store.events(job_id) if e.kind == "job.state"]
            assert states[-3:] == ["running", "waiting", "running"]
            os.kill(int((partner.folder / job_id / "hangs").read_text()), signal.SIGKILL)
            await world.ended(job_id)
            assert world.bank.jobs.find(job_id).state == "done"

    asyncio.run(play())


@pytest.mark.timeout(40)
@pytest.mark.parametrize("who", ["bank", "data-co"])
def test_a_partner_that_is_trusted_no_more_hears_that_its_jobs_have_ended(tmp_path: Path, who: str) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            party, other = (world.bank, partner) if who == "bank" else (partner, world.bank)
            waits = await world.propose("waits")
            runs = await world.propose("partner-hangs")
            await partner.jobs.accept(runs)
            await until((partner.folder / runs / "hangs").exists)
            party.jobs.on_revoked(other.name)
            for job_id in (waits, runs):
                await until(lambda job_id=job_id: other.jobs.find(job_id).state == "stopped")  # type: ignore[misc]
                assert (other.jobs.find(job_id).error or {})["fields"]["party"] == party.name
            with pytest.raises(LineError, match="closed"):
                await say(world, other, party, Again(bytes(32)))

    asyncio.run(play())


@pytest.mark.parametrize("who", ["bank", "data-co"])
def test_a_paused_job_goes_on_when_the_side_that_paused_it_resumes(tmp_path: Path, who: str) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            party, other = (world.bank, partner) if who == "bank" else (partner, world.bank)
            job_id = await world.propose("partner-hangs")
            await partner.jobs.accept(job_id)
            await until((partner.folder / job_id / "hangs").exists)
            assert party.jobs.pause(job_id).state == "paused"
            await until(lambda: other.jobs.find(job_id).state == "waiting")
            assert (other.jobs.find(job_id).error or {})["fields"]["code"] == "paused"
            with pytest.raises(ConfigError):
                party.jobs.pause(job_id)
            await asyncio.sleep(1.0)  # the label owner tries, and is told that it is paused
            assert party.jobs.find(job_id).state == "paused"
            await party.jobs.resume(job_id)
            await world.ended(job_id)
            assert world.bank.jobs.find(job_id).state == partner.jobs.find(job_id).state == "done"

    asyncio.run(play())


@pytest.mark.parametrize("who", ["bank", "data-co"])
def test_a_stopped_job_is_stopped_everywhere_and_resumed_by_that_side_alone(tmp_path: Path, who: str) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            party, other = (world.bank, partner) if who == "bank" else (partner, world.bank)
            job_id = await world.propose("partner-hangs")
            await partner.jobs.accept(job_id)
            await until((partner.folder / job_id / "hangs").exists)
            party.jobs.stop(job_id)
            await until(lambda: other.jobs.find(job_id).state == "stopped")
            assert (other.jobs.find(job_id).error or {})["fields"]["party"] == party.name
            with pytest.raises(ConfigError):
                await other.jobs.resume(job_id)
            if party is world.bank:
                await party.jobs.resume(job_id)
                await world.ended(job_id)
                await until(lambda: partner.jobs.find(job_id).state == "done")
            assert "job.stopped" in [line.kind for line in other.store.audit()]

    asyncio.run(play())


@pytest.mark.timeout(40)
@pytest.mark.trust("M1", "M6")
def test_no_side_is_done_before_the_last_one_has_all_it_needs(tmp_path: Path) -> None:
    """The partner dies after the label owner has finished and before it has put by what it got."""

    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose("partner-dies-late")
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            for party in (world.bank, partner):
                job = party.jobs.find(job_id)
                assert (job.state, (job.result or {})["attempts"]) == ("done", 2)
            first = attempt_digest(run_of(world.bank, job_id), 1)
            assert first not in [digest for _, digest in world.bank.lines]  # nobody would ever close it

    asyncio.run(play())


@pytest.mark.timeout(40)
def test_a_word_of_an_earlier_attempt_does_not_end_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partner says that it is done just when another attempt begins, in which it dies before it has all it needs."""

    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            hear, late = partner.jobs._on_start, [True]

            def crossed(name: str, start: Start, job: StoredJob | None) -> None:
                if late:
                    late.pop()
                    partner.jobs._send(name, Ended(start.run, ""))
                hear(name, start, job)

            monkeypatch.setattr(partner.jobs, "_on_start", crossed)
            job_id = await world.propose("partner-dies-late")
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            for party in (world.bank, partner):
                job = party.jobs.find(job_id)
                assert (job.state, (job.result or {})["attempts"]) == ("done", 2)

    asyncio.run(play())


@pytest.mark.timeout(40)
@pytest.mark.trust("M2")
def test_nobody_is_told_of_an_attempt_that_is_not_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The label owner's disk is full when it begins one; the partner must not stand ahead of it afterwards."""
    begin, failures = Leading._begin, [LocalError("disk_full", path="record.db")]

    def fails_once(self: Leading, attempt: int, barrier: int, burned: int) -> None:
        if failures:
            raise failures.pop()
        begin(self, attempt, barrier, burned)

    monkeypatch.setattr(Leading, "_begin", fails_once)

    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose()
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            assert not failures
            assert world.bank.jobs.find(job_id).state == partner.jobs.find(job_id).state == "done"

    asyncio.run(play())


@pytest.mark.slow
@pytest.mark.trust("D1", "G5")
@pytest.mark.parametrize("who", ["bank", "data-co"])
def test_a_disk_that_is_full_at_any_write_of_a_job_costs_time_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """The write and the next one fail; so at every write from the acceptance to the end."""
    monkeypatch.setattr(jobs, "DISK_PAUSE_S", 0.01)

    async def play(place: Path, point: int) -> int:
        writes, inside = 0, False

        def failing(write: Callable[..., Any]) -> Callable[..., Any]:
            def or_not(*given: Any, **named: Any) -> Any:
                nonlocal writes, inside
                if inside:  # what one write does through another one is one transaction
                    return write(*given, **named)
                writes += 1
                if writes in (point, point + 1):
                    raise LocalError("disk_full", path="node.db")
                inside = True
                try:
                    return write(*given, **named)
                finally:
                    inside = False

            return or_not

        async with World(place) as world:
            (partner,) = world.partners
            job_id = await world.propose()
            party = world.bank if who == "bank" else partner
            await partner.jobs.accept(job_id)
            for name in ("move_job", "put_answer", "add_event", "add_lines", "put_head"):
                monkeypatch.setattr(party.store, name, failing(getattr(party.store, name)))
            await world.ended(job_id)
            for each in (world.bank, partner):
                assert each.jobs.find(job_id).state == "done", each.name
                assert set(each.states().values()) == {"done"}, each.name
                record = each.folder / job_id / "record.db"
                await until(lambda record=record: not record.exists())  # type: ignore[misc]
        return writes

    count = asyncio.run(play(tmp_path / "0", 0))
    assert count > 5
    for point in range(1, count + 1, 2):
        asyncio.run(asyncio.wait_for(play(tmp_path / str(point), point), 30))


@pytest.mark.timeout(40)
@pytest.mark.trust("M5")
@pytest.mark.parametrize("ahead", ["bank", "data-co"])
def test_all_go_on_from_the_oldest_barrier_of_any(tmp_path: Path, ahead: str) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose()
            for party in (world.bank, partner):
                (party.folder / job_id).mkdir()
                with Checkpoints(party.folder / job_id / "record.db", bytes(32)) as record:
                    for tree in range(5 if party.name == ahead else 4):
                        record.keep(WEIGHED + tree, tree=b"%d" % tree)
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            for party in (world.bank, partner):
                (attempt,) = [e.data for e in party.store.events(job_id) if e.kind == "job.attempt"]
                assert attempt == {"attempt": 1, "barrier": WEIGHED + 3}
                assert party.jobs.find(job_id).state == "done"

    asyncio.run(play())


@pytest.mark.timeout(40)
@pytest.mark.trust("U8", "M9", "D7", "G12")
def test_a_label_owner_that_was_restored_is_found_and_waits_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record is one of before the partner's last word: it goes on above every secret that the partner has seen."""

    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose()
            starts: list[Start] = []
            hear = partner.jobs._on_start

            def listen(name: str, start: Start, job: StoredJob | None) -> None:
                starts.append(start)
                hear(name, start, job)

            monkeypatch.setattr(partner.jobs, "_on_start", listen)
            for party, attempt, burned in ((world.bank, 3, 100), (partner, 7, 500)):
                (party.folder / job_id).mkdir()
                with Checkpoints(party.folder / job_id / "record.db", bytes(32)) as record:
                    record.begin(attempt, 0, burned)
            await partner.jobs.accept(job_id)
            await until(lambda: world.bank.jobs.find(job_id).state == "paused")
            assert code_of(world.bank, job_id) == "rewound"
            assert partner.jobs.find(job_id).state == "waiting"
            await world.bank.jobs.resume(job_id)
            await world.ended(job_id)
            assert world.bank.jobs.find(job_id).state == partner.jobs.find(job_id).state == "done"
            attempts = [e.data["attempt"] for e in partner.store.events(job_id) if e.kind == "job.attempt"]
            assert attempts[0] > 7
            assert (starts[-1].attempt, starts[-1].burned) == (attempts[-1], 500)

    asyncio.run(play())


@pytest.mark.timeout(40)
@pytest.mark.trust("C2", "U8")
@pytest.mark.parametrize(("had", "burned"), [(2**32 - 1, 0), (0, 2**32 - 1), (2**31 + 1, 2**31 + 1)])
def test_a_partner_that_lies_about_what_it_has_seen_moves_no_number_and_ends_its_own_job_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, had: int, burned: int
) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners

            def lie(name: str, start: Start, job: object) -> None:
                partner.jobs._send(name, Halted(start.run, start.attempt, "rewound", had, burned))

            monkeypatch.setattr(partner.jobs, "_on_start", lie)
            job_id = await world.propose()
            await partner.jobs.accept(job_id)
            await until(lambda: world.bank.jobs.find(job_id).state == "paused")
            assert code_of(world.bank, job_id) == "rewound"
            with Checkpoints(world.bank.folder / job_id / "record.db", bytes(32)) as record:
                assert (record.attempt, record.count("burned")) == (0, 0)
            await world.bank.jobs.resume(job_id)
            await world.ended(job_id)
            assert world.bank.jobs.find(job_id).state == "failed"
            assert code_of(world.bank, job_id) == "bad_message"
            monkeypatch.undo()
            after = await world.propose("after")
            await partner.jobs.accept(after)
            await world.ended(after)
            assert world.bank.jobs.find(after).state == partner.jobs.find(after).state == "done"

    asyncio.run(play())


def test_a_job_that_failed_is_resumed_by_a_person(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose()
            table = world.bank.data / "table.csv"
            before = table.read_text()
            table.write_text("id,x,bad\n")
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            assert code_of(world.bank, job_id) == "dataset_changed"
            with pytest.raises(DataError):
                await world.bank.jobs.resume(job_id)
            table.write_text(before)
            await world.bank.jobs.resume(job_id)
            await until(lambda: partner.jobs.find(job_id).state == "done")
            assert world.bank.jobs.find(job_id).state == "done"

    asyncio.run(play())


def test_a_job_without_every_signature_cannot_be_resumed(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            job_id = await world.propose()
            world.bank.jobs.stop(job_id)
            (partner,) = world.partners
            await until(lambda: partner.jobs.find(job_id).state == "stopped")
            for party in (world.bank, partner):
                with pytest.raises(ConfigError):
                    await party.jobs.resume(job_id)
            await say(world, world.bank, partner, Start(run_of(partner, job_id), 1, 0, 0))
            assert partner.jobs.find(job_id).state == "stopped"

    asyncio.run(play())


def test_a_lost_proposal_and_a_lost_answer_are_said_again_when_the_partner_restarts(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose()
            partner.store.__init__()  # type: ignore[misc]
            partner.know(world.bank)
            await partner.register(30)
            world.bank.lines["data-co", CONTROL].restarted.set()
            await until(lambda: bool(partner.store.jobs()))
            assert partner.one().id == job_id

    asyncio.run(play())


def test_the_same_file_again_is_another_run_and_needs_consent_again(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            first = await world.propose()
            await partner.jobs.accept(first)
            await world.ended(first)
            second = await world.propose()
            assert second == f"{first}-2"
            await settled()
            assert partner.jobs.find(second).state == "proposed"
            await partner.jobs.accept(second)
            await world.ended(second)
            assert world.bank.jobs.find(second).state == "done"

    asyncio.run(play())


def test_a_job_needs_confirmed_partners_known_columns_and_a_day_to_come(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            about = {"name": "card", "purpose": "Rank applicants by risk", "valid_until": "2025-01-01"}
            with pytest.raises(PolicyError) as expired:
                await world.bank.jobs.propose(world.text(metadata=about), None)
            assert expired.value.code == "expired"
            with pytest.raises(DataError) as column:
                await world.bank.jobs.propose(world.text(sample={"label": "worse"}), None)
            assert column.value.code == "missing_column"
            ids = {"by": "ids", "test_ids_sha256": "0" * 64}
            with pytest.raises(ConfigError) as path:
                await world.bank.jobs.propose(world.text(split=ids), None)
            assert path.value.code == "missing_field"
            with pytest.raises(DataError) as changed:
                await world.bank.jobs.propose(world.text(split=ids), str(world.bank.data / "table.csv"))
            assert changed.value.code == "dataset_changed"
            with pytest.raises(ConfigError) as owner:
                await world.partners[0].jobs.propose(world.text(), None)
            assert owner.value.fields["field"] == "parties.label_owner"
            partner = world.bank.store.partner("data-co")
            assert partner is not None
            world.bank.store.put_partner(replace(partner, confirmed=False))
            with pytest.raises(ConfigError) as confirmed:
                await world.bank.jobs.propose(world.text(), None)
            assert confirmed.value.code == "not_confirmed"
            assert world.bank.store.jobs() == []

    asyncio.run(play())


def test_an_ending_from_a_stranger_to_the_job_is_ignored(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path, ("data-co", "shop")) as world:
            first, second = world.partners
            job = await world.bank.jobs.propose(world.text(), None)
            await until(lambda: first.store.job(job.id) is not None)
            first.know(second)
            first.jobs.talk_to("shop")
            second.jobs.talk_to("data-co")
            await say(world, second, first, Ended(run_of(first, job.id), "refused"))
            assert first.one().state == "proposed"

    asyncio.run(play())


def columns(**of_partner: object) -> dict[str, Any]:
    """The inputs of bank and data-co, what is said of the partner's columns put in."""
    given = {party: {"dataset": "table@1", "keys": [[{"column": "id"}]]} for party in ("bank", "data-co")}
    return {"inputs": {**given, "data-co": {**given["data-co"], "columns": of_partner}}}


SMALL: dict[str, Any] = {
    "crypto": {},
    "model": {"trees": 2, "depth": 2},
    "features": {"binning": {"max_bins": 2}},
}


def test_the_label_owners_node_turns_auto_into_an_engine_that_both_sign(tmp_path: Path) -> None:
    """Named columns make a job small enough for Paillier; the partner's own figures do not change what was signed."""

    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            sections = SMALL | columns(include=["x"])
            planned = world.bank.jobs.plan(world.text(**sections))
            assert (planned.choice.engine, planned.choice.why) == ("paillier", "dear")
            job_id = await world.propose(**sections)
            seen = partner.jobs.plan_of(partner.one())
            assert seen.digest == planned.digest == partner.one().digest
            assert b'"engine":"paillier"' in partner.one().document
            assert seen.choice.why == "named"
            assert seen.choice.facts is not None
            assert (seen.choice.facts.rows, seen.choice.facts.shares[0].known) == (30, "registered")
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            assert world.bank.one().state == "done"

    asyncio.run(play())


def test_columns_that_nobody_named_are_assumed_and_the_vectors_are_counted(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            await world.propose(**SMALL)
            seen = partner.jobs.plan_of(partner.one())
            assert seen.resolved["crypto"]["engine"] == "lattice-hint"
            assert seen.resolved["crypto"]["vectors_max"] == (2 * 2 + 1) * 4
            assert seen.choice.auto == "paillier"
            assert "would mean paillier" in seen.reason.en
            planned = world.bank.jobs.plan(world.text(**SMALL))
            assert planned.digest == seen.digest
            assert planned.choice.facts is not None
            (share,) = planned.choice.facts.shares
            assert (share.features, share.known) == (50, "assumed")
            known = world.bank.jobs.plan(
                world.text(**SMALL, **columns(include=["x", "bad"], exclude=["bad"]))
            )
            assert known.choice.facts is not None
            assert known.choice.facts.shares[0].features == 1

    asyncio.run(play())


def probe(up: float | None = None, down: float | None = None, trip: float | None = 0.1) -> Probe:
    return Probe(trip, None, up, down, None, None)


def notes(plan: Plan) -> str:
    return "\n".join(note.en for note in plan.notes)


def test_a_measured_line_counts_and_the_slowest_of_several(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path, ("data-co", "shop")) as world:
            first, _ = world.partners

            def facts_at(party: Party) -> Facts:
                facts = party.jobs.plan(world.text()).choice.facts
                assert facts is not None
                return facts

            assert facts_at(world.bank).pace == Pace()
            world.bank.measured.keep("shop", probe(1e6, 2e5))
            first.measured.keep("bank", probe(3e6, 4e6))
            assert facts_at(world.bank).pace == Pace(1e6, 2e5, 0.1, measured=True)
            assert facts_at(first).pace == Pace(4e6, 3e6, 0.1, measured=True)
            first.measured.keep("bank", probe(trip=0.3))
            assert facts_at(first).pace == Pace(round_trip_s=0.3)

    asyncio.run(play())


def test_a_plan_says_of_each_line_when_it_was_measured(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path, ("data-co", "shop", "mill")) as world:
            world.bank.measured.keep("shop", probe(1e6, 2e5))
            world.bank.measured.keep("mill", probe())
            said = notes(world.bank.jobs.plan(world.text()))
            day = f"{datetime.now(UTC):%Y-%m-%d}"
            assert "the line to data-co: assumed; isthmus doctor --partner data-co" in said
            assert f"the line to shop: measured on {day}" in said
            assert f"the line to mill: round trip measured on {day}" in said
            zh = [note.zh for note in world.bank.jobs.plan(world.text()).notes]
            assert any(f"到 shop 的链路：实测于 {day}" in note for note in zh)

    asyncio.run(play())


def test_a_job_is_what_was_planned_until_somebody_measures_again_and_then_the_plan_says_so(
    tmp_path: Path,
) -> None:
    """Where both engines wait for the line most of the time, neither takes twice as long."""

    async def play() -> None:
        async with World(tmp_path) as world:
            sections = SMALL | columns(include=["x"])
            planned = world.bank.jobs.plan(world.text(**sections))
            assert planned.choice.engine == "paillier"
            assert "changed the choice" not in notes(planned)
            world.bank.measured.keep("data-co", probe(1e8, 1e8, 2.0))
            turned = world.bank.jobs.plan(world.text(**sections))
            assert turned.choice.engine == "lattice-hint"
            assert turned.digest != planned.digest
            assert "changed the choice: before it auto meant paillier" in notes(turned)
            assert await world.propose(**sections)
            assert world.bank.one().digest == turned.digest
            world.bank.measured.keep("data-co", probe(1e8, 1e8, 3.0))
            again = world.bank.jobs.plan(world.text(**sections))
            assert again.digest == turned.digest
            assert "changed the choice" not in notes(again)

    asyncio.run(play())


def test_a_count_of_columns_that_is_given_takes_the_place_of_the_assumed_one(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            text = world.text(**SMALL)
            planned, given = world.bank.jobs.plan(text), world.bank.jobs.plan(text, 1)
            assert (planned.choice.engine, given.choice.engine) == ("lattice-hint", "paillier")
            assert "--assume N" in notes(planned)
            assert "--assume N" not in notes(given)
            assert "1 columns of data-co (assumed)" in notes(given)
            job = await world.bank.jobs.propose(text, None, 1)
            assert job.digest == given.digest
            named = world.text(**SMALL | columns(include=["x"]))
            assert world.bank.jobs.plan(named, 40).choice.facts == world.bank.jobs.plan(named).choice.facts

    asyncio.run(play())


def test_a_plan_needs_no_registered_table_and_says_that_it_has_no_figures(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            other = {"dataset": "other@1", "keys": [[{"column": "id"}]]}
            inputs = {"bank": other, "data-co": other}
            planned = world.bank.jobs.plan(world.text(inputs=inputs, crypto={}))
            assert (planned.choice.why, planned.choice.costs) == ("unknown", ())
            parties_ = {"label_owner": "a", "feature_owners": ["b"]}
            planned = world.bank.jobs.plan(world.text(inputs={"a": other, "b": other}, parties=parties_))
            assert planned.choice.facts is None

    asyncio.run(play())
