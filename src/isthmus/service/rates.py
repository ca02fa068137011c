"""How fast a line is, known at both ends: only the side that dials can measure, so it tells the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from isthmus.base.clock import Clock
from isthmus.base.errors import IsthmusError
from isthmus.service.measured import Measurements
from isthmus.service.partner_line import RatesAsked, RatesTold
from isthmus.wire.link import Probe
from isthmus.wire.message import Message

_EVERY_S = 30.0
"""A partner that asks more often than this gets no answer."""

_WAIT_S = 30.0


class Probes(Protocol):
    """What measuring needs of the link."""

    async def probe(self, partner_name: str, idle_s: float = 0.0) -> Probe: ...


class Rates:
    """Measures lines, tells partners, and hears from them."""

    def __init__(
        self, link: Probes, measured: Measurements, say: Callable[[str, Message], None], clock: Clock
    ) -> None:
        self._link = link
        self._measured = measured
        self._say = say
        self._clock = clock
        self._asked_s: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def measure(self, partner: str, idle_s: float = 0.0) -> Probe:
        """Measures and keeps; where the partner dials, it is asked to measure. Raises the error that stands in the way."""
        probe = await self._link.probe(partner, idle_s)
        if probe.up_bytes_per_s is None:
            return await self._ask(partner, probe)
        self._measured.keep(partner, probe)
        self._tell(partner, probe)
        return probe

    async def _ask(self, partner: str, probe: Probe) -> Probe:
        told = self._waiting.setdefault(partner, asyncio.get_running_loop().create_future())
        self._say(partner, RatesAsked())
        timer = asyncio.ensure_future(self._clock.sleep(_WAIT_S))
        await asyncio.wait({told, timer}, return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        last = self._measured.last(partner)
        if not told.done() or last is None:
            self._measured.keep(partner, probe)
            return probe
        return Probe(
            last.round_trip_s,
            None,
            last.up_bytes_per_s,
            last.down_bytes_per_s,
            probe.version,
            probe.clock_offset_s,
        )

    def on_asked(self, partner: str) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._asked_s.get(partner, -_EVERY_S) < _EVERY_S:
            return
        self._asked_s[partner] = now_s
        task = asyncio.create_task(self._answer(partner))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def on_told(self, partner: str, told: RatesTold) -> None:
        self._measured.keep_told(partner, told.round_trip_s, told.up_bytes_per_s, told.down_bytes_per_s)
        if (waiting := self._waiting.pop(partner, None)) is not None:
            waiting.set_result(None)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, partner: str) -> None:
        try:
            probe = await self._link.probe(partner)
        except IsthmusError:
            return  # the line is down: the partner has noticed as well
        self._tell(partner, probe)

    def _tell(self, partner: str, probe: Probe) -> None:
        if probe.round_trip_s and probe.up_bytes_per_s and probe.down_bytes_per_s:
            self._say(partner, RatesTold(probe.round_trip_s, probe.up_bytes_per_s, probe.down_bytes_per_s))
