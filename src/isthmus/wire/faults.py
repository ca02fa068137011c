"""Lines that misbehave on purpose, for tests and for trying a slow path: around a Line, under the link, and on TCP."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypedDict

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import IsthmusError, LineError
from isthmus.wire.channel import Line
from isthmus.wire.dialer import Transport
from isthmus.wire.peer import Partner
from isthmus.wire.signal import Signal

_CHUNK_BYTES: Final = 64 * 2**10
_QUEUE_BYTES: Final = 4 * 2**20


class Speed(TypedDict):
    """Settings of SlowLine and ChaosProxy; `delay_s` is one way."""

    bytes_per_s: float
    delay_s: float


GIGABIT: Final[Speed] = {"bytes_per_s": 125e6, "delay_s": 0.00025}
"""1 Gb/s, 0.5 ms round trip: two machines of one hall."""
OFFICE: Final[Speed] = {"bytes_per_s": 12.5e6, "delay_s": 0.01}
"""100 Mb/s, 20 ms round trip: two institutions of one country."""


class _Rate:
    """What leaves one side, one after the other, whatever it belongs to."""

    def __init__(self) -> None:
        self._free_s = 0.0

    def pass_s(self, now_s: float, size_bytes: int, speed: Speed) -> float:
        """When the last byte of what is handed over now arrives."""
        self._free_s = max(self._free_s, now_s) + size_bytes / speed["bytes_per_s"]
        return self._free_s + speed["delay_s"]


class _Flow:
    """Parts under way in one direction, in order; a part does not wait for the delay of those before it.

    `put` waits while more than a bandwidth-delay product and `_QUEUE_BYTES` are under way. `carry` brings them to their
    end until `finish`; what its `deliver` raises, `put` raises from then on.
    """

    def __init__(self, rate: _Rate, clock: Clock, deliver: Callable[[bytes], Awaitable[None]]) -> None:
        self._rate = rate
        self._clock = clock
        self._deliver = deliver
        self._parts: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._changed = Signal()
        self._finished = False
        self._error: IsthmusError | None = None

    async def put(self, part: bytes, speed: Speed) -> None:
        whole = speed["bytes_per_s"] * speed["delay_s"] if math.isfinite(speed["bytes_per_s"]) else 0.0
        room = _QUEUE_BYTES + whole
        await self._changed.until(
            lambda: self._error or self._finished or not self._bytes or self._bytes + len(part) <= room
        )
        if self._error is not None:
            raise self._error
        if self._finished:
            raise LineError("closed")
        self._parts.append((self._rate.pass_s(self._clock.monotonic_s(), len(part), speed), part))
        self._bytes += len(part)
        self._changed.notify()

    def finish(self) -> None:
        """Nothing will follow; `carry` ends after what is under way."""
        self._finished = True
        self._changed.notify()

    async def carry(self) -> None:
        while True:
            await self._changed.until(lambda: self._parts or self._finished)
            if not self._parts:
                return
            due_s, part = self._parts[0]
            if (left_s := due_s - self._clock.monotonic_s()) > 0:
                await self._clock.sleep(left_s)
            try:
                await self._deliver(part)
            except IsthmusError as error:
                self._error = error
                self._changed.notify()
                return
            self._parts.popleft()
            self._bytes -= len(part)
            self._changed.notify()


class SlowLine:
    """A line whose bodies leave at `bytes_per_s` and arrive `delay_s` (one way) later. Wrap both ends for both ways.

    Bodies are under way at the same time, up to a bandwidth-delay product and 4 MiB; then `put` waits. `close` waits for
    what is under way.
    """

    def __init__(
        self, line: Line, *, bytes_per_s: float = math.inf, delay_s: float = 0.0, clock: Clock | None = None
    ) -> None:
        self._line = line
        self._speed: Speed = {"bytes_per_s": bytes_per_s, "delay_s": delay_s}
        self._flow = _Flow(_Rate(), clock or SystemClock(), line.put)
        self._carrying: asyncio.Task[None] | None = None

    async def put(self, body: bytes) -> None:
        if self._carrying is None:
            self._carrying = asyncio.get_running_loop().create_task(self._flow.carry())
        await self._flow.put(body, self._speed)

    async def get(self) -> bytes:
        return await self._line.get()

    async def close(self) -> None:
        self._flow.finish()
        try:
            if self._carrying is not None:
                await self._carrying
        finally:
            await self._line.close()


class FaultyLine:
    """A line that is cut for good after `cut_after` bodies, either way."""

    def __init__(self, line: Line, cut_after: int) -> None:
        self._line = line
        self._left = cut_after

    async def put(self, body: bytes) -> None:
        await self._count()
        await self._line.put(body)

    async def get(self) -> bytes:
        await self._count()
        return await self._line.get()

    async def close(self) -> None:
        await self._line.close()

    async def _count(self) -> None:
        if self._left == 0:
            await self._line.close()
            raise LineError("closed")
        self._left -= 1


class Fault(Enum):
    """What happens to one exchange of the link."""

    NONE = auto()
    BEFORE = auto()  # cut before the listener sees it
    AFTER = auto()  # cut after the listener has answered
    TWICE = auto()  # delivered twice; the second answer counts
    LATE = auto()  # delivered after later ones


@dataclass(frozen=True)
class Exchange:
    """What went across once."""

    path: str
    request: bytes
    reply: bytes


class FaultyTransport:
    """A transport with a fault for each exchange: `choose` is given its number (from 0), path and body.

    `on_request` and `on_reply` may change the bytes. `seen` holds what was answered, for replays.
    """

    def __init__(
        self,
        inner: Transport,
        choose: Callable[[int, str, bytes], Fault] = lambda number, path, body: Fault.NONE,
        *,
        on_request: Callable[[int, bytes], bytes] = lambda number, body: body,
        on_reply: Callable[[int, bytes], bytes] = lambda number, body: body,
        late_s: float = 0.02,
        clock: Clock | None = None,
    ) -> None:
        self.count = 0
        self.seen: list[Exchange] = []
        self._inner = inner
        self._choose = choose
        self._on_request = on_request
        self._on_reply = on_reply
        self._late_s = late_s
        self._clock = clock or SystemClock()

    async def __call__(self, partner: Partner, path: str, body: bytes) -> bytes:
        number, self.count = self.count, self.count + 1
        fault = self._choose(number, path, body)
        if fault is Fault.BEFORE:
            raise LineError("unreachable", partner=partner.name, why="cut on purpose, before")
        if fault is Fault.LATE:
            await self._clock.sleep(self._late_s)
        request = self._on_request(number, body)
        reply = await self._inner(partner, path, request)
        if fault is Fault.TWICE:
            reply = await self._inner(partner, path, request)
        self.seen.append(Exchange(path, request, reply))
        if fault is Fault.AFTER:
            raise LineError("unreachable", partner=partner.name, why="cut on purpose, after")
        return self._on_reply(number, reply)


class ChaosProxy:
    """A TCP proxy on this machine. Its settings hold for what passes from now on.

    `cut_after_bytes`: the next connection that has carried so many bytes is cut, once. `hole_there`, `hole_back`: bytes
    in that direction vanish. `refusing`: new connections are cut at once. `bytes_per_s` and `delay_s` as in SlowLine, in
    each direction by itself and for all connections together.
    """

    def __init__(self, host: str, port: int, *, bytes_per_s: float = math.inf, delay_s: float = 0.0) -> None:
        self.cut_after_bytes: int | None = None
        self.bytes_per_s = bytes_per_s
        self.delay_s = delay_s
        self.hole_there = False
        self.hole_back = False
        self.refusing = False
        self.cuts = 0
        self._there, self._back = _Rate(), _Rate()
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> int:
        """The port on 127.0.0.1."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Cut every connection now."""
        self.cuts += 1
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self.cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if not self.refusing:
                await self._carry(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._writers.add(there_writer)
        passed = [0]
        try:
            ways = [
                asyncio.ensure_future(
                    self._pump(reader, there_writer, self._there, passed, lambda: self.hole_there)
                ),
                asyncio.ensure_future(
                    self._pump(there_reader, writer, self._back, passed, lambda: self.hole_back)
                ),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            there_writer.transport.abort()
            self._writers.discard(there_writer)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        rate: _Rate,
        passed: list[int],
        hole: Callable[[], bool],
    ) -> None:
        async def deliver(data: bytes) -> None:
            try:
                if not hole():
                    writer.write(data)
                    await writer.drain()
            except OSError:
                raise LineError("closed") from None

        flow = _Flow(rate, SystemClock(), deliver)
        carrying = asyncio.ensure_future(flow.carry())
        try:
            with contextlib.suppress(OSError, LineError):
                while data := await reader.read(_CHUNK_BYTES):
                    passed[0] += len(data)
                    if self.cut_after_bytes is not None and passed[0] >= self.cut_after_bytes:
                        self.cut_after_bytes = None
                        self.cuts += 1
                        return
                    await flow.put(data, {"bytes_per_s": self.bytes_per_s, "delay_s": self.delay_s})
                flow.finish()
                await carrying
        finally:
            carrying.cancel()
            await asyncio.gather(carrying, return_exceptions=True)
