"""Two nodes in one process, joined, with real folders, databases and TLS between them; either can be started again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from isthmus.base.clock import SystemClock
from isthmus.service.keys import lineage
from isthmus.service.node import Node
from isthmus.store.audit import AuditCheck, Finding
from isthmus.store.folder import NodeFolder, make_config
from isthmus.wire.link import make_certificate


class ShiftedClock(SystemClock):
    """The wall clock, moved by a test."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class Party:
    """One institution; `node` runs while it is started."""

    def __init__(self, home: Path, **fields: Any) -> None:
        self.clock = ShiftedClock()
        self.folder = NodeFolder.create(home, make_config({"data": [], **fields}, "test"), make_certificate)
        self.node = Node(self.folder, self.clock)
        self.running = False

    @property
    def name(self) -> str:
        return self.node.config.party

    async def start(self) -> None:
        await self.node.start()
        self.running = True

    async def stop(self) -> None:
        if self.running:
            self.running = False
            await self.node.close()

    async def again(self) -> None:
        await self.stop()
        self.node = Node(self.folder, self.clock)
        await self.start()

    def kinds(self) -> list[str]:
        return [line.kind for line in self.node.store.audit()]

    def findings(self) -> list[Finding]:
        """What a check of the audit log finds, heads of all partners included."""
        store = self.node.store
        own = lineage(store, self.name, self.node.key.public)
        check = AuditCheck(self.name, own)
        for line in store.audit(limit=10_000):
            check.take(line)
        keys = {kept.partner: lineage(store, kept.partner, None) for kept in store.heads()}
        keys |= {p.name: lineage(store, p.name, p.public_key) for p in store.partners()}
        check.compare(store.heads(), keys)
        return check.findings

    def pinned(self, partner: str) -> bytes:
        found = self.node.store.partner(partner)
        assert found is not None
        return found.public_key

    def connected(self, partner: str) -> bool:
        return self.node.link.state(partner).connected


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(ready: Callable[[], object], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not ready():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def join(inviter: Party, other: Party) -> None:
    joined, reply = await other.node.partners.accept(inviter.node.partners.invite())
    assert reply is None
    inviter.node.partners.confirm(other.name, list(joined.words))
    other.node.partners.confirm(inviter.name, list(joined.words))
    await until(lambda: inviter.connected(other.name) and other.connected(inviter.name))


@asynccontextmanager
async def two(root: Path) -> AsyncIterator[tuple[Party, Party]]:
    """`bank` listens, `data-co` calls."""
    place = f"127.0.0.1:{free_port()}"
    bank = Party(root / "bank", party="bank", mode="direct", listen=place, address=f"https://{place}")
    other = Party(root / "data-co", party="data-co", mode="dial-out")
    try:
        await bank.start()
        await other.start()
        await join(bank, other)
        yield bank, other
    finally:
        await other.stop()
        await bank.stop()
