"""A line within one process, bounded: with capacity 1 it shows the deadlocks that an unbounded queue hides."""

from __future__ import annotations

import asyncio

from isthmus.base.errors import LineError


class MemoryLine:
    """One end of a pair made by `memory_pair`."""

    def __init__(self, outgoing: asyncio.Queue[bytes | None], incoming: asyncio.Queue[bytes | None]) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._closed = False

    async def put(self, body: bytes) -> None:
        if self._closed:
            raise LineError("closed")
        await self._outgoing.put(body)

    async def get(self) -> bytes:
        body = None if self._closed else await self._incoming.get()
        if body is None:
            self._closed = True
            raise LineError("closed")
        return body

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._outgoing.full():
                self._outgoing.get_nowait()
            self._outgoing.put_nowait(None)


def memory_pair(capacity: int = 1) -> tuple[MemoryLine, MemoryLine]:
    """Two ends that hold at most `capacity` bodies in each direction."""
    there: asyncio.Queue[bytes | None] = asyncio.Queue(capacity)
    back: asyncio.Queue[bytes | None] = asyncio.Queue(capacity)
    return MemoryLine(there, back), MemoryLine(back, there)
