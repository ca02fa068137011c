"""Parties in one process: the jobs of several nodes over lines in memory, with workers that are real processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

from isthmus.base.clock import SystemClock
from isthmus.base.errors import LineError
from isthmus.crypto.seal import PartyKey
from isthmus.service.approvals import Approvals
from isthmus.service.audit import Audit
from isthmus.service.datasets import Datasets
from isthmus.service.grants import Grants
from isthmus.service.jobs import Jobs
from isthmus.service.measured import Measurements
from isthmus.service.projects import Projects
from isthmus.store.memory import MemoryStore
from isthmus.store.records import ENDED, Store, StoredJob, StoredPartner
from isthmus.wire.channel import Line
from isthmus.wire.link import CONTROL
from isthmus.wire.memory import MemoryLine, memory_pair

FAKE_WORKER = (sys.executable, str(Path(__file__).parents[1] / "jobs" / "fake_worker.py"))
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Switchboard:
    """Joins the two ends of every channel, whoever opens first."""

    def __init__(self) -> None:
        self._free: dict[tuple[frozenset[str], bytes, int], MemoryLine] = {}
        self.opened: list[tuple[str, str, bytes]] = []

    def open(self, own: str, partner: str, digest: bytes, number: int) -> MemoryLine:
        self.opened.append((own, partner, digest))
        name = (frozenset({own, partner}), digest, number)
        if name in self._free:
            return self._free.pop(name)
        here, there = memory_pair(64)
        self._free[name] = there
        return here


class Restarting:
    """A line whose `get` raises `partner_restarted` once it is told to."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.restarted = asyncio.Event()

    async def put(self, body: bytes) -> None:
        await self._line.put(body)

    async def get(self) -> bytes:
        body = asyncio.ensure_future(self._line.get())
        told = asyncio.ensure_future(self.restarted.wait())
        try:
            await asyncio.wait({body, told}, return_when=asyncio.FIRST_COMPLETED)
            if body.done():
                return body.result()
        finally:
            for waiting in (body, told):
                waiting.cancel()
            await asyncio.gather(body, told, return_exceptions=True)
        self.restarted.clear()
        raise LineError("partner_restarted", partner="the partner")

    def renew(self, line: Line) -> None:
        """The partner's process is another one: what was under way is gone, and the same line goes on."""
        self._line = line
        self.restarted.set()

    async def close(self) -> None:
        await self._line.close()


class Party:
    """One node's jobs, without its HTTP interface and its link."""

    def __init__(self, name: str, board: Switchboard, folder: Path, store: Store | None = None) -> None:
        self.name = name
        self.key = PartyKey.generate()
        self.store: Store = store or MemoryStore()
        self.folder = folder / name
        self.data = self.folder / "data"
        self.data.mkdir(parents=True)
        self.lines: dict[tuple[str, bytes], Restarting] = {}
        self.away: dict[str, float] = {}
        self._board = board
        clock = SystemClock()
        self.audit = Audit(name, self.key, self.store, clock)
        self.datasets = Datasets(self.store, [self.data], self.audit, clock)
        self.measured = Measurements(self.folder / "lines.json", clock)
        self.begin()

    def begin(self) -> None:
        """The jobs of a new process of this node, over what is in the store."""
        name, clock = self.name, SystemClock()
        self.projects = Projects(name, self.key, self.store, self.audit, clock)
        self.grants = Grants(name, self.key, self.store, self.datasets, self.projects, self.audit, clock)
        self.approvals = Approvals(name, self.store, self.projects, self.audit, clock)
        self.jobs = Jobs(
            self.name,
            self.key,
            self.store,
            self.datasets,
            self,
            self.measured,
            self.audit,
            self.grants,
            self.approvals,
            clock,
            lambda job: self.folder / job,
            bytes(32),
            FAKE_WORKER,
        )

    def open(self, partner_name: str, job_digest: bytes, number: int = 0) -> Line:
        line = Restarting(self._board.open(self.name, partner_name, job_digest, number))
        self.lines[partner_name, job_digest] = line
        return line

    def drop(self, partner_name: str, job_digest: bytes, number: int = 0) -> None:
        self.lines.pop((partner_name, job_digest), None)

    def away_s(self, partner_name: str) -> float | None:
        return self.away.get(partner_name)

    def know(self, other: Party) -> None:
        self.store.put_partner(StoredPartner(other.name, other.key.public, None, None, (), True, NOW))

    async def register(self, rows: int) -> Path:
        file = self.data / "table.csv"
        lines = ["id,x,bad", *(f"u{i:04d},{i * 7 % 11},{i % 2}" for i in range(rows))]
        file.write_text("\n".join(lines) + "\n")
        await self.datasets.add("table", str(file), key="id")
        return file

    def one(self) -> StoredJob:
        (job,) = self.store.jobs()
        return job

    def all_are(self, *wanted: str) -> bool:
        """Every party of the only job is, as far as this one knows, in one of these states."""
        return set(self.states().values()) <= set(wanted)

    def states(self) -> dict[str, str]:
        return {a.party: a.state for a in self.store.answers(self.store.jobs()[0].id)}


class World:
    """A label owner `bank` and its partners, all of whom know each other; use it in an `async with`. Unless `granted` is
    false, every partner has granted its table for the purpose of the jobs below."""

    def __init__(
        self, folder: Path, partners: tuple[str, ...] = ("data-co",), *, granted: bool = True
    ) -> None:
        self.granted = granted
        self.board = Switchboard()
        self.bank = Party("bank", self.board, folder)
        self.partners = [Party(name, self.board, folder) for name in partners]

    async def __aenter__(self) -> Self:
        await self.bank.register(40)
        for partner in self.partners:
            await partner.register(30)
            partner.know(self.bank)
            self.bank.know(partner)
            self.bank.jobs.talk_to(partner.name)
            partner.jobs.talk_to("bank")
            if self.granted:
                grant(partner)
        return self

    async def __aexit__(self, *ended: object) -> None:
        for party in (self.bank, *self.partners):
            await party.jobs.close()

    def again(self, party: Party) -> None:
        """A party whose jobs were closed begins anew, and its partners see that it was another process."""
        party.begin()
        for other in self.partners if party is self.bank else [self.bank]:
            other.lines[party.name, CONTROL].renew(self.board.open(other.name, party.name, CONTROL, 0))
            party.jobs.talk_to(other.name)
        party.jobs.begin()

    def text(self, name: str = "card", **sections: Any) -> bytes:
        names = [self.bank.name, *(p.name for p in self.partners)]
        inputs = {party: {"dataset": "table@1", "keys": [[{"column": "id"}]]} for party in names}
        document = {
            "apiVersion": "isthmus/v1",
            "kind": "Job",
            "metadata": {"name": name, "purpose": "Rank applicants by risk"},
            "parties": {"label_owner": names[0], "feature_owners": names[1:]},
            "inputs": inputs,
            "sample": {"label": "bad"},
        }
        return json.dumps(document | sections).encode()

    async def propose(self, name: str = "card", **sections: Any) -> str:
        """Proposes a job and waits until every partner sees it."""
        job = await self.bank.jobs.propose(self.text(name, **sections), None)
        for partner in self.partners:
            await until(partial(_has, partner, job.id))
        return job.id

    async def ended(self, job_id: str) -> None:
        """Waits until every party says that the job has ended, and has heard it of the others."""
        for party in (self.bank, *self.partners):
            await until(partial(_ended, party, job_id))


def grant(holder: Party, **said: Any) -> str:
    """A wide grant to the bank, but for what is said; its number."""
    terms: dict[str, Any] = {
        "dataset": "table",
        "purpose": "Rank applicants by risk",
        "until": "2099-12-31",
        "runs": 1000,
        "min_rows": 100,
    }
    return holder.grants.give("bank", **(terms | said)).id


def _has(party: Party, job_id: str) -> bool:
    return party.store.job(job_id) is not None


def _ended(party: Party, job_id: str) -> bool:
    return party.jobs.find(job_id).state in ENDED


async def until(condition: Callable[[], bool]) -> None:
    """Lets others work until the condition holds; the test's own time limit ends it otherwise."""
    while not condition():  # noqa: ASYNC110 - conditions of other processes send no event
        await asyncio.sleep(0.005)


async def settled() -> None:
    """Lets everything that is in memory arrive."""
    for _ in range(50):
        await asyncio.sleep(0)


def in_memory(store: Store) -> MemoryStore:
    """A party's store, for tests that reach into it."""
    assert isinstance(store, MemoryStore)
    return store
