"""A leader with its real listener, two helpers in memory, and devices that speak HTTP over TLS."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from isthmus.base.document import read_document
from isthmus.base.errors import LineError
from isthmus.base.typed_json import read, write
from isthmus.crypto.hpke import SealingKey
from isthmus.crypto.seal import PartyKey
from isthmus.fleet.desk import Pace
from isthmus.fleet.leader import Leader
from isthmus.fleet.manifest import admitted, document_of, make_manifest, make_task
from isthmus.fleet.task import FleetTask, parse_task
from isthmus.privacy.noise import discrete_gaussian
from isthmus.protocols.device_round import (
    DEVICE_HEADER,
    METRIC_SCALE,
    PATH,
    SIGNATURE_HEADER,
    TRAIN,
    Answer,
    CheckIn,
    Conditions,
    Enrol,
    Manifest,
    Offer,
    Outcome,
    Receipt,
    Round,
    Signed,
    encodings,
    population_digest,
    read_paper,
    report_length,
    request_text,
    sign_of,
    terms_of,
    unpack_blob,
    vector_of,
)
from isthmus.protocols.secure_sum import (
    Allowance,
    Batch,
    Helper,
    HelperKey,
    Looked,
    Report,
    answer,
    look,
    seal,
    ticket,
)
from isthmus.store.fleet import FleetRows, Population
from isthmus.wire.https import client_context
from isthmus.wire.link import certificate_der, make_certificate, server_context
from tests.sums import MemoryLedger

FAR_MS = 4_000_000_000_000
READY = Conditions(True, True, True, 1000, 20.0)

TASK = """
apiVersion: isthmus/v1
kind: FleetTask
metadata: {name: taste, purpose: Rank photos by how much a person will like them, valid_until: "2090-01-01"}
parties: {leader: cloud-co, helpers: [album-app, audit-house]}
fleet: {name: phones}
example: {features: {embedding: 4}, events: {share: 1.0}, min_per_device: 5}
model: {layers: [{dense: 1}, sigmoid], personal_head: false}
local: {clip_norm: 1.0}
rounds: {count: 2, cohort: 20, min_cohort: 20, max_per_device: 10, deadline_h: 1}
privacy: {dp: none}
evaluate: {every: 1}
rollout: {steps: [0.5, 1.0], hold_h: 0}
"""


def task_of(**sections: Any) -> FleetTask:
    document = read_document(TASK.encode(), "task.yaml")
    for name, section in sections.items():
        document[name] = {**document.get(name, {}), **section}
    return parse_task(document)


class LocalLine:
    """A helper in this process: real keys, checks and record; it can be away."""

    def __init__(self, helper: Helper, now_ms: Callable[[], int]) -> None:
        self.helper = helper
        self.ledger = MemoryLedger()
        self.away = False
        self.asked = 0
        self._now_ms = now_ms

    async def look(self, batch: Batch) -> Looked:
        self._check()
        return look(self.helper, batch, self.ledger, self._now_ms())

    async def answer(self, batch: Batch) -> bytes:
        self._check()
        self.asked += 1
        return answer(self.helper, batch, self.ledger, self._now_ms(), discrete_gaussian)

    async def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.away:
            raise LineError("helper_away", helper="a helper")


@dataclass
class Fleet:
    """Everything of a small fleet; a leader can be ended and started again over the same folder."""

    folder: Path
    pace: Pace = field(default_factory=lambda: Pace(0.01, 1e6, 1.0))

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.key, self.authority = PartyKey.generate(), PartyKey.generate()
        allowance = Allowance(self.key.public, self.authority.public, 20, 1000)
        helpers = [Helper(PartyKey.generate(), SealingKey.generate(), (allowance,)) for _ in range(2)]
        self.lines = {
            name: LocalLine(helper, self.now_ms)
            for name, helper in zip(("album-app", "audit-house"), helpers, strict=True)
        }
        certificate, key = make_certificate("leader", ["127.0.0.1"])
        (self.folder / "tls.pem").write_bytes(certificate)
        (self.folder / "tls.key").write_bytes(key)
        self.certificate = certificate_der(certificate)
        self.population = population_digest("phones", self.key.public)
        self.rows = FleetRows(self.folder)
        """As the node beside the leader has it open."""
        self.rows.add_population(Population("phones", self.authority.public, 100.0, 0.001, False, 0))
        for name in self.lines:
            self.rows.add_helper(name, name, 0)

    @staticmethod
    def now_ms() -> int:
        return 1_900_000_000_000

    def helper_keys(self) -> list[HelperKey]:
        return [
            HelperKey(name, line.helper.signing.public, line.helper.sealing.public)
            for name, line in self.lines.items()
        ]

    def run(self, task: FleetTask) -> Manifest:
        manifest = make_manifest(task, self.key.public, self.authority.public, self.helper_keys())
        population = self.rows.population("phones")
        assert population is not None
        spent = admitted(population, self.rows.spent("phones"), task, manifest)
        row, blobs = make_task(task, document_of(task), manifest, self.key, None, 100, 0)
        self.rows.add_task(row, blobs, spent)
        return manifest

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[tuple[Leader, int]]:
        leader = Leader(self.folder, self.key, lambda card: self.lines[card], pace=self.pace, tick_s=0.02)
        await leader.start()
        context = server_context(str(self.folder / "tls.pem"), str(self.folder / "tls.key"))
        port = await leader.server.listen("127.0.0.1", 0, context)
        try:
            yield leader, port
        finally:
            await leader.close()


class Phone:
    """A device as the protocol asks: checks in, fetches, trains by adding `step`, reports once."""

    def __init__(self, fleet: Fleet, port: int, session: aiohttp.ClientSession, step: float = 0.1) -> None:
        self.key = PartyKey.generate()
        self.fleet, self.port, self.session, self.step = fleet, port, session, step
        self.ticket = ticket(fleet.authority, fleet.population, self.key.public, FAR_MS)
        self.release = 0
        self.outcome: Outcome | None = None
        self.answered: Answer | None = None
        self.sent: list[Report] = []
        self.plain: dict[bytes, NDArray[np.int64]] = {}
        """What its reports hold, for a judge."""
        self.releases: list[Signed] = []

    async def call(self, path: str, body: bytes, method: str = "POST") -> tuple[int, bytes]:
        path = PATH + path
        signature = self.key.sign(request_text(self.fleet.key.public, path, body))
        headers = {DEVICE_HEADER: self.key.public.hex(), SIGNATURE_HEADER: signature.hex()}
        url = f"https://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, data=body if body else None, headers=headers) as reply:
            return reply.status, await reply.read()

    async def enrol(self) -> None:
        said = Enrol("phones", self.ticket.signature, self.ticket.expires_ms, "8.2")
        status, body = await self.call("enrol", write(said))
        assert status == 200, body

    async def check_in(self, conditions: Conditions = READY, version: str = "8.2") -> Answer:
        said = CheckIn("phones", version, conditions, self.outcome, self.release)
        status, body = await self.call("check-in", write(said))
        assert status == 200, body
        self.outcome = None
        self.answered = read(Answer, body)
        if self.answered.release is not None:
            self.releases.append(self.answered.release)
        return self.answered

    async def blob(self, name: bytes, base: bytes | None = None) -> bytes:
        path = f"blobs/{name.hex()}" + (f"?from={hashlib.sha256(base).hexdigest()}" if base else "")
        status, body = await self.call(path, b"", "GET")
        assert status == 200, body
        return body

    async def manifest(self, round: Round) -> Manifest:
        packed = await self.blob(round.task)
        return read_paper(Manifest, read(Signed, zlib.decompress(packed[1:])), self.fleet.key.public)

    def values(self, manifest: Manifest, offer: Offer, model: NDArray[np.float32]) -> NDArray[np.int64]:
        if offer.round.kind == TRAIN:
            update = np.full(model.size, self.step)
            coded = [each.encode(update).values for each in encodings(manifest, offer.round)]
            sign = sign_of(manifest)
            return np.concatenate([*coded, np.array([sign] if sign else [], dtype=np.int64)])
        return np.full(report_length(manifest, offer.round), METRIC_SCALE // 2, dtype=np.int64)

    async def make(self, offer: Offer) -> Report:
        manifest = await self.manifest(offer.round)
        model = vector_of(unpack_blob(await self.blob(offer.round.models[0]), offer.round.models[0]))
        values = self.values(manifest, offer, model)
        report = seal(terms_of(manifest, offer.round), values, 1, self.key, self.ticket)
        self.plain[report.id] = values
        return report

    async def send(self, report: Report) -> Receipt:
        status, body = await self.call("reports", report.encode())
        assert status == 200, (status, body)
        self.sent.append(report)
        return read_paper(Receipt, read(Signed, body), self.fleet.key.public)

    async def work_once(self) -> None:
        """Until a report is sent."""
        while not await self.work():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def work(self) -> bool:
        """One check-in, and a report if one is asked for."""
        offer = (await self.check_in()).offer
        if offer is None:
            return False
        await self.send(await self.make(offer))
        return True


@asynccontextmanager
async def phones(fleet: Fleet, port: int, count: int) -> AsyncIterator[list[Phone]]:
    """Devices that are enrolled."""
    context: ssl.SSLContext = client_context(fleet.certificate)
    connector = aiohttp.TCPConnector(ssl=context, limit=16)
    async with aiohttp.ClientSession(connector=connector) as session:
        made = [Phone(fleet, port, session) for _ in range(count)]
        await asyncio.gather(*(phone.enrol() for phone in made))
        yield made


async def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - another process may be what is waited for
            await asyncio.sleep(0.02)
