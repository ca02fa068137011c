"""Two links over memory: channels, back-pressure, restarts, partners with bad manners."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from isthmus.base.errors import ConfigError, LineError, LocalError, PeerError
from isthmus.wire.channel import Channel, Line
from isthmus.wire.dialer import Transport
from isthmus.wire.envelope import BODY_MAX_BYTES, Kind, read_header
from isthmus.wire.faults import Fault, FaultyTransport
from isthmus.wire.lane import WINDOW
from isthmus.wire.link import CONTROL, Link, Partner
from isthmus.wire.message import MESSAGE_MAX_BYTES, Abort
from isthmus.wire.peer import EXCHANGE, Refused
from tests.wire.mallory import Frames, MalloryDials, MalloryListens
from tests.wire.pair import (
    JOB,
    KEY_A,
    KEY_B,
    KEY_C,
    Wire,
    add_powers,
    memory_links,
    new_a,
    new_b,
    run,
    send_powers,
    until,
)


async def code_of(waiting: object) -> str:
    with pytest.raises((LineError, PeerError)) as caught:
        await waiting  # type: ignore[misc]
    return str(caught.value.code)


def test_bodies_cross_both_ways_at_once_in_order_and_once() -> None:
    async def test() -> None:
        async with memory_links() as links:
            a, b = links.open()
            await asyncio.gather(send_powers(a, 60), send_powers(b, 60), add_powers(a, 60), add_powers(b, 60))
            await asyncio.gather(a.drained(), b.drained())  # type: ignore[attr-defined]

    run(test)


def test_five_mebibytes_cross_both_ways_at_once_between_short_and_empty_bodies() -> None:
    async def test() -> None:
        async with memory_links() as links:
            a, b = links.open()
            bodies = [
                os.urandom(5 * 2**20),
                b"",
                b"x",
                os.urandom(BODY_MAX_BYTES),
                os.urandom(BODY_MAX_BYTES + 1),
            ]

            async def send(line: Line) -> None:
                for body in bodies:
                    await line.put(body)

            async def receive(line: Line) -> None:
                for body in bodies:
                    assert await line.get() == body

            await asyncio.gather(send(a), send(b), receive(a), receive(b))

    run(test)


@pytest.mark.trust("P5")
def test_channels_do_not_mix() -> None:
    async def test() -> None:
        async with memory_links() as links:
            pairs = {(job, n): links.open(job * 32, n) for job in (b"1", b"2") for n in (0, 1)}
            for (job, number), (a, _) in pairs.items():
                await a.put(job + bytes([number]))
            for (job, number), (_, b) in pairs.items():
                assert await b.get() == job + bytes([number])

    run(test)


def test_what_is_sent_before_the_other_side_opens_waits_and_arrives() -> None:
    async def test() -> None:
        async with memory_links() as links:
            for number, (early, late) in enumerate(((links.b, links.a), (links.a, links.b))):
                name, other = ("a", "b") if early is links.b else ("b", "a")
                line = early.open(name, JOB, number)
                sending = asyncio.ensure_future(send_powers(line, 30))
                await asyncio.sleep(0.12)
                assert not sending.done()
                assert await add_powers(late.open(other, JOB, number), 30) == 2**30 - 1
                await sending

    run(test)


def test_a_slow_taker_makes_the_sender_wait_and_loses_nothing() -> None:
    async def test() -> None:
        async with memory_links() as links:
            for sender, taker in (links.open(JOB, 0), links.open(JOB, 1)[::-1]):
                sent: list[int] = []

                async def send(line: Line = sender, sent: list[int] = sent) -> None:
                    for power in range(50):
                        await line.put((1 << power).to_bytes(16, "little"))
                        sent.append(power)

                sending = asyncio.ensure_future(send())
                await asyncio.sleep(0.15)
                assert WINDOW <= len(sent) <= 2 * WINDOW + 2
                assert not sending.done()
                assert await add_powers(taker, 50) == 2**50 - 1
                await sending

    run(test)


def test_a_close_delivers_what_was_put_before_and_ends_both_ends() -> None:
    async def test() -> None:
        async with memory_links() as links:
            for number in (0, 1):
                first, second = links.open(JOB, number)
                if number:
                    first, second = second, first
                await first.put(b"last words")
                await first.close()
                await first.close()
                assert await second.get() == b"last words"
                assert await code_of(second.get()) == "closed"
                assert await code_of(second.put(b"x")) == "closed"
                assert await code_of(first.get()) == "closed"
                assert await code_of(first.put(b"x")) == "closed"
                await second.close()
                await asyncio.gather(first.drained(), second.drained())  # type: ignore[attr-defined]

    run(test)


def test_a_close_wakes_those_who_wait() -> None:
    async def test() -> None:
        async with memory_links() as links:
            a, b = links.open()
            getting = [asyncio.ensure_future(line.get()) for line in (a, b)]
            await asyncio.sleep(0.02)
            await b.close()
            for waiting in getting:
                assert await code_of(waiting) == "closed"

    run(test)


def test_a_get_that_is_given_up_loses_nothing() -> None:
    async def test() -> None:
        async with memory_links() as links:
            a, b = links.open()
            body = os.urandom(3 * BODY_MAX_BYTES)
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(b.get(), 0.003)
            await a.put(body)
            received = b""
            while not received:
                try:
                    received = await asyncio.wait_for(b.get(), 0.002)
                except TimeoutError:
                    continue
            assert received == body

    run(test)


def test_a_role_that_stops_is_heard_of_by_the_other() -> None:
    async def test() -> None:
        async with memory_links() as links:
            a, b = (Channel(line) for line in links.open())
            await a.abort(LineError("unreachable"))
            await a.close()
            assert await code_of(b.recv(Abort)) == "partner_failed"

    run(test)


def test_a_message_over_the_limit_is_refused_at_home() -> None:
    async def test() -> None:
        async with memory_links() as links:
            a, _ = links.open()
            with pytest.raises(ValueError, match="chunks"):
                await a.put(bytes(MESSAGE_MAX_BYTES + 1))

    run(test)


def test_a_channel_opens_once_and_only_with_a_known_partner() -> None:
    async def test() -> None:
        async with memory_links() as links:
            links.open()
            with pytest.raises(LocalError):
                links.a.open("b", JOB)
            with pytest.raises(ConfigError) as caught:
                links.a.open("nobody", JOB)
            assert caught.value.code == "not_found"
            with pytest.raises(ConfigError):
                links.a.add_partner(Partner("b", KEY_C.public))
            with pytest.raises(ConfigError):
                links.a.add_partner(Partner("other", KEY_B.public))

    run(test)


def test_both_sides_show_how_the_line_stands() -> None:
    async def test() -> None:
        async with memory_links() as links:
            before = links.b.state("a")
            assert (before.connected, before.dials, before.version) == (False, True, None)
            await until(lambda: links.a.state("b").connected and links.b.state("a").connected)
            for state in (links.a.state("b"), links.b.state("a")):
                assert state.round_trip_s is not None
                assert state.clock_offset_s is not None
                assert abs(state.clock_offset_s) < 5
                assert (state.version, state.problem, state.refused) == (1, None, 0)
            assert links.b.state("a").sent_bytes > 0
            probe = await links.b.probe("a")
            assert probe.largest_body_bytes == BODY_MAX_BYTES
            assert probe.up_bytes_per_s
            assert probe.down_bytes_per_s
            assert (await links.a.probe("b")).largest_body_bytes is None

    run(test)


def test_a_tool_gives_up_after_the_time_it_was_given_and_names_the_reason() -> None:
    async def dead(partner: Partner, path: str, body: bytes) -> bytes:
        raise LineError("unreachable", partner=partner.name, why="nothing there")

    async def test() -> None:
        b = new_b(dead, give_up_s=0.05)
        await b.start()
        line = b.open("a", JOB)
        await line.put(b"queued")
        with pytest.raises(LineError) as caught:
            await line.get()
        assert caught.value.fields["why"] == "nothing there"
        assert not b.state("a").connected
        await b.close(0)

    run(test)


@pytest.mark.trust("M13")
def test_keys_are_changed_while_messages_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.wire.dialer._SESSION_S", 0.005)

    async def test() -> None:
        made: list[FaultyTransport] = []

        def wrap(inner: Transport) -> Transport:
            made.append(FaultyTransport(inner))
            return made[0]

        async with memory_links(wrap) as links:
            a, b = links.open()
            for _ in range(4):
                await asyncio.gather(
                    send_powers(a, 20), add_powers(b, 20), send_powers(b, 20), add_powers(a, 20)
                )
                await asyncio.sleep(0.02)
            sessions = {read_header(seen.request).session for seen in made[0].seen if seen.path == EXCHANGE}
            assert len(sessions) > 2
            assert links.b.state("a").problem is None

    run(test)


# Restarts.


def test_a_restart_of_the_listener_fails_job_channels_and_starts_control_anew() -> None:
    async def test() -> None:
        async with memory_links() as links:
            job_a, job_b = links.open()
            control_a, control_b = links.open(CONTROL)
            await job_a.put(b"x")
            await control_a.put(b"x")
            assert [await job_b.get(), await control_b.get()] == [b"x", b"x"]
            untouched = links.b.open("a", JOB, 7)
            await links.a.close(0)
            again = new_a()
            await again.start()
            links.wire.link = again
            assert await code_of(job_b.get()) == "partner_restarted"
            assert await code_of(job_b.put(b"x")) == "partner_restarted"
            assert await code_of(control_b.get()) == "partner_restarted"
            control = again.open("b", CONTROL)
            await control.put(b"hello again")
            assert await control_b.get() == b"hello again"
            await control_b.put(b"and you")
            assert await control.get() == b"and you"
            await untouched.put(b"goes on")
            assert await again.open("b", JOB, 7).get() == b"goes on"
            await links.b.open("a", JOB).close()
            await again.close(0)

    run(test)


def test_a_restart_of_the_dialer_fails_job_channels_and_starts_control_anew() -> None:
    async def test() -> None:
        a = new_a()
        b = new_b(Wire(a))
        await b.start()
        job, control = a.open("b", JOB), a.open("b", CONTROL)
        await b.open("a", JOB).put(b"x")
        old = b.open("a", CONTROL)
        await old.put(b"1")
        await old.put(b"2")
        assert [await job.get(), await control.get()] == [b"x", b"1"]
        await b.close(0)
        again = new_b(Wire(a))
        await again.start()
        assert await code_of(job.get()) == "partner_restarted"
        assert await code_of(control.get()) == "partner_restarted"
        new = again.open("a", CONTROL)
        await new.put(b"3")
        await control.put(b"4")
        assert (await control.get(), await new.get()) == (b"3", b"4")
        await again.close(0)
        await a.close(0)

    run(test)


def test_what_was_meant_for_the_process_before_a_restart_never_reaches_the_new_one() -> None:
    async def test() -> None:
        away = False

        def wrap(inner: Transport) -> Transport:
            return FaultyTransport(inner, lambda number, path, body: Fault.BEFORE if away else Fault.NONE)

        async with memory_links(wrap) as links:
            control_a, control_b = links.open(CONTROL)
            await control_b.put(b"1")
            assert await control_a.get() == b"1"
            away = True
            await control_b.put(b"for the old one")
            await until(lambda: not links.b.state("a").connected)
            await asyncio.sleep(0.05)
            again = new_a()
            control = again.open("b", CONTROL)
            links.wire.link = again
            away = False
            assert await code_of(control_b.get()) == "partner_restarted"
            await asyncio.sleep(0.03)
            await control_b.put(b"2")
            await control_b.put(b"3")
            assert [await control.get(), await control.get()] == [b"2", b"3"]
            await again.close(0)

    run(test)


def test_a_late_answer_of_the_process_before_a_restart_is_not_applied() -> None:
    async def test() -> None:
        held, release = asyncio.Event(), asyncio.Event()

        def wrap(inner: Transport) -> Transport:
            async def send(partner: Partner, path: str, body: bytes) -> bytes:
                reply = await inner(partner, path, body)
                if path == EXCHANGE and not held.is_set() and read_header(reply).kind == Kind.FRAME:
                    held.set()
                    await release.wait()
                return reply

            return send

        async with memory_links(wrap) as links:
            old, job = links.open()
            links.b.open("a", CONTROL)
            await old.put(b"old")
            await held.wait()
            again = new_a()
            links.wire.link = again
            await until(lambda: again.state("b").connected)
            release.set()
            await again.open("b", JOB).put(b"new")
            assert await job.get() == b"new"
            await again.close(0)

    run(test)


def test_a_greeting_from_an_older_process_that_is_replayed_restarts_nothing() -> None:
    async def test() -> None:
        greetings: list[bytes] = []

        def record(inner: Transport) -> Transport:
            async def send(partner: Partner, path: str, body: bytes) -> bytes:
                if path != EXCHANGE:
                    greetings.append(body)
                return await inner(partner, path, body)

            return send

        a = new_a()
        first = new_b(record(Wire(a)))
        await first.start()
        await until(lambda: first.state("a").connected)
        await first.close(0)
        second = new_b(record(Wire(a)))
        await second.start()
        here, there = a.open("b", JOB), second.open("a", JOB)
        await there.put(b"1")
        assert await here.get() == b"1"
        for _ in range(20):
            await a.handle("/link/v1/hello", greetings[0], "attacker")
        await there.put(b"2")
        await here.put(b"3")
        assert (await here.get(), await there.get()) == (b"2", b"3")
        await second.close(0)
        await a.close(0)

    run(test)


@pytest.mark.trust("P9")
def test_another_version_is_named_on_both_sides_before_any_data() -> None:
    async def test() -> None:
        a = new_a(version=2)
        b = new_b(Wire(a))
        await b.start()
        await until(lambda: b.state("a").problem is not None and a.state("b").problem is not None)
        for state, ours, theirs in ((b.state("a"), 1, 2), (a.state("b"), 2, 1)):
            assert state.problem is not None
            assert state.problem.code == "version_gap"
            assert (state.problem.fields["ours"], state.problem.fields["theirs"]) == (ours, theirs)
            assert not state.connected
        await b.close(0)
        await a.close(0)

    run(test)


@pytest.mark.trust("T22")
def test_an_unknown_key_is_refused_without_a_word_and_only_so_often() -> None:
    async def test() -> None:
        a = new_a()
        stranger = Link(KEY_C, "c", transport=Wire(a), poll_s=0.05, retry_s=0.001)
        stranger.add_partner(Partner("a", KEY_A.public, "https://a.invalid"))
        await stranger.start()
        await until(lambda: stranger.state("a").problem is not None)
        problem = stranger.state("a").problem
        assert problem is not None
        assert "key" in str(problem)
        await stranger.close(0)
        statuses = set()
        for _ in range(140):
            with pytest.raises(Refused) as caught:
                await a.handle("/link/v1/hello", os.urandom(164), "attacker")
            assert caught.value.body == b""
            statuses.add(caught.value.status)
        assert statuses == {403, 429}
        await a.close(0)

    run(test)


def test_a_removed_partner_is_unknown_at_once_and_its_channels_end() -> None:
    async def test() -> None:
        async with memory_links() as links:
            a, b = links.open()
            await a.put(b"x")
            assert await b.get() == b"x"
            links.a.remove_partner("b")
            assert await code_of(a.get()) == "closed"
            await until(lambda: not links.b.state("a").connected)
            links.a.add_partner(Partner("b", KEY_B.public))
            await until(lambda: links.b.state("a").connected)
            links.b.remove_partner("a")
            assert await code_of(b.get()) == "closed"

    run(test)


def knows(link: Link, name: str) -> bool:
    try:
        link.state(name)
    except ConfigError:
        return False
    return True


def test_a_partner_that_is_removed_still_hears_what_was_said_before_and_nothing_else() -> None:
    async def test() -> None:
        async with memory_links() as links:
            here, there = links.open(CONTROL)
            await there.put(b"hello")
            assert await here.get() == b"hello"
            for number in range(5):
                await here.put(b"%d" % number)
            await here.close()
            links.a.remove_partner("b", farewell_s=5.0)
            assert [await there.get() for _ in range(5)] == [b"%d" % number for number in range(5)]
            assert await code_of(there.get()) == "closed"
            await until(lambda: not knows(links.a, "b"))

    run(test)


def test_a_partner_that_comes_back_during_its_farewell_is_known_anew() -> None:
    async def test() -> None:
        async with memory_links() as links:
            here, there = links.open(CONTROL)
            await here.put(b"x")
            assert await there.get() == b"x"
            links.a.remove_partner(
                "b", farewell_s=60.0
            )  # the channel is not closed: this would take a minute
            links.a.add_partner(Partner("b", KEY_B.public))
            assert await code_of(here.get()) == "closed"
            again = links.a.open("b", CONTROL)
            await again.put(b"y")
            await until(lambda: links.b.state("a").connected)

    run(test)


def test_closing_a_link_waits_for_what_a_closed_channel_still_has_to_say() -> None:
    async def test() -> None:
        async with memory_links() as links:
            a, b = links.open()
            await asyncio.sleep(0.02)
            for _ in range(5):
                await b.put(os.urandom(1000))
            await b.close()
            await links.b.close(5.0)
            assert len([await a.get() for _ in range(5)]) == 5
            assert await code_of(a.get()) == "closed"

    run(test)


# Partners with bad manners.


@pytest.mark.trust("P4")
def test_a_dialer_that_changes_a_frame_fails_the_channel_on_both_sides() -> None:
    async def test() -> None:
        a = new_a()
        line, other = a.open("b", JOB), a.open("b", JOB, 1)
        mallory = MalloryDials(a, KEY_B, KEY_A)
        await mallory.shake()
        first = mallory.frames.next(b"one")
        assert (await mallory.ask(Kind.PUSH, b"one", **first))[0].ack == 1
        assert (await mallory.ask(Kind.PUSH, b"one", **first))[0].ack == 1
        header, body = await mallory.ask(Kind.PUSH, b"two", **first)
        assert (header.kind, body) == (Kind.REFUSED, b"step_changed")
        assert await code_of(line.get()) == "step_changed"
        assert await code_of(line.put(b"x")) == "step_changed"
        header, body = await mallory.ask(Kind.PULL, number=1)
        assert (header.kind, body) == (Kind.REFUSED, b"step_changed")
        frames = Frames("b", "a", JOB, 1)
        await mallory.ask(Kind.PUSH, b"fine", channel=1, **frames.next(b"fine"))
        assert await other.get() == b"fine"
        await a.close(0)

    run(test)


@pytest.mark.trust("P4")
def test_a_listener_that_changes_a_frame_fails_the_channel_on_both_sides() -> None:
    async def test() -> None:
        mallory = MalloryListens(KEY_A, KEY_B)
        first = mallory.frames.next(b"one")
        second = mallory.frames.next(b"two")
        mallory.script = [
            (Kind.FRAME, b"one", first),
            (Kind.FRAME, b"two", {**second, "previous": bytes(32)}),
        ]
        b = new_b(mallory)
        await b.start()
        line = b.open("a", JOB)
        await until(lambda: any(header.kind == Kind.FAIL for header, _ in mallory.heard))
        assert [body for header, body in mallory.heard if header.kind == Kind.FAIL] == [b"step_changed"]
        assert await code_of(line.get()) == "step_changed"
        assert b.state("a").connected
        await b.close(0)

    run(test)


@pytest.mark.trust("P5")
@pytest.mark.parametrize(
    "changes",
    [{"number": 2}, {"job": b"other job".ljust(32)}, {"channel": 9}, {"answers": 77}, {"number": 2**63}],
)
def test_an_answer_that_is_not_the_one_asked_for_is_not_applied(changes: dict[str, object]) -> None:
    async def test() -> None:
        mallory = MalloryListens(KEY_A, KEY_B)
        mallory.script = [(Kind.FRAME, b"one", {**mallory.frames.next(b"one"), **changes})]
        b = new_b(mallory)
        await b.start()
        line = b.open("a", JOB)
        getting = asyncio.ensure_future(line.get())
        await until(lambda: not mallory.script)
        await asyncio.sleep(0.03)
        assert not getting.done() or isinstance(getting.exception(), PeerError)
        getting.cancel()
        await asyncio.gather(getting, return_exceptions=True)
        await b.close(0)

    run(test)


@pytest.mark.trust("P1")
def test_requests_that_make_no_sense_are_refused_and_change_nothing() -> None:
    async def test() -> None:
        a = new_a()
        line = a.open("b", JOB)
        mallory = MalloryDials(a, KEY_B, KEY_A)
        await mallory.shake()
        nonsense: list[tuple[Kind, dict[str, Any]]] = [
            (Kind.TOLD, {"ack": 5}),
            (Kind.PULL, {"ack": 1, "number": 2}),
            (Kind.TOLD, {"ack": 2**64 - 1}),
        ]
        for kind, fields in nonsense:
            header, body = await mallory.ask(kind, **fields)
            assert (header.kind, body) == (Kind.REFUSED, b"bad_message")
        for kind in (Kind.FRAME, Kind.ACK, Kind.REFUSED, Kind.PONG):
            with pytest.raises(Refused):
                await a.handle(EXCHANGE, mallory.seal(kind, b"x"))
        assert (await mallory.ask(Kind.PULL, number=2**63))[0].kind == Kind.EMPTY
        assert (await mallory.ask(Kind.PUSH, b"x", number=100, ends=1))[0].ack == 0
        assert (await mallory.ask(Kind.PUSH, b"x", channel=5, number=1, ends=1))[0].ack == 0
        await mallory.ask(Kind.PUSH, b"fine", **mallory.frames.next(b"fine"))
        assert await line.get() == b"fine"
        await a.close(0)

    run(test)


@pytest.mark.trust("P2")
def test_a_frame_of_an_ended_session_that_was_held_back_is_never_applied() -> None:
    async def test() -> None:
        a = new_a()
        old = MalloryDials(a, KEY_B, KEY_A)
        await old.shake(b"1" * 16, poll_ms=2000)
        stale = asyncio.ensure_future(old.ask(Kind.PUSH, b"stale", **old.frames.next(b"stale")))
        await asyncio.sleep(0.01)
        new = MalloryDials(a, KEY_B, KEY_A)
        await new.shake(b"2" * 16)
        await new.ask(Kind.PING, bytes(16), job=CONTROL)
        line = a.open("b", JOB)
        with pytest.raises(Refused):
            await stale
        await new.ask(Kind.PUSH, b"fresh", **new.frames.next(b"fresh"))
        assert await line.get() == b"fresh"
        await a.close(0)

    run(test)


def test_a_partner_cannot_hold_more_than_so_many_requests_open() -> None:
    async def test() -> None:
        a = new_a()
        mallory = MalloryDials(a, KEY_B, KEY_A)
        await mallory.shake(poll_ms=60_000)
        waiting = [asyncio.ensure_future(mallory.ask(Kind.PULL, number=1, channel=n)) for n in range(256)]
        await asyncio.sleep(0.05)
        with pytest.raises(Refused) as caught:
            await mallory.ask(Kind.PULL, number=1)
        assert caught.value.status == 429
        await a.close(0)
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, Refused)

    run(test)


def test_two_that_dial_each_other_carry_one_line() -> None:
    async def test() -> None:
        to_a, to_b = Wire(None), Wire(None)
        there, back = FaultyTransport(to_a), FaultyTransport(to_b)
        b = new_b(there)
        a = Link(KEY_A, "a", transport=back, poll_s=0.05, retry_s=0.004)
        a.add_partner(Partner("b", KEY_B.public, "https://b.invalid"))
        to_a.link, to_b.link = a, b
        await a.start()
        await b.start()
        first, second = a.open("b", JOB), b.open("a", JOB)
        await asyncio.gather(
            send_powers(first, 40), send_powers(second, 40), add_powers(first, 40), add_powers(second, 40)
        )
        assert a.state("b").connected
        assert b.state("a").connected
        await asyncio.sleep(0.1)
        before = there.count, back.count
        await asyncio.sleep(0.2)
        assert sorted((there.count > before[0], back.count > before[1])) == [False, True]
        await b.close(0)
        await a.close(0)

    run(test)
