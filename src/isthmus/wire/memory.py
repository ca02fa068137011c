"""A line within one process, bounded: with capacity 1 it shows the deadlocks that an unbounded queue hides."""

from __future__ import annotations

import asyncio
from collections import deque

from isthmus.base.errors import LineError


class _Way:
    """One direction: bodies in order, room for `capacity`. What was put before a close is still delivered."""

    def __init__(self, capacity: int) -> None:
        self.bodies: deque[bytes] = deque()
        self.capacity = capacity
        self.open = True
        self.changed = asyncio.Condition()


class MemoryLine:
    """One end of a pair made by `memory_pair`. Closing either end closes the line."""

    def __init__(self, outgoing: _Way, incoming: _Way) -> None:
        self._outgoing = outgoing
        self._incoming = incoming

    async def put(self, body: bytes) -> None:
        way = self._outgoing
        async with way.changed:
            await way.changed.wait_for(lambda: not way.open or len(way.bodies) < way.capacity)
            if not way.open:
                raise LineError("closed")
            way.bodies.append(body)
            way.changed.notify_all()

    async def get(self) -> bytes:
        way = self._incoming
        async with way.changed:
            await way.changed.wait_for(lambda: not way.open or len(way.bodies) > 0)
            if not way.bodies:
                raise LineError("closed")
            way.changed.notify_all()
            return way.bodies.popleft()

    async def close(self) -> None:
        for way in (self._outgoing, self._incoming):
            async with way.changed:
                way.open = False
                way.changed.notify_all()


def memory_pair(capacity: int = 1) -> tuple[MemoryLine, MemoryLine]:
    """Two ends that hold at most `capacity` bodies in each direction."""
    there, back = _Way(capacity), _Way(capacity)
    return MemoryLine(there, back), MemoryLine(back, there)
