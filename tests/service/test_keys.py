"""A party changes its key: both sides follow, whatever is interrupted; and a partner is trusted no more. (T22, D5)"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from isthmus.base.errors import ConfigError, IsthmusError, LineError, LocalError, PeerError
from isthmus.crypto.seal import PartyKey, verify
from isthmus.jobs.consent import sign, verify_consent
from isthmus.service.keys import lineage, offer_text, signing_keys
from isthmus.service.partner_line import KeyOffered
from isthmus.store.audit import AuditCheck, lineage_of
from isthmus.store.records import KnownKey
from isthmus.wire.link import Link, Partner
from tests.service.pair_of_nodes import Party, join, two, until
from tests.service.parties import World

JOB = b"J" * 32


def play(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def followed(who: Party, partner: Party) -> bool:
    """Whether the change is over at both sides."""
    return who.node.keys.row is None and partner.pinned(who.name) == who.node.key.public


@pytest.mark.parametrize("which", [0, 1])
def test_a_key_is_changed_while_a_channel_is_in_use_and_nothing_is_lost(tmp_path: Path, which: int) -> None:
    async def test() -> None:
        async with two(tmp_path) as pair:
            who, partner = pair[which], pair[1 - which]
            there, back = who.node.link.open(partner.name, JOB), partner.node.link.open(who.name, JOB)
            old = who.node.key.public

            async def take() -> list[bytes]:
                return [await back.get() for _ in range(200)]

            taking = asyncio.create_task(take())
            for number in range(100):
                await there.put(bytes([number]))
            who.node.keys.rotate()
            for number in range(100, 200):
                await there.put(bytes([number]))
            assert await taking == [bytes([number]) for number in range(200)]
            await until(lambda: followed(who, partner))
            await back.put(b"still there")
            assert await there.get() == b"still there"
            assert who.node.key.public != old
            assert who.folder.party_key().public == who.node.key.public
            assert not who.folder.next_key_file.exists()
            assert [k for k in who.kinds() if k.startswith("key.")] == [
                "key.offered", "key.rotated", "key.taken"
            ]  # fmt: skip
            changes = [k for k in partner.kinds() if "key" in k]
            assert changes == ["partner.key_offered", "partner.key_changed"]
            await who.again()
            await until(lambda: who.connected(partner.name) and partner.connected(who.name))
            assert (who.findings(), partner.findings()) == ([], [])

    play(test)


def test_both_change_their_keys_at_once_and_twice(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            for _ in range(2):
                bank.node.keys.rotate()
                other.node.keys.rotate()
                await until(lambda: followed(bank, other) and followed(other, bank))
            await until(lambda: bank.connected("data-co") and other.connected("bank"))
            assert (bank.findings(), other.findings()) == ([], [])
            assert len(lineage(bank.node.store, "bank", bank.node.key.public)) == 3

    play(test)


BOUNDARIES = ("put_next_key", "noted", "pinned", "finished", "take_next_key")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_crash_at_any_step_of_a_change_leaves_a_line_that_works(
    tmp_path: Path, which: int, boundary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every durable step the process is gone right after it; started again, both sides end with the new key."""

    async def test() -> None:
        async with two(tmp_path) as pair:
            who, partner = pair[which], pair[1 - which]
            struck = partner if boundary == "pinned" else who
            reached = asyncio.Event()

            def after(target: Any, name: str, count: int = 1) -> None:
                inner, calls = getattr(target, name), [0]

                def dies(*given: Any, **named: Any) -> Any:
                    inner(*given, **named)
                    calls[0] += 1
                    if calls[0] == count:
                        reached.set()
                    if calls[0] >= count:
                        raise LocalError("disk_error", path="x", why="the process ends here")

                monkeypatch.setattr(target, name, dies)

            store = struck.node.store
            if boundary in ("put_next_key", "take_next_key"):
                after(struck.folder, boundary)
            else:
                after(store, "change_keys", {"noted": 1, "pinned": 1, "finished": 2}[boundary])
            try:
                who.node.keys.rotate()
            except LocalError:
                assert boundary in ("put_next_key", "noted")
            await asyncio.wait_for(reached.wait(), 20)
            monkeypatch.undo()
            await struck.again()
            if boundary == "put_next_key":
                assert who.node.keys.row is None
                assert not who.folder.next_key_file.exists()
                who.node.keys.rotate()
            await until(lambda: followed(who, partner))
            await until(lambda: who.connected(partner.name) and partner.connected(who.name))
            assert (who.findings(), partner.findings()) == ([], [])
            mine, theirs = who.node.link.open(partner.name, JOB), partner.node.link.open(who.name, JOB)
            await mine.put(b"after the crash")
            assert await theirs.get() == b"after the crash"

    play(test)


def test_a_partner_that_is_away_follows_when_it_comes_back_within_the_overlap(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            await other.stop()
            bank.node.keys.rotate()
            assert bank.node.keys.waits_for() == ["data-co"]
            with pytest.raises(ConfigError) as caught:
                bank.node.keys.rotate()
            assert caught.value.code == "rotating"
            await bank.again()
            assert bank.node.keys.waits_for() == ["data-co"]
            await other.again()
            await until(lambda: followed(bank, other))

    play(test)


def test_when_the_time_is_up_the_old_key_counts_no_more_even_for_who_was_away(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            await other.stop()
            old = bank.node.key.public
            bank.node.keys.rotate(timedelta(days=7))
            bank.clock.ahead = timedelta(days=7, seconds=1)
            bank.node.keys.tend()
            assert bank.node.keys.row is None
            assert bank.node.key.public != old
            await other.again()
            await until(lambda: other.node.link.state("bank").problem)
            problem = other.node.link.state("bank").problem
            assert problem is not None
            assert "does not accept the key" in problem.sentence("en")
            assert other.pinned("bank") == old
            # A new invitation is the way back.
            other.node.partners.revoke("bank")
            bank.node.partners.revoke("data-co")
            bank.clock.ahead += timedelta(seconds=1)
            await join(bank, other)
            assert (bank.findings(), other.findings()) == ([], [])

    play(test)


def test_a_partner_that_heard_of_the_key_drops_the_old_one_when_the_time_is_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            old, new = bank.node.key.public, PartyKey.generate()
            key = bank.folder.party_key()
            text = offer_text("bank", old, new.public, 3600)
            other.node.keys.on_offered("bank", KeyOffered(new.public, 3600, key.sign(text), new.sign(text)))
            assert other.pinned("bank") == old
            other.node.keys.tend()
            assert other.pinned("bank") == old
            other.clock.ahead = timedelta(hours=1, seconds=1)
            other.node.keys.tend()
            assert other.pinned("bank") == new.public

    play(test)


def test_an_offer_that_not_both_keys_signed_pins_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            key, new, evil = bank.folder.party_key(), PartyKey.generate(), PartyKey.generate()
            good = offer_text("bank", key.public, new.public, 60)
            offers = [
                KeyOffered(new.public, 60, evil.sign(good), new.sign(good)),
                KeyOffered(new.public, 60, key.sign(good), evil.sign(good)),
                KeyOffered(new.public, 61, key.sign(good), new.sign(good)),
                KeyOffered(evil.public, 60, key.sign(good), evil.sign(good)),
            ]
            elsewhere = offer_text("shop", key.public, new.public, 60)
            offers.append(KeyOffered(new.public, 60, key.sign(elsewhere), new.sign(elsewhere)))
            own = other.folder.party_key()
            taken = offer_text("bank", key.public, own.public, 60)
            offers.append(KeyOffered(own.public, 60, key.sign(taken), own.sign(taken)))
            for offer in offers:
                with pytest.raises(PeerError):
                    other.node.keys.on_offered("bank", offer)
            assert other.node.store.known_keys("bank") == []
            assert other.node.keys.on_offered("nobody", offers[0]) is None
            pinned = other.node.keys.on_offered(
                "bank", KeyOffered(new.public, 60, key.sign(good), new.sign(good))
            )
            assert pinned is not None
            second = PartyKey.generate()
            text = offer_text("bank", key.public, second.public, 60)
            with pytest.raises(PeerError):
                other.node.keys.on_offered(
                    "bank", KeyOffered(second.public, 60, key.sign(text), second.sign(text))
                )

    play(test)


async def calls(key: PartyKey, bank: Party, certificate: bytes) -> IsthmusError | None:
    """What a process with this key meets when it calls the bank; None when a line stands."""
    link = Link(key, "data-co", poll_s=0.1, retry_s=0.01)
    link.add_partner(Partner("bank", bank.node.key.public, bank.node.config.address, certificate))
    await link.start()
    try:
        await until(lambda: link.state("bank").problem or link.state("bank").connected)
        return link.state("bank").problem
    finally:
        await link.close(0)


@pytest.mark.trust("T22")
def test_the_key_that_was_given_up_opens_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            stolen = other.folder.party_key()
            found = other.node.store.partner("bank")
            assert found is not None
            assert found.certificate_der is not None
            other.node.keys.rotate()
            await until(lambda: followed(other, bank))
            await other.stop()
            problem = await calls(stolen, bank, found.certificate_der)
            assert problem is not None
            assert "does not accept the key" in problem.sentence("en")
            assert await calls(other.folder.party_key(), bank, found.certificate_der) is None

    play(test)


def test_what_the_old_key_signed_is_taken_for_the_overlap_and_stands_in_the_record_for_ever(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            old = other.folder.party_key()
            consent = sign(b"d" * 32, 1, "data-co", old)
            before = bank.node.clock.now()
            other.node.keys.rotate()
            await until(lambda: followed(other, bank))
            partner = bank.node.store.partner("data-co")
            assert partner is not None

            def keys() -> tuple[bytes, ...]:
                assert partner is not None
                return signing_keys(bank.node.store, partner, bank.clock)

            verify_consent(b"d" * 32, 1, "data-co", keys(), consent)
            bank.clock.ahead = timedelta(days=8)
            with pytest.raises(PeerError):
                verify_consent(b"d" * 32, 1, "data-co", keys(), consent)
            (retired,) = bank.node.store.known_keys("data-co")
            assert (retired.public_key, retired.state) == (old.public, "retired")
            assert before < retired.at < retired.until
            record = lineage(bank.node.store, "data-co", partner.public_key)
            verify_consent(b"d" * 32, 1, "data-co", record, consent)

    play(test)


@pytest.mark.trust("T25")
def test_an_exported_log_is_checked_with_the_first_key_or_the_last(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            first = other.node.key.public
            for _ in range(2):
                other.node.keys.rotate()
                await until(lambda: followed(other, bank))
            lines = other.node.store.audit()
            newest = other.node.key.public

            def check(of: list[Any], key: bytes, *keys: bytes) -> list[tuple[str, int]]:
                judge = AuditCheck("data-co", keys or lineage_of(of, key), of[0].number)
                for line in of:
                    judge.take(line)
                return [(found.trouble, found.first) for found in judge.findings]

            assert check(lines, first) == check(lines, newest) == []
            assert check(lines[4:], newest) == []
            assert check(lines, PartyKey.generate().public)
            at = next(i for i, line in enumerate(lines) if line.kind == "key.rotated")
            gap = lines[:at] + lines[at + 1 :]
            assert check(gap, newest, *lineage_of(lines, newest)) == [("missing", at + 1)]
            # The history before the newest key, told anew by somebody who made that key's predecessor up.
            forged = PartyKey.generate()
            assert check(lines[: at + 1], forged.public)
            assert lineage_of(lines[: at + 1], bytes.fromhex(lines[at].digest)) == (
                bytes.fromhex(lines[at].digest),
            )

    play(test)


def test_a_line_that_the_old_key_signs_after_its_end_is_found(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            old = other.folder.party_key()
            other.node.keys.rotate()
            await until(lambda: followed(other, bank))
            lines = other.node.store.audit()
            from isthmus.store.audit import AuditKind, Note

            note = Note("data-co", old, other.node.clock.now(), "data-co", AuditKind.NODE_STARTED)
            lines.append(note.after(lines[-1]))
            check = AuditCheck("data-co", lineage_of(lines, old.public))
            for line in lines:
                check.take(line)
            assert [(f.trouble, f.first) for f in check.findings] == [("changed", lines[-1].number)]

    play(test)


@pytest.mark.trust("T22")
def test_a_revoked_partner_is_out_at_once_and_comes_back_by_a_new_invitation_only(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            waiting = bank.node.partners.invite()
            mine, theirs = bank.node.link.open("data-co", JOB), other.node.link.open("bank", JOB)
            await theirs.put(b"before")
            assert await mine.get() == b"before"
            halted: list[str] = []
            bank.node.partners._on_revoked = halted.append
            bank.node.partners.revoke("data-co")
            assert halted == ["data-co"]
            bank.node._on_revoked("data-co")
            with pytest.raises(LineError) as closed:
                await mine.get()
            assert closed.value.code == "closed"
            await until(lambda: not other.connected("bank"))
            problem = other.node.link.state("bank").problem
            assert problem is not None
            assert bank.node.store.partners() == []
            assert bank.kinds()[-1] == "partner.revoked"
            with pytest.raises(ConfigError):
                bank.node.partners.revoke("data-co")
            # An invitation from before opens nothing for it, the next one does.
            other.node.partners.revoke("bank")
            bank.node.partners._on_revoked = bank.node._on_revoked
            with pytest.raises(ConfigError) as late:
                await other.node.partners.accept(waiting)
            assert late.value.code == "bad_invitation"
            bank.clock.ahead = timedelta(seconds=1)
            await join(bank, other)
            assert (bank.findings(), other.findings()) == ([], [])
            verify(other.node.key.public, other.node.key.sign(b"x"), b"x")

    play(test)


@pytest.mark.trust("P6")
@pytest.mark.parametrize("years", [-10, 10])
def test_a_partner_whose_clock_is_years_off_follows_a_change_of_keys_as_well(
    tmp_path: Path, years: int
) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            other.clock.ahead = timedelta(days=365 * years)
            other.node.keys.rotate()
            bank.node.keys.rotate()
            await until(lambda: followed(bank, other) and followed(other, bank))
            assert (bank.findings(), other.findings()) == ([], [])

    play(test)


@pytest.mark.trust("T25")
def test_a_proposal_that_the_old_key_signed_can_be_accepted_long_after(tmp_path: Path) -> None:
    """What held when it came holds; the same signature under another job does not."""

    async def play_jobs() -> None:
        async with World(tmp_path) as world:
            (partner,) = world.partners
            job_id = await world.propose()
            await until(lambda: partner.store.jobs())
            bank = partner.store.partner("bank")
            assert bank is not None
            new, now = PartyKey.generate(), partner.jobs._clock.now()
            retired = KnownKey("bank", bank.public_key, "retired", now, now - timedelta(days=1))
            partner.store.change_keys([], put=[retired], partner=replace(bank, public_key=new.public))
            job = partner.store.jobs()[0]
            (asked,) = [a for a in partner.store.answers(job_id) if a.party == "bank"]
            assert asked.signature is not None
            partner.jobs._verify(job, "bank", asked.signature)
            for other in (replace(job, digest=b"o" * 32), replace(job, number=2)):
                with pytest.raises(PeerError):
                    partner.jobs._verify(other, "bank", asked.signature)
            with pytest.raises(PeerError):
                partner.jobs._verify(job, "bank", sign(job.digest, job.number, "bank", PartyKey.generate()))
            assert (await partner.jobs.accept(job_id)).state == "accepted"

    asyncio.run(play_jobs())
