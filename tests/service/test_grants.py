"""Nothing runs without a grant: the rule, its bounds, and what takes a grant back. (T5, T25, D5, C3, C8)"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigError, IsthmusError, LineError, PolicyError
from isthmus.crypto.seal import PartyKey
from isthmus.jobs.consent import run_digest
from isthmus.jobs.grant_messages import GrantAsked, GrantEnded, GrantTold
from isthmus.jobs.grant_terms import Ask, OwnColumns, Terms, sign_ending, sign_terms
from isthmus.protocols.align import SetSize, Shared
from isthmus.store.agreements import StoredGrant
from isthmus.store.records import StoredJob
from isthmus.wire.link import CONTROL
from isthmus.wire.memory import memory_pair
from isthmus.wire.message import Message
from tests.service import parties
from tests.service.parties import Party, grant, in_memory, settled, until

PURPOSE = "Rank applicants by risk"


class World(parties.World):
    """Without any grant; on the engine that needs no kernels."""

    def __init__(self, folder: Path, partners: tuple[str, ...] = ("data-co",)) -> None:
        super().__init__(folder, partners, granted=False)

    def text(self, name: str = "card", **sections: Any) -> bytes:
        return super().text(name, **({"crypto": {"engine": "paillier"}} | sections))


class Later(SystemClock):
    """So many days on."""

    def __init__(self, days: float = 0) -> None:
        self.days = days

    def now(self) -> datetime:
        return super().now() + timedelta(days=self.days)


def day(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


def playing(
    tmp_path: Path, play: Callable[[World, Party], Any], partners: tuple[str, ...] = ("data-co",)
) -> None:
    async def run() -> None:
        async with World(tmp_path, partners) as world:
            await play(world, world.partners[0])

    asyncio.run(run())


async def say(sender: Party, receiver: Party, message: Message) -> None:
    await sender.lines[receiver.name, CONTROL].put(message.encode())
    await settled()


async def refused(partner: Party, job_id: str, code: str) -> PolicyError:
    """To accept the job is refused with this code, the job stays proposed, and the refusal is in the audit log."""
    with pytest.raises(PolicyError) as caught:
        await partner.jobs.accept(job_id)
    assert caught.value.code == code
    assert partner.jobs.find(job_id).state == "proposed"
    line = partner.store.last_line()
    assert line is not None
    assert (line.kind, line.object, line.code) == ("rule.broken", job_id, code)
    return caught.value


def run_of(job: StoredJob) -> bytes:
    return run_digest(job.digest, job.number)


def started(party: Party, job: StoredJob) -> str | None:
    """None, or the code with which the start is refused."""
    try:
        party.grants.start(job)
    except PolicyError as error:
        return error.code
    return None


def code_of(party: Party, job_id: str) -> str | None:
    error = party.jobs.find(job_id).error
    return error["code"] if error else None


# --- the rule ---


def test_without_a_grant_a_job_is_not_accepted_and_with_one_it_runs(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        job_id = await world.propose()
        error = await refused(partner, job_id, "grant_missing")
        assert "--grant" in error.hint("en")
        grant(partner)
        await partner.jobs.accept(job_id)
        await world.ended(job_id)
        assert {p.jobs.find(job_id).state for p in (world.bank, partner)} == {"done"}

    playing(tmp_path, play)


def test_accepting_with_a_grant_gives_one_of_one_run_for_this_job_alone(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        job_id = await world.propose()
        await partner.jobs.accept(job_id, grant=True)
        await world.ended(job_id)
        assert world.bank.jobs.find(job_id).state == "done"
        (given,) = partner.store.grants()
        terms = Terms.from_bytes(given.terms)
        assert (terms.runs, terms.job, terms.purpose) == (1, partner.one().digest.hex(), PURPOSE)
        assert terms.columns.count == 2
        assert world.bank.store.grants()[0].signature == given.signature
        await refused(partner, await world.propose(), "runs_spent")
        await refused(partner, await world.propose("other"), "grant_missing")

    playing(tmp_path, play)


@pytest.mark.parametrize(
    ("said", "sections", "code"),
    [
        ({"purpose": "Rank applicants by wealth"}, {}, "purpose_differs"),
        ({"dataset": "table@2"}, {}, "grant_missing"),
        ({"operations": ["align", "score"]}, {}, "grant_missing"),
        ({"columns": OwnColumns(include=("x",))}, {}, "grant_missing"),
        ({"columns": OwnColumns(exclude=("b*",))}, {}, "grant_missing"),
        ({"min_rows": 1001}, {}, "overlap_too_small"),
        ({"min_rows": 1000}, {"align": {"min_rows": 999}}, "overlap_too_small"),
    ],
)
def test_a_job_beyond_the_terms_is_refused_by_the_term_that_it_breaks(
    tmp_path: Path, said: dict[str, Any], sections: dict[str, Any], code: str
) -> None:
    async def play(world: World, partner: Party) -> None:
        await partner.register(30)
        grant(partner, **said)
        await refused(partner, await world.propose(**sections), code)

    playing(tmp_path, play)


def test_columns_that_the_job_leaves_out_need_no_grant(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        grant(partner, columns=OwnColumns(include=("x",)))
        table = {"dataset": "table@1", "keys": [[{"column": "id"}]]}
        inputs = {"bank": table, "data-co": table | {"columns": {"exclude": ["bad"]}}}
        await partner.jobs.accept(await world.propose(inputs=inputs))

    playing(tmp_path, play)


def test_a_grant_for_one_version_does_not_cover_another(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        grant(partner, dataset="table@1")
        await partner.register(30)
        table = {"dataset": "table@1", "keys": [[{"column": "id"}]]}
        inputs = {"bank": table, "data-co": table | {"dataset": "table@2"}}
        await refused(partner, await world.propose(inputs=inputs), "grant_missing")

    playing(tmp_path, play)


def test_a_grant_to_one_partner_does_not_cover_another(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        other = world.partners[1]
        partner.know(other)
        partner.grants.give("shop", dataset="table", purpose=PURPOSE, until=day(9), min_rows=100)
        await refused(partner, await world.propose(), "grant_missing")

    playing(tmp_path, play, ("data-co", "shop"))


def test_an_expired_grant_covers_nothing_and_its_last_day_still_counts(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        grant(partner, until=day(3))
        job_id = await world.propose()
        partner.grants._clock = Later(4)
        error = await refused(partner, job_id, "grant_expired")
        assert error.fields["day"] == day(3)
        partner.grants._clock = Later(3)
        await partner.jobs.accept(job_id)

    playing(tmp_path, play)


def test_a_grant_that_ends_while_a_job_runs_no_longer_covers_it(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        grant(partner, until=day(3))
        job_id = await world.propose("partner-hangs")
        await partner.jobs.accept(job_id)
        await until((partner.folder / job_id / "hangs").exists)
        for party in (world.bank, partner):
            job = party.jobs.find(job_id)
            assert party.grants.still_covers(job) is None
            party.grants._clock = Later(4)
            error = party.grants.still_covers(job)
            assert error is not None
            assert error.code == "grant_expired"

    playing(tmp_path, play)


@pytest.mark.trust("D5")
@pytest.mark.parametrize("whose", ["data-co", "bank"])
def test_a_worker_is_stopped_at_the_next_barrier_after_its_grant_ended(tmp_path: Path, whose: str) -> None:
    """Whichever side's calendar turns first: not before the barrier, and with the same word at both sides."""

    async def play(world: World, partner: Party) -> None:
        party = partner if whose == "data-co" else world.bank
        grant(partner, until=day(3))
        job_id = await world.propose("steps")
        await partner.jobs.accept(job_id)
        steps = [p.folder / job_id / "steps" for p in (world.bank, partner)]
        await until(lambda: all(s.exists() and bool(s.read_text()) for s in steps))
        party.grants._clock = Later(4)
        await settled()
        assert {p.jobs.find(job_id).state for p in (world.bank, partner)} == {"running"}
        for step in steps:
            step.with_name("go").write_text("")
        await world.ended(job_id)
        errors = [p.jobs.find(job_id).error or {} for p in (world.bank, partner)]
        assert {e["fields"].get("code", e["code"]) for e in errors} == {"grant_expired"}
        assert code_of(party, job_id) == "grant_expired"
        for step in steps:
            with pytest.raises(ProcessLookupError):
                os.kill(int(step.read_text()), 0)

    playing(tmp_path, play)


def test_every_feature_owner_has_to_grant(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        grant(partner)
        job_id = await world.propose()
        await partner.jobs.accept(job_id)
        await refused(world.partners[1], job_id, "grant_missing")
        assert world.bank.jobs.find(job_id).state == "proposed"

    playing(tmp_path, play, ("data-co", "shop"))


def test_a_grant_taken_back_between_the_yes_and_the_start_stops_the_start(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        grant_id = grant(partner)
        first = await world.propose("partner-hangs")
        await partner.jobs.accept(first)
        hangs = partner.folder / first / "hangs"
        await until(lambda: hangs.exists() and bool(hangs.read_text()))
        in_memory(partner.store)._runs.clear()  # the first one no longer counts as running under it
        second = await world.propose()
        await partner.jobs.accept(second)
        partner.store.change_grant(replace(partner.grants.find(grant_id), state="revoked"), {"given"})
        os.kill(int(hangs.read_text()), signal.SIGKILL)
        await world.ended(second)
        assert code_of(partner, second) == "grant_revoked"
        assert code_of(world.bank, second) == "partner_failed"

    playing(tmp_path, play)


# --- runs ---


def test_a_run_counts_once_however_often_it_starts(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        grant_id = grant(partner, runs=2)
        job_id = await world.propose()
        await partner.jobs.accept(job_id)
        await world.ended(job_id)
        job = partner.jobs.find(job_id)
        for _ in range(3):
            partner.grants.start(job)
        for party in (partner, world.bank):
            assert party.grants.runs_left(party.grants.find(grant_id)) == 1
        assert [line.kind for line in partner.store.audit()].count("grant.used") == 1
        second = await world.propose()
        await partner.jobs.accept(second)
        await world.ended(second)
        assert partner.jobs.find(second).state == "done"
        error = await refused(partner, await world.propose(), "runs_spent")
        assert (error.fields["spent"], error.fields["allowed"]) == (2, 2)

    playing(tmp_path, play)


def test_fifty_runs_with_one_id_added_each_stop_at_the_cap_of_thirty_days(tmp_path: Path) -> None:
    """Differencing needs many runs; the cap counts them over every version and every grant. (T5)"""

    async def play(world: World, partner: Party) -> None:
        grant(partner, runs_30d=8)
        grant(partner, runs_30d=8, dataset="table@1")
        job = None
        allowed = []
        for turn in range(50):
            job_id = await world.propose(f"added-{turn}")
            job = partner.jobs.find(job_id)
            allowed.append(started(partner, job))
        assert allowed == [None] * 8 + ["runs_spent"] * 42
        assert job is not None
        await refused(partner, job.id, "runs_spent")
        partner.grants._clock = Later(31)
        partner.grants.start(job)

    playing(tmp_path, play)


def test_the_job_file_tightens_the_cap_of_thirty_days_and_never_loosens_it(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        grant(partner, runs_30d=2)
        for turn, runs_30d, code in ((0, 1, None), (1, 1, "runs_spent"), (2, 9, None), (3, 9, "runs_spent")):
            job_id = await world.propose(f"turn-{turn}", privacy={"runs_30d": runs_30d})
            assert started(partner, partner.jobs.find(job_id)) == code

    playing(tmp_path, play)


# --- sizes that an alignment shows ---


def test_a_set_beyond_the_grant_or_too_near_to_an_earlier_one_ends_the_job(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        grant(partner, partner_rows_max=1000, min_change=50)
        found = []
        for turn, rows, shared in (
            (0, 1001, 0), (1, 900, 300), (2, 901, 300), (3, 900, 300), (4, 950, 299), (5, 850, 350),
        ):  # fmt: skip
            job = partner.jobs.find(await world.propose(f"turn-{turn}"))
            partner.grants.start(job)
            found.append(await _aligned(partner, job, rows, shared))
        assert found == ["set_too_large", None, "change_too_small", None, "change_too_small", None]

    playing(tmp_path, play)


async def _aligned(partner: Party, job: StoredJob, rows: int, shared: int) -> str | None:
    """What the guard says of an alignment with these sizes."""
    ours, theirs = memory_pair(8)
    stopped: list[IsthmusError] = []
    line = partner.grants.guard(job, ours, stopped.append)
    bits = np.zeros(400, dtype=np.uint8)
    bits[:shared] = 1
    with suppress(LineError):
        for message in (SetSize(rows), Shared(np.packbits(bits), True)):
            await theirs.put(message.encode())
            assert await line.get() == message.encode()
    return stopped[0].code if stopped else None


# --- asked, given, taken back ---


def test_a_request_is_shown_at_the_holder_and_given_with_less_than_was_asked(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        asked = world.bank.grants.ask(
            "data-co", dataset="table", purpose=PURPOSE, until=day(60), runs=9, min_rows=200
        )
        await settled()
        seen = partner.grants.find(asked.id)
        assert (seen.held, seen.state, seen.partner, seen.terms) == (True, "asked", "bank", asked.terms)
        columns = OwnColumns(include=("x",), aliases={"x": "first"})
        partner.grants.give(ask=asked.id, columns=columns, runs=2)
        await settled()
        mine = world.bank.grants.find(asked.id)
        terms = Terms.from_bytes(mine.terms)
        assert (mine.state, terms.runs, terms.until, terms.min_rows) == ("given", 2, day(60), 200)
        assert (terms.columns.count, terms.columns.aliases) == (1, ("first",))
        assert mine.columns is None
        assert b'"x"' not in mine.terms
        with pytest.raises(ConfigError) as twice:
            partner.grants.give(ask=asked.id)
        assert twice.value.code == "conflict"

    playing(tmp_path, play)


def test_a_refused_request_is_refused_at_both_sides_and_cannot_be_given(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        asked = world.bank.grants.ask("data-co", dataset="table", purpose=PURPOSE, until=day(60))
        await settled()
        partner.grants.refuse(asked.id)
        await settled()
        assert {p.grants.find(asked.id).state for p in (world.bank, partner)} == {"refused"}
        with pytest.raises(ConfigError):
            partner.grants.give(ask=asked.id)
        kinds = [(line.kind, line.actor) for line in world.bank.store.audit() if line.object == asked.id]
        assert kinds == [("grant.asked", "bank/local"), ("grant.refused", "data-co")]

    playing(tmp_path, play)


def test_what_one_side_missed_is_said_again_when_the_line_begins_anew(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        kept = partner.grants._send
        partner.grants._send = lambda *_: None
        first, second = grant(partner), grant(partner)
        partner.grants.revoke(second)
        partner.grants._send = kept
        await settled()
        assert world.bank.store.grants() == []
        partner.lines["bank", CONTROL].restarted.set()
        await settled()
        states = {g.id: g.state for g in world.bank.store.grants()}
        assert states == {first: "given", second: "revoked"}

    playing(tmp_path, play)


def test_revoking_ends_a_running_job_with_grant_revoked_at_both_sides(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        grant_id = grant(partner)
        job_id = await world.propose("partner-hangs")
        await partner.jobs.accept(job_id)
        hangs = partner.folder / job_id / "hangs"
        await until(lambda: hangs.exists() and bool(hangs.read_text()))
        heard: list[tuple[str, str]] = []
        stop = partner.grants._on_revoked

        def hear(user: str, dataset: str) -> None:
            heard.append((user, dataset))
            stop(user, dataset)

        partner.grants._on_revoked = hear
        partner.grants.revoke(grant_id)
        assert heard == [("bank", "table")]
        await world.ended(job_id)
        assert (code_of(world.bank, job_id), code_of(partner, job_id)) == ("grant_revoked", "grant_revoked")
        with pytest.raises(ProcessLookupError):
            os.kill(int(hangs.read_text()), 0)
        await refused(partner, await world.propose(), "grant_revoked")
        with pytest.raises(ConfigError):
            partner.grants.revoke(grant_id)

    playing(tmp_path, play)


def test_a_job_under_another_grant_goes_on_when_one_is_revoked(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        first = grant(partner)
        job_id = await world.propose("partner-hangs")
        await partner.jobs.accept(job_id)
        await until((partner.folder / job_id / "hangs").exists)
        second = grant(partner)
        partner.grants.revoke(second)
        await settled()
        assert partner.grants.still_covers(partner.jobs.find(job_id)) is None
        assert {p.jobs.find(job_id).state for p in (world.bank, partner)} == {"running"}
        partner.grants.revoke(first)
        await world.ended(job_id)

    playing(tmp_path, play)


# --- what is not genuine ---


def terms_for(partner: Party, **said: Any) -> Terms:
    fields: dict[str, Any] = {
        "id": "g-" + "a" * 16,
        "holder": partner.name,
        "user": "bank",
        "dataset": "table",
        "purpose": PURPOSE,
        "until": day(30),
        "columns": {"count": 2, "digest": "0" * 64},
        "given_at": "2026-01-02T03:04:05+00:00",
    }
    return Terms.model_validate(fields | said)


def test_a_grant_with_another_signature_or_other_terms_than_signed_is_dropped(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        good = terms_for(partner)
        for terms, signature in (
            (good, sign_terms(good, PartyKey.generate())),
            (terms_for(partner, runs=1000), sign_terms(good, partner.key)),
            (terms_for(partner, user="shop"), sign_terms(terms_for(partner, user="shop"), partner.key)),
            (terms_for(partner, holder="shop"), sign_terms(terms_for(partner, holder="shop"), partner.key)),
        ):
            await say(partner, world.bank, GrantTold(terms.to_bytes(), signature))
        spaced = good.to_bytes().replace(b",", b", ")
        await say(partner, world.bank, GrantTold(spaced, sign_terms(good, partner.key)))
        await say(partner, world.bank, GrantTold(b"{}", bytes(64)))
        await say(partner, world.bank, GrantAsked(b"\xff"))
        await say(partner, world.bank, GrantEnded(good.id, "revoked", bytes(64)))
        await say(partner, world.bank, GrantEnded("../x", "revoked", bytes(64)))
        assert world.bank.store.grants() == []
        await say(partner, world.bank, GrantTold(good.to_bytes(), sign_terms(good, partner.key)))
        assert [g.state for g in world.bank.store.grants()] == ["given"]
        other = terms_for(partner, runs=1000)
        await say(partner, world.bank, GrantTold(other.to_bytes(), sign_terms(other, partner.key)))
        assert Terms.from_bytes(world.bank.store.grants()[0].terms).runs == 1

    playing(tmp_path, play)


def test_an_old_grant_that_is_shown_again_after_its_end_does_not_come_back(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        grant_id = grant(partner)
        await settled()
        told = world.bank.grants.find(grant_id)
        partner.grants.revoke(grant_id)
        await settled()
        await say(partner, world.bank, GrantTold(told.terms, told.signature))
        assert world.bank.grants.find(grant_id).state == "revoked"
        # An ending that comes before its grant is remembered as well.
        unseen = terms_for(partner)
        ending = sign_ending(unseen.id, "bank", "revoked", partner.key)
        await say(partner, world.bank, GrantEnded(unseen.id, "revoked", ending))
        await say(partner, world.bank, GrantTold(unseen.to_bytes(), sign_terms(unseen, partner.key)))
        assert world.bank.grants.find(unseen.id).state == "revoked"

    playing(tmp_path, play)


def test_a_holder_that_forgot_a_revocation_is_shown_its_own_signature(tmp_path: Path) -> None:
    """Somebody restores an older database at the holder, in which the grant is still in force."""

    async def play(world: World, partner: Party) -> None:
        grant_id = grant(partner)
        await settled()
        before = partner.grants.find(grant_id)
        partner.grants.revoke(grant_id)
        await settled()
        in_memory(partner.store)._grants[grant_id] = before
        partner.lines["bank", CONTROL].restarted.set()
        await settled()
        assert partner.grants.find(grant_id).state == "revoked"
        await refused(partner, await world.propose(), "grant_revoked")

    playing(tmp_path, play)


@pytest.mark.parametrize("what", ["terms", "columns"])
def test_a_grant_that_an_insider_changed_in_the_database_does_not_count(tmp_path: Path, what: str) -> None:
    async def play(world: World, partner: Party) -> None:
        grant_id = grant(partner, columns=OwnColumns(include=("x",)))
        given = partner.grants.find(grant_id)
        assert given.columns is not None
        changed: StoredGrant = {
            "terms": replace(given, terms=given.terms.replace(b'"runs":1000', b'"runs":999')),
            "columns": replace(given, columns=given.columns | {"include": ["*"]}),
        }[what]
        in_memory(partner.store)._grants[grant_id] = changed
        await refused(partner, await world.propose(), "grant_missing")
        marks = [(line.kind, line.object, line.code) for line in partner.store.audit()]
        assert ("rule.broken", grant_id, "bad_signature") in marks

    playing(tmp_path, play)


def test_a_partner_cannot_fill_the_store_with_requests_or_grants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isthmus.service.grants.OPEN_MAX", 3)

    async def play(world: World, partner: Party) -> None:
        for _ in range(5):
            world.bank.grants.ask("data-co", dataset="table", purpose=PURPOSE, until=day(9))
            grant(partner)
        await settled()
        assert sum(g.held and g.state == "asked" for g in partner.store.grants()) == 3
        assert sum(not g.held and g.state == "given" for g in world.bank.store.grants()) == 3

    playing(tmp_path, play)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"until": "2020-01-01"}, "until"),
        ({"until": "2099-02-30"}, "until"),
        ({"runs": 0}, "runs"),
        ({"min_rows": 99}, "min_rows"),
        ({"purpose": "short"}, "purpose"),
        ({"operations": ["read"]}, "operations.0"),
        ({"columns": OwnColumns(include=("nothing-like-it",))}, "columns"),
        ({"columns": OwnColumns(aliases={"absent": "a"})}, "aliases"),
        ({"columns": OwnColumns(aliases={"x": "a", "bad": "a"})}, "aliases"),
    ],
)
def test_terms_out_of_bounds_are_named_and_nothing_is_given(
    tmp_path: Path, said: dict[str, Any], field: str
) -> None:
    async def play(world: World, partner: Party) -> None:
        with pytest.raises(ConfigError) as caught:
            grant(partner, **said)
        assert (caught.value.code, caught.value.fields["field"]) == ("out_of_bounds", field)
        assert partner.store.grants() == []

    playing(tmp_path, play)


# --- the plan ---


def test_a_plan_says_which_grants_are_found_ending_or_missing(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        def notes(party: Party) -> list[tuple[str, str, str]]:
            return [(n.holder, n.state, n.code) for n in party.jobs.plan(world.text()).grants]

        assert notes(world.bank) == [
            ("data-co", "missing", "grant_missing"),
            ("shop", "missing", "grant_missing"),
        ]
        grant(partner, until=day(31), runs=2)
        grant(world.partners[1], until=day(30))
        await settled()
        assert notes(world.bank) == [("data-co", "found", ""), ("shop", "ending", "")]
        assert notes(partner) == [("data-co", "found", "")]
        (words, _) = (n.words for n in world.bank.jobs.plan(world.text()).grants)
        assert "31 days" in words.en
        assert "31 天" in words.zh
        other = world.text(metadata={"name": "card", "purpose": "Another purpose entirely"})
        assert [n.code for n in world.bank.jobs.plan(other).grants] == ["purpose_differs"] * 2

    playing(tmp_path, play, ("data-co", "shop"))


def test_terms_have_one_spelling(tmp_path: Path) -> None:
    ask = Ask(
        id="g-" + "b" * 16,
        holder="data-co",
        user="bank",
        dataset="table",
        purpose=PURPOSE,
        until="2099-01-01",
    )
    assert Ask.from_bytes(ask.to_bytes()) == ask
    for body in (b"", b"[]", ask.to_bytes() + b" ", ask.to_bytes().replace(b'"runs":1', b'"runs":true')):
        with pytest.raises(IsthmusError) as caught:
            Ask.from_bytes(body)
        assert caught.value.code == "bad_message"


def test_a_grant_for_one_job_does_not_reach_beyond_the_cap_of_thirty_days(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        for turn in range(3):
            job_id = await world.propose(f"turn-{turn}", privacy={"runs_30d": 2})
            if turn < 2:
                await partner.jobs.accept(job_id, grant=True)
                await world.ended(job_id)
        with pytest.raises(PolicyError) as caught:
            await partner.jobs.accept(job_id, grant=True)
        assert caught.value.code == "runs_spent"
        assert len(partner.store.grants()) == 2
        assert partner.jobs.find(job_id).state == "proposed"

    playing(tmp_path, play)
