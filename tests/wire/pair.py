"""Two links for a test: A listens, B dials; over memory, or over HTTPS with a certificate made on the spot."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from isthmus.crypto.seal import PartyKey
from isthmus.wire.channel import Line
from isthmus.wire.dialer import Transport
from isthmus.wire.link import Link, Partner, certificate_der, make_certificate, server_context

T = TypeVar("T")

JOB = b"J" * 32
KEY_A = PartyKey.from_bytes(b"a" * 32)
KEY_B = PartyKey.from_bytes(b"b" * 32)
KEY_C = PartyKey.from_bytes(b"c" * 32)
FAST: dict[str, Any] = {"poll_s": 0.05, "retry_s": 0.004}


def run(test: Callable[[], Awaitable[T]], limit_s: float = 60.0) -> T:
    """Run a test to its end; it must leave no task behind."""

    async def whole() -> T:
        async with asyncio.timeout(limit_s):
            result = await test()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left behind: {left}"
        return result

    return asyncio.run(whole())


async def until(ready: Callable[[], object], limit_s: float = 20.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(limit_s):
        while not ready():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class Wire:
    """A transport to a link in this process that can be replaced, as when a node is started again."""

    def __init__(self, link: Link | None) -> None:
        self.link = link

    async def __call__(self, partner: Partner, path: str, body: bytes) -> bytes:
        assert self.link is not None
        return await self.link.handle(path, body, "memory")


@dataclass
class Pair:
    a: Link
    b: Link
    wire: Wire

    def open(self, job: bytes = JOB, number: int = 0) -> tuple[Line, Line]:
        return self.a.open("b", job, number), self.b.open("a", job, number)


def new_a(**settings: Any) -> Link:
    link = Link(KEY_A, "a", **{**FAST, **settings})
    link.add_partner(Partner("b", KEY_B.public))
    return link


def new_b(transport: Transport, **settings: Any) -> Link:
    link = Link(KEY_B, "b", transport=transport, **{**FAST, **settings})
    link.add_partner(Partner("a", KEY_A.public, "https://a.invalid:1"))
    return link


@asynccontextmanager
async def memory_links(
    wrap: Callable[[Transport], Transport] = lambda inner: inner, **settings: Any
) -> AsyncIterator[Pair]:
    """A listens, B dials, no sockets."""
    a = new_a(**settings)
    wire = Wire(a)
    b = new_b(wrap(wire), **settings)
    await a.start()
    await b.start()
    try:
        yield Pair(a, b, wire)
    finally:
        await b.close(0)
        await a.close(0)


@cache
def tls() -> tuple[bytes, ssl.SSLContext]:
    """(certificate, context of the server); a context may be used by many servers."""
    certificate, key = make_certificate("a", ["127.0.0.1"])
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        paths[0].write_bytes(certificate)
        paths[1].write_bytes(key)
        return certificate_der(certificate), server_context(str(paths[0]), str(paths[1]))


@asynccontextmanager
async def listening(**settings: Any) -> AsyncIterator[tuple[Link, int]]:
    """A alone, with its port."""
    a = new_a(**settings)
    port = await a.listen("127.0.0.1", 0, tls()[1])
    await a.start()
    try:
        yield a, port
    finally:
        await a.close(0)


@asynccontextmanager
async def dialing(port: int, key: PartyKey = KEY_B, **settings: Any) -> AsyncIterator[Link]:
    """B alone, dialing a port of this machine."""
    certificate = settings.pop("certificate", tls()[0])
    b = Link(key, settings.pop("name", "b"), **{**FAST, **settings})
    b.add_partner(Partner("a", KEY_A.public, f"https://127.0.0.1:{port}", certificate))
    await b.start()
    try:
        yield b
    finally:
        await b.close(0)


async def send_powers(line: Line, count: int) -> None:
    """Each message is a power of two of its own, so that a message applied twice shows."""
    for power in range(count):
        await line.put((1 << power).to_bytes(16, "little"))


async def add_powers(line: Line, count: int) -> int:
    """Their sum; 2**count - 1 when each came once. They must come in order."""
    total = 0
    for power in range(count):
        value = int.from_bytes(await line.get(), "little")
        assert value == 1 << power, "out of order, or twice"
        total += value
    return total
