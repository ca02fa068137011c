"""Lines that misbehave on purpose, for tests and for trying a slow path: around a Line, under the link, and on TCP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import LineError
from isthmus.wire.channel import Line
from isthmus.wire.dialer import Transport
from isthmus.wire.peer import Partner

_CHUNK_BYTES: Final = 64 * 2**10


class FaultyLine:
    """A line that is slow (`delay_s` a body, `bytes_per_s`) and cut for good after `cut_after` bodies, either way."""

    def __init__(
        self,
        line: Line,
        *,
        delay_s: float = 0.0,
        bytes_per_s: float | None = None,
        cut_after: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._line = line
        self._delay_s = delay_s
        self._bytes_per_s = bytes_per_s
        self._left = cut_after
        self._clock = clock or SystemClock()

    async def put(self, body: bytes) -> None:
        await self._count()
        seconds = self._delay_s + (len(body) / self._bytes_per_s if self._bytes_per_s else 0.0)
        if seconds:
            await self._clock.sleep(seconds)
        await self._line.put(body)

    async def get(self) -> bytes:
        await self._count()
        return await self._line.get()

    async def close(self) -> None:
        await self._line.close()

    async def _count(self) -> None:
        if self._left is None:
            return
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
    in that direction vanish. `refusing`: new connections are cut at once.
    """

    def __init__(self, host: str, port: int) -> None:
        self.cut_after_bytes: int | None = None
        self.delay_s = 0.0
        self.hole_there = False
        self.hole_back = False
        self.refusing = False
        self.cuts = 0
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
                asyncio.ensure_future(self._pump(reader, there_writer, passed, lambda: self.hole_there)),
                asyncio.ensure_future(self._pump(there_reader, writer, passed, lambda: self.hole_back)),
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
        passed: list[int],
        hole: Callable[[], bool],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                passed[0] += len(data)
                if self.cut_after_bytes is not None and passed[0] >= self.cut_after_bytes:
                    self.cut_after_bytes = None
                    self.cuts += 1
                    return
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if not hole():
                    writer.write(data)
                    await writer.drain()
