"""Clocks that are wrong, and what a partner says of time: no protocol looks at them. (P6, D4)"""

from __future__ import annotations

import asyncio
import math
import struct
from datetime import datetime, timedelta
from itertools import count

import pytest

from isthmus.base.clock import SystemClock
from isthmus.wire.envelope import Kind
from isthmus.wire.peer import Refused
from tests.wire.mallory import MalloryDials
from tests.wire.pair import (
    KEY_A,
    KEY_B,
    Pair,
    Wire,
    add_powers,
    listening,
    new_a,
    new_b,
    run,
    send_powers,
    until,
)


class Wrong(SystemClock):
    """The time of day is off by so much; `jumps` adds as much again at every look, back and forth."""

    def __init__(self, off: timedelta, jumps: timedelta = timedelta()) -> None:
        self._off, self._jumps, self._looks = off, jumps, count()

    def now(self) -> datetime:
        way = -1 if next(self._looks) % 2 else 1
        return super().now() + self._off + self._jumps * way


@pytest.mark.parametrize(
    ("off", "jumps"),
    [
        (timedelta(minutes=10), timedelta()),
        (timedelta(minutes=-10), timedelta()),
        (timedelta(days=3_650), timedelta()),
        (timedelta(days=-3_650), timedelta()),
        (timedelta(), timedelta(days=1)),
        (timedelta(days=400), timedelta(days=365)),
    ],
    ids=str,
)
@pytest.mark.parametrize("wrong", ["listener", "dialer"])
def test_a_partner_whose_clock_is_years_off_or_jumps_is_spoken_to_as_any_other(
    off: timedelta, jumps: timedelta, wrong: str
) -> None:
    async def play() -> None:
        clocks = {"listener": SystemClock(), "dialer": SystemClock(), wrong: Wrong(off, jumps)}
        a = new_a(clock=clocks["listener"])
        b = new_b(Wire(a), clock=clocks["dialer"])
        await a.start()
        await b.start()
        try:
            here, there = Pair(a, b, Wire(a)).open()
            sent = asyncio.gather(send_powers(here, 20), send_powers(there, 20))
            for sums in await asyncio.gather(add_powers(here, 20), add_powers(there, 20)):
                assert sums == 2**20 - 1
            await sent
            await until(lambda: a.state("b").clock_offset_s is not None)
        finally:
            await b.close(0)
            await a.close(0)

    run(play)


@pytest.mark.parametrize(
    "body",
    [
        *(struct.pack("<dd", trip, 0.0) for trip in (math.nan, math.inf, -math.inf, -1.0, 1e300)),
        *(struct.pack("<dd", 0.01, ahead) for ahead in (math.nan, math.inf, -math.inf, 1e300)),
        b"",
        bytes(15),
        bytes(17),
    ],
    ids=bytes.hex,
)
def test_figures_of_a_partner_that_are_none_are_refused_and_not_shown(body: bytes) -> None:
    async def play() -> None:
        async with listening() as (a, _):
            mallory = MalloryDials(a, KEY_B, KEY_A)
            await mallory.shake()
            with pytest.raises(Refused):
                await mallory.ask(Kind.PING, body)
            state = a.state("b")
            assert (state.round_trip_s, state.clock_offset_s) == (None, None)
            await mallory.ask(Kind.PING, struct.pack("<dd", 0.25, 3.0e8))
            assert (a.state("b").round_trip_s, a.state("b").clock_offset_s) == (0.25, -3.0e8)

    run(play)
