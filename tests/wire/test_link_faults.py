"""The link under faults: every exchange cut, doubled, late, flipped, replayed. Each message counts exactly once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest

from isthmus.base.errors import LineError
from isthmus.wire.dialer import Transport
from isthmus.wire.envelope import Kind, read_header
from isthmus.wire.faults import Fault, FaultyTransport
from isthmus.wire.link import CONTROL, Partner
from isthmus.wire.peer import EXCHANGE, HELLO, Here, Refused
from tests.wire.pair import JOB, Pair, add_powers, memory_links, run, send_powers, until

COUNT = 14

Choose = Callable[[int, str, bytes], Fault]


async def talk(links: Pair, count: int = COUNT, number: int = 0) -> None:
    """Both ways at once, then question and answer, then a close from one side and the other."""
    a, b = links.open(JOB, number)
    await asyncio.gather(
        send_powers(a, count), send_powers(b, count), add_powers(a, count), add_powers(b, count)
    )
    for k in range(3):
        await b.put(b"question %d" % k)
        assert await a.get() == b"question %d" % k
        await a.put(b"answer %d" % k)
        assert await b.get() == b"answer %d" % k
    await a.put(b"last")
    await a.close()
    assert await b.get() == b"last"
    with pytest.raises(LineError):
        await b.get()
    await b.close()
    await asyncio.gather(a.drained(), b.drained())  # type: ignore[attr-defined]


def only(cut: int, fault: Fault) -> Choose:
    return lambda number, path, body: fault if number == cut else Fault.NONE


def talk_under(choose: Choose, **settings: object) -> FaultyTransport:
    """Run the conversation with these faults; the transport that saw them."""
    made: list[FaultyTransport] = []

    def wrap(inner: Transport) -> Transport:
        made.append(FaultyTransport(inner, choose, **settings))  # type: ignore[arg-type]
        return made[0]

    async def test() -> None:
        async with memory_links(wrap) as links:
            await talk(links)

    run(test, 20)
    return made[0]


@pytest.mark.trust("N1", "G3")
def test_every_exchange_cut_once_before_or_after_delivery_gives_the_same_messages() -> None:
    needed = talk_under(lambda number, path, body: Fault.NONE).count
    for fault in (Fault.BEFORE, Fault.AFTER):
        for cut in range(needed + 4):
            talk_under(only(cut, fault))


def test_the_first_two_tries_of_every_frame_cut_gives_the_same_messages() -> None:
    tries: dict[tuple[int, int], int] = {}

    def choose(number: int, path: str, body: bytes) -> Fault:
        if path != EXCHANGE:
            return Fault.NONE
        header = read_header(body)
        key = (header.kind, header.number)
        tries[key] = tries.get(key, 0) + 1
        return {1: Fault.BEFORE, 2: Fault.AFTER}.get(tries[key], Fault.NONE)

    talk_under(choose)
    assert {kind for kind, _ in tries} >= {Kind.PING, Kind.PUSH, Kind.PULL}


def test_a_lost_exchange_costs_a_ping_and_no_handshake() -> None:
    dice = random.Random(5)
    lost: list[int] = []
    greetings = 0

    def choose(number: int, path: str, body: bytes) -> Fault:
        nonlocal greetings
        if path == HELLO:
            greetings += 1
        if number < 2 or dice.random() < 0.5:
            return Fault.NONE
        lost.append(number)
        return dice.choice([Fault.BEFORE, Fault.AFTER])

    talk_under(choose)
    assert len(lost) > 20
    assert greetings == 1


def test_a_frame_that_is_lost_again_and_again_slows_down_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pause for each lost exchange, by the worker that lost it: none for the whole line."""
    lost = Counter[tuple[int, int]]()
    pauses: list[int] = []
    plain = Here.pause_s

    def pause_s(here: Here, tries: int) -> float:
        pauses.append(tries)
        return plain(here, 1)

    monkeypatch.setattr(Here, "pause_s", pause_s)

    def choose(number: int, path: str, body: bytes) -> Fault:
        if path != EXCHANGE:
            return Fault.NONE
        header = read_header(body)
        key = (header.kind, header.number)
        if header.kind not in (Kind.PUSH, Kind.PULL) or header.number % 5 or lost[key] == 6:
            return Fault.NONE
        lost[key] += 1
        return Fault.BEFORE

    talk_under(choose)
    assert lost[Kind.PUSH, 5] == lost[Kind.PULL, 5] == 6
    assert len(pauses) == sum(lost.values())


def test_what_was_acknowledged_is_never_sent_again_and_a_cut_costs_at_most_what_was_under_way() -> None:
    pushed: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    dice = random.Random(6)

    def choose(number: int, path: str, body: bytes) -> Fault:
        if path != EXCHANGE or (header := read_header(body)).kind != Kind.PUSH:
            return Fault.NONE
        pushed[header.number] += 1
        fault = dice.choice([Fault.NONE, Fault.BEFORE, Fault.AFTER])
        failed[header.number] += fault is not Fault.NONE
        return fault

    async def test() -> None:
        async with memory_links(lambda inner: FaultyTransport(inner, choose)) as links:
            a, b = links.open()
            bodies = [bytes([k]) * 3_000_000 for k in range(6)]

            async def send() -> None:
                for body in bodies:
                    await b.put(body)

            sending = asyncio.ensure_future(send())
            assert [await a.get() for _ in bodies] == bodies
            await sending

    run(test)
    assert sum(failed.values()) > 8
    assert all(count <= 1 + failed[number] for number, count in pushed.items())


def test_a_connection_that_breaks_while_the_listener_holds_its_answer_back_leaves_nothing_waiting() -> None:
    async def test() -> None:
        held: set[asyncio.Future[bytes]] = set()
        broken = 0

        def wrap(inner: Transport) -> Transport:
            async def send(partner: Partner, path: str, body: bytes) -> bytes:
                nonlocal broken
                if path != EXCHANGE or read_header(body).kind != Kind.PULL or broken == 8:
                    return await inner(partner, path, body)
                broken += 1
                request = asyncio.ensure_future(inner(partner, path, body))
                held.add(request)
                request.add_done_callback(held.discard)
                await asyncio.sleep(0)
                raise LineError("unreachable", partner="a", why="cut on purpose")

            return send

        async with memory_links(wrap, poll_s=30.0, retry_s=0.001) as links:
            a, b = links.open()
            await until(lambda: broken == 8 and not held)
            await a.put(b"at last")
            assert await b.get() == b"at last"

    run(test)


@pytest.mark.trust("P3", "M12")
def test_every_exchange_delivered_twice_counts_once() -> None:
    talk_under(lambda number, path, body: Fault.TWICE)


@pytest.mark.trust("P3")
@pytest.mark.parametrize("seed", range(8))
def test_any_mixture_of_faults_gives_the_same_messages(seed: int) -> None:
    dice = random.Random(seed)
    weights = {Fault.NONE: 10, Fault.BEFORE: 1, Fault.AFTER: 1, Fault.TWICE: 3, Fault.LATE: 3}
    talk_under(lambda number, path, body: dice.choices(list(weights), list(weights.values()))[0])


@pytest.mark.trust("P1")
@pytest.mark.parametrize("seed", range(4))
def test_flipped_and_cut_bytes_either_way_are_refused_and_the_line_goes_on(seed: int) -> None:
    dice = random.Random(seed)

    def harm(number: int, body: bytes) -> bytes:
        if not body or dice.random() > 0.06:
            return body
        at = dice.randrange(len(body))
        if dice.random() < 0.3:
            return body[:at]
        return body[:at] + bytes([body[at] ^ (1 << dice.randrange(8))]) + body[at + 1 :]

    talk_under(lambda number, path, body: Fault.NONE, on_request=harm, on_reply=harm)


@pytest.mark.trust("T22", "P1")
def test_each_flipped_byte_of_a_request_is_refused_and_then_the_true_one_counts() -> None:
    async def test() -> None:
        tried = 0

        def wrap(inner: Transport) -> Transport:
            async def send(partner: Partner, path: str, body: bytes) -> bytes:
                nonlocal tried
                if path == EXCHANGE and not tried and read_header(body).kind == Kind.PUSH:
                    for at in range(len(body)):
                        tried += 1
                        with pytest.raises(Refused) as caught:
                            await inner(partner, path, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
                        assert caught.value.status in (400, 410)
                    for size in range(0, len(body), 7):
                        with pytest.raises(Refused):
                            await inner(partner, path, body[:size])
                return await inner(partner, path, body)

            return send

        async with memory_links(wrap) as links:
            a, b = links.open()
            await b.put(b"whole")
            assert await a.get() == b"whole"
            assert tried > 200
            state = links.a.state("b")
            assert state.connected
            assert state.refused > 200

    run(test)


@pytest.mark.trust("P2", "K16")
def test_whatever_is_replayed_gets_the_stored_reply_or_is_refused_and_has_no_effect() -> None:
    async def test() -> None:
        made: list[FaultyTransport] = []

        def wrap(inner: Transport) -> Transport:
            made.append(FaultyTransport(inner))
            return made[0]

        async with memory_links(wrap) as links:
            a, b = links.open()
            await asyncio.gather(send_powers(b, 20), send_powers(a, 20), add_powers(a, 20), add_powers(b, 20))
            stored = 0
            for seen in list(made[0].seen):
                if seen.path == HELLO:
                    continue
                assert await links.a.handle(seen.path, seen.request) == seen.reply
                stored += 1
            assert stored > 40
            again = asyncio.ensure_future(a.get())
            await asyncio.sleep(0.01)
            assert not again.done()
            await b.put(b"new")
            assert await again == b"new"

    run(test)


@pytest.mark.trust("P2")
def test_old_requests_stay_refused_when_their_reply_is_no_longer_stored() -> None:
    async def test() -> None:
        made: list[FaultyTransport] = []

        def wrap(inner: Transport) -> Transport:
            made.append(FaultyTransport(inner))
            return made[0]

        async with memory_links(wrap) as links:
            a, b = links.open()

            async def take() -> None:
                for _ in range(6):
                    await b.get()

            taking = asyncio.ensure_future(take())
            for _ in range(6):
                await a.put(bytes(900_000))
            await taking
            outcomes = set()
            for seen in list(made[0].seen):
                if seen.path == EXCHANGE:
                    try:
                        assert await links.a.handle(seen.path, seen.request) == seen.reply
                        outcomes.add(200)
                    except Refused as refusal:
                        outcomes.add(refusal.status)
            assert outcomes == {200, 409}

    run(test)


@pytest.mark.trust("T22", "P5", "M14")
def test_reflected_requests_and_answers_sent_back_are_refused() -> None:
    async def test() -> None:
        made: list[FaultyTransport] = []

        def wrap(inner: Transport) -> Transport:
            made.append(FaultyTransport(inner))
            return made[0]

        async with memory_links(wrap) as links:
            await talk(links)
            for seen in made[0].seen:
                for link, body in ((links.b, seen.request), (links.b, seen.reply), (links.a, seen.reply)):
                    with pytest.raises(Refused):
                        await link.handle(seen.path, body, "attacker")

    run(test)


@pytest.mark.trust("T22", "P3")
def test_answers_that_are_swapped_or_old_are_not_taken() -> None:
    async def test() -> None:
        replies: list[bytes] = []

        def swap(number: int, reply: bytes) -> bytes:
            replies.append(reply)
            return replies[number // 2] if number % 7 == 6 else reply

        def wrap(inner: Transport) -> Transport:
            return FaultyTransport(inner, on_reply=swap)

        async with memory_links(wrap) as links:
            await talk(links)

    run(test)


@pytest.mark.trust("N1")
def test_while_the_partner_is_away_messages_wait_and_then_arrive_once() -> None:
    async def test() -> None:
        away = False

        def wrap(inner: Transport) -> Transport:
            return FaultyTransport(inner, lambda number, path, body: Fault.BEFORE if away else Fault.NONE)

        async with memory_links(wrap) as links:
            a, b = links.open()
            control_a, control_b = links.open(CONTROL)
            await b.put(b"1")
            assert await a.get() == b"1"
            away = True
            for line in (a, b, control_a, control_b):
                await line.put(b"later")
            await asyncio.sleep(0.15)
            state = links.b.state("a")
            assert not state.connected
            assert isinstance(state.problem, LineError)
            away = False
            for line in (a, b, control_a, control_b):
                assert await line.get() == b"later"
            assert links.b.state("a").connected
            assert links.b.state("a").since > state.since

    run(test)
