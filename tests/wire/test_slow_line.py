"""The slow line, by a clock that moves only when everybody waits for it."""

from __future__ import annotations

import asyncio
import heapq
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from isthmus.base.errors import LineError
from isthmus.wire.faults import GIGABIT, OFFICE, ChaosProxy, SlowLine
from isthmus.wire.memory import memory_pair
from tests.wire.pair import JOB, dialing, listening, run, until

MEGABYTE = bytes(10**6)


class Still:
    """A clock that stands still while anything can go on, and then jumps to the next moment that is waited for."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._due: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic_s(self) -> float:
        return self.now_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    async def sleep(self, seconds: float) -> None:
        moment = asyncio.get_running_loop().create_future()
        heapq.heappush(self._due, (self.now_s + seconds, id(moment), moment))
        await moment

    async def drive(self) -> None:
        while True:
            for _ in range(50):
                await asyncio.sleep(0)
            if self._due:
                self.now_s, _, moment = heapq.heappop(self._due)
                if not moment.done():
                    moment.set_result(None)


def by_the_clock(test: Callable[[Still], Awaitable[None]]) -> None:
    async def whole() -> None:
        clock = Still()
        driving = asyncio.ensure_future(clock.drive())
        try:
            await test(clock)
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)

    run(whole)


async def moments(clock: Still, line: SlowLine, bodies: list[bytes]) -> list[float]:
    """When each body arrived, seconds from now; they must come as they were sent."""
    began_s = clock.now_s
    came = []
    for body in bodies:
        assert await line.get() == body
        came.append(clock.now_s - began_s)
    return came


def test_bodies_leave_at_the_rate_and_do_not_wait_for_the_delay_of_those_before() -> None:
    async def test(clock: Still) -> None:
        ends = memory_pair(1)
        here, there = (SlowLine(end, bytes_per_s=1e6, delay_s=0.5, clock=clock) for end in ends)
        bodies = [bytes([k]) * 10**6 for k in range(10)]

        async def send() -> None:
            for body in bodies:
                await here.put(body)
            await here.close()

        sending = asyncio.ensure_future(send())
        came = await moments(clock, there, bodies)
        assert came == pytest.approx([1.5 + k for k in range(10)])
        await sending
        await there.close()

    by_the_clock(test)


def test_both_ways_at_once_take_no_longer_than_one() -> None:
    async def test(clock: Still) -> None:
        ends = memory_pair(1)
        here, there = (SlowLine(end, **OFFICE, clock=clock) for end in ends)

        async def send(line: SlowLine) -> None:
            for _ in range(5):
                await line.put(MEGABYTE)

        *_, first, second = await asyncio.gather(
            send(here),
            send(there),
            moments(clock, here, [MEGABYTE] * 5),
            moments(clock, there, [MEGABYTE] * 5),
        )
        assert first == second == pytest.approx([0.08 * (k + 1) + 0.01 for k in range(5)])
        await asyncio.gather(here.close(), there.close())

    by_the_clock(test)


def test_a_question_and_its_answer_take_a_round_trip_and_a_pause_costs_no_later_body_anything() -> None:
    async def test(clock: Still) -> None:
        ends = memory_pair(1)
        here, there = (SlowLine(end, **GIGABIT, clock=clock) for end in ends)
        for _ in range(3):
            began_s = clock.now_s
            await here.put(b"?")
            await there.get()
            await there.put(b"!")
            await here.get()
            assert clock.now_s - began_s == pytest.approx(0.0005, abs=1e-6)
            await clock.sleep(1.0)
        await asyncio.gather(here.close(), there.close())

    by_the_clock(test)


def test_the_sender_waits_when_a_bandwidth_delay_product_and_four_mebibytes_are_under_way() -> None:
    async def test(clock: Still) -> None:
        here, there = memory_pair(1)
        line = SlowLine(here, bytes_per_s=1e6, delay_s=3.0, clock=clock)
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(20):
                await line.put(MEGABYTE)
                sent += 1

        began_s = clock.now_s
        sending = asyncio.ensure_future(send())
        await clock.sleep(0.0)
        assert (sent, clock.now_s) == (7, began_s)  # 3 MB in the line, 4 MiB before it
        await clock.sleep(100.0)
        assert sent == 8  # one is there, and the next waits to be taken: so does the sender
        for _ in range(20):
            await there.get()
        await sending
        await line.close()

    by_the_clock(test)


def test_a_body_larger_than_all_that_may_be_under_way_passes_alone() -> None:
    async def test(clock: Still) -> None:
        here, there = memory_pair(1)
        line = SlowLine(here, bytes_per_s=1e6, clock=clock)
        began_s = clock.now_s
        await line.put(bytes(9 * 10**6))
        assert len(await there.get()) == 9 * 10**6
        assert clock.now_s - began_s == pytest.approx(9.0)
        await line.close()

    by_the_clock(test)


def test_what_is_under_way_arrives_before_a_close_and_a_closed_partner_is_noticed() -> None:
    async def test(clock: Still) -> None:
        here, there = memory_pair(4)
        line = SlowLine(here, **OFFICE, clock=clock)
        await line.put(b"last")
        await line.close()
        assert await there.get() == b"last"
        with pytest.raises(LineError):
            await line.put(b"more")

        here, there = memory_pair(4)
        line = SlowLine(here, **OFFICE, clock=clock)
        await there.close()
        await line.put(b"nobody is there")
        await clock.sleep(1.0)
        with pytest.raises(LineError):
            await line.put(b"still nobody")
        await line.close()

    by_the_clock(test)


@pytest.mark.trust("N2")
def test_the_link_carries_large_bodies_both_ways_through_a_slow_proxy() -> None:
    async def test() -> None:
        async with listening() as (a, port):
            proxy = ChaosProxy("127.0.0.1", port, bytes_per_s=20e6, delay_s=0.005)
            async with dialing(await proxy.listen()) as b:
                here, there = a.open("b", JOB), b.open("a", JOB)
                bodies = [os.urandom(size) for size in (10, 1_500_000, 0, 700_000)]

                async def send(line: object) -> None:
                    for body in bodies:
                        await line.put(body)  # type: ignore[attr-defined]

                async def take(line: object) -> None:
                    for body in bodies:
                        assert await line.get() == body  # type: ignore[attr-defined]

                await asyncio.gather(send(here), send(there), take(here), take(there))
                await until(lambda: (b.state("a").round_trip_s or 0.0) > 0.0)
                assert (b.state("a").round_trip_s or 0.0) >= 0.01
            await proxy.close()

    run(test)
