"""Every protocol runs in every world: memory with room for one message, a stream between two threads, the link, and the
link with its exchanges cut before and after they are delivered."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from isthmus.wire.channel import Channel, Line
from isthmus.wire.faults import Fault, FaultyTransport
from isthmus.wire.memory import memory_pair
from isthmus.wire.meter import Meter
from isthmus.wire.stream import open_stream
from tests.wire.pair import JOB, dialing, listening, memory_links, run

LIMIT_S = 280.0
Role = Callable[[Channel], Awaitable[Any]]
WORLDS = ("memory", "stream", "link", "cut")
"""`link`: HTTPS with real certificates. `cut`: the link, half of whose exchanges are lost, doubled or late."""


async def finish(role: Role, channel: Channel) -> Any:
    """Run a role as a worker does: on failure the partner hears the code, and the channel is closed either way."""
    try:
        return await role(channel)
    except BaseException as error:
        await channel.abort(error)
        raise
    finally:
        await channel.close()


def run_pair(world: str, first: Role, second: Role) -> tuple[Any, Any]:
    """Results of both roles; where one fails, its exception stands in the place of the result."""
    return WORLD[world](first, second)


def run_star(hub: Callable[[list[Channel]], Awaitable[Any]], spokes: list[Role]) -> tuple[Any, ...]:
    """One party with a memory line to each of the others."""

    async def go() -> list[Any]:
        pairs = [memory_pair(1) for _ in spokes]
        channels = [Channel(pair[0], f"partner-{i}") for i, pair in enumerate(pairs)]

        async def middle() -> Any:
            try:
                return await hub(channels)
            except BaseException as error:
                await asyncio.gather(*(c.abort(error) for c in channels))
                raise
            finally:
                await asyncio.gather(*(c.close() for c in channels))

        roles = [finish(role, Channel(pair[1])) for role, pair in zip(spokes, pairs, strict=True)]
        return await asyncio.gather(middle(), *roles, return_exceptions=True)

    return tuple(asyncio.run(go()))


def metered_pair(first: Role, second: Role) -> tuple[tuple[Any, Any], tuple[Meter, Meter]]:
    """Results over memory, and what each side's meter counted."""
    meters = Meter(), Meter()

    async def go() -> tuple[Any, Any]:
        here, there = memory_pair(1)
        return await asyncio.gather(
            finish(first, Channel(here, meter=meters[0])), finish(second, Channel(there, meter=meters[1]))
        )

    results = asyncio.run(go())
    return (results[0], results[1]), meters


def _in_memory(first: Role, second: Role) -> tuple[Any, Any]:
    async def go() -> tuple[Any, Any]:
        return await _over_lines(*memory_pair(1), first, second)

    results = asyncio.run(go())
    return results[0], results[1]


def _over_stream(first: Role, second: Role) -> tuple[Any, Any]:
    ends = socket.socketpair()
    results: list[Any] = [None, None]

    async def one(role: Role, end: socket.socket) -> Any:
        line: Line = await open_stream(end)
        return await finish(role, Channel(line))

    def thread(at: int, role: Role) -> None:
        try:
            results[at] = asyncio.run(one(role, ends[at]))
        except BaseException as error:  # noqa: BLE001
            results[at] = error

    threads = [threading.Thread(target=thread, args=(at, role)) for at, role in enumerate((first, second))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results[0], results[1]


def _over_link(first: Role, second: Role) -> tuple[Any, Any]:
    async def go() -> tuple[Any, Any]:
        async with listening() as (a, port), dialing(port) as b:
            return await _over_lines(a.open("b", JOB), b.open("a", JOB), first, second)

    return run(go, LIMIT_S)


def _over_a_cut_link(first: Role, second: Role) -> tuple[Any, Any]:
    faults = random.Random(11)

    def choose(number: int, path: str, body: bytes) -> Fault:
        return faults.choices(
            [Fault.NONE, Fault.BEFORE, Fault.AFTER, Fault.TWICE, Fault.LATE], [5, 2, 2, 1, 1]
        )[0]

    async def go() -> tuple[Any, Any]:
        async with memory_links(lambda inner: FaultyTransport(inner, choose, late_s=0.005)) as pair:
            return await _over_lines(*pair.open(), first, second)

    return run(go, LIMIT_S)


async def _over_lines(here: Line, there: Line, first: Role, second: Role) -> tuple[Any, Any]:
    return await asyncio.gather(
        finish(first, Channel(here)), finish(second, Channel(there)), return_exceptions=True
    )


WORLD = {"memory": _in_memory, "stream": _over_stream, "link": _over_link, "cut": _over_a_cut_link}
