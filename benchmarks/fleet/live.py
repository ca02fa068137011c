"""Load on a leader process over TLS: check-ins, and reports that were sealed before the clock starts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import zlib
from argparse import Namespace
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from fleet.machine import used
from isthmus.base.typed_json import read, write
from isthmus.crypto.seal import PartyKey
from isthmus.protocols.device_round import (
    DEVICE_HEADER,
    PATH,
    SIGNATURE_HEADER,
    Answer,
    CheckIn,
    Conditions,
    Manifest,
    Offer,
    Signed,
    population_digest,
    read_paper,
    report_length,
    request_text,
    terms_of,
)
from isthmus.protocols.secure_sum import seal, ticket
from isthmus.wire.https import client_context
from isthmus.wire.link import certificate_der

TASK = """
apiVersion: isthmus/v1
kind: FleetTask
metadata: {{name: load, purpose: Measure what a leader takes under load, valid_until: "2090-01-01"}}
parties: {{leader: cloud-co, helpers: [album-app, audit-house]}}
fleet: {{name: phones}}
example: {{features: {features}, events: {{share: 1.0}}, min_per_device: 5}}
model: {{layers: [{{dense: 1}}, sigmoid], personal_head: false}}
local: {{clip_norm: 1.0}}
rounds: {{count: 1, cohort: {cohort}, min_cohort: 20, over_select: 1.0, max_per_device: 10, deadline_h: 2}}
privacy: {{dp: none}}
"""
FAR_MS = 4 * 10**12
READY = Conditions(True, True, True, 1000, 20.0)
AT_ONCE = 64


class Device:
    """A key, and requests signed with it."""

    def __init__(self, leader: bytes) -> None:
        self.key = PartyKey.generate()
        self.leader = leader

    def request(self, path: str, body: bytes) -> tuple[str, bytes, dict[str, str]]:
        path = PATH + path
        signature = self.key.sign(request_text(self.leader, path, body))
        return path, body, {DEVICE_HEADER: self.key.public.hex(), SIGNATURE_HEADER: signature.hex()}


Request = tuple[str, bytes, dict[str, str]]


class LeaderProcess:
    """leader_process.py in a folder; asked over its standard input."""

    def __init__(self, folder: Path, start: dict[str, Any]) -> None:
        (folder / "start.json").write_text(json.dumps(start), "utf-8")
        script = str(Path(__file__).parent / "leader_process.py")
        self._process = subprocess.Popen(
            [sys.executable, script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port: int = self._heard()["port"]
        self.context = client_context(certificate_der((folder / "tls.pem").read_bytes()))

    def ask(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._heard()

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the leader has ended")
        return dict(json.loads(line))

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@contextmanager
def leading(case: Namespace, devices: list[Device], leader: PartyKey, authority: PartyKey) -> Any:
    sizes = [4096] * ((case.live_length - 1) // 4096) + [(case.live_length - 1) % 4096]
    features = {f"part-{place}": size for place, size in enumerate(sizes) if size}
    written = "{" + ", ".join(f"{name}: {size}" for name, size in features.items()) + "}"
    start = {
        "leader": leader.to_bytes().hex(),
        "authority": authority.to_bytes().hex(),
        "devices": [device.key.public.hex() for device in devices],
        "task": TASK.format(features=written, cohort=len(devices)),
    }
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as folder:
        process = LeaderProcess(Path(folder), start)
        try:
            yield process
        finally:
            process.end()


async def send(
    process: LeaderProcess, requests: list[Request], fresh: bool, take: Callable[[bytes], None] | None = None
) -> None:
    """All requests, AT_ONCE at a time; `fresh`: each over a connection of its own, as devices that are far apart have."""
    connector = aiohttp.TCPConnector(ssl=process.context, limit=AT_ONCE, force_close=fresh)
    queue = iter(requests)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def worker() -> None:
            for path, body, headers in queue:
                url = f"https://127.0.0.1:{process.port}{path}"
                async with session.request(
                    "POST" if body else "GET", url, data=body or None, headers=headers
                ) as reply:
                    content = await reply.read()
                    if reply.status != 200:
                        raise SystemExit(f"{path}: {reply.status} {content[:200]!r}")
                    if take is not None:
                        take(content)

        workers: list[Awaitable[None]] = [worker() for _ in range(AT_ONCE)]
        await asyncio.gather(*workers)


def timed(
    process: LeaderProcess, requests: list[Request], fresh: bool, name: str, take: Any = None
) -> dict[str, Any]:
    before = process.ask()
    with used() as own:
        asyncio.run(send(process, requests, fresh, take))
    after = process.ask()
    cpu_s = after["cpu_s"] - before["cpu_s"]
    return {
        "what": name,
        "connections": "a new one each" if fresh else "kept",
        "count": len(requests),
        "server_cpu_s": cpu_s,
        "server_cpu_ms_each": 1000 * cpu_s / len(requests),
        "load_cpu_s": own.cpu_s,
        "wall_s": own.wall_s,
        "peak_mb": after["peak_mb"],
        "refused": after["refused"],
    }


def measured(case: Namespace) -> list[dict[str, Any]]:
    """Check-ins over kept and over new connections, then every device's report, then the opening of the sum."""
    leader, authority = PartyKey.generate(), PartyKey.generate()
    devices = [Device(leader.public) for _ in range(case.uploads)]
    found = []
    with leading(case, devices, leader, authority) as process:
        said = write(CheckIn("phones", "8.2", READY, None, 0))
        warm = [device.request("check-in", said) for device in devices[:AT_ONCE]]
        asyncio.run(send(process, warm, False))
        chosen = [devices[place % len(devices)] for place in range(case.checkins)]
        answers: list[bytes] = []
        for fresh in (False, True):
            figures = timed(
                process, [d.request("check-in", said) for d in chosen], fresh, "check-ins", answers.append
            )
            figures["checkins_per_s"] = case.checkins / figures["wall_s"]
            figures["checkins_per_cpu_s"] = case.checkins / figures["server_cpu_s"]
            found.append(figures)
        offer = read(Answer, answers[0]).offer
        assert offer is not None
        papers: list[bytes] = []
        blob = devices[0].request(f"blobs/{offer.round.task.hex()}", b"")
        asyncio.run(send(process, [blob], False, papers.append))
        manifest = read_paper(Manifest, read(Signed, zlib.decompress(papers[0][1:])), leader.public)
        reports = _reports(devices, manifest, offer, leader.public, authority)
        rest = len(reports) // 2
        for part, fresh in ((reports[:rest], False), (reports[rest:], True)):
            figures = timed(process, part, fresh, "uploads")
            figures["d"], figures["cohort"] = manifest.parameters, len(reports)
            figures["clients_per_s"] = len(part) / figures["wall_s"]
            figures["bytes_per_param"] = (
                sum(len(body) for _, body, _ in part) / len(part) / manifest.parameters
            )
            found.append(figures)
        before = process.ask()
        with used() as own:
            while (after := process.ask())["phases"][0] not in ("opened", "aborted"):
                asyncio.run(asyncio.sleep(0.2))
        found.append({
            "what": "looking, answering and opening, both helpers included", "count": len(reports), "d": manifest.parameters,
            "cohort": len(reports), "server_cpu_s": after["cpu_s"] - before["cpu_s"], "wall_s": own.wall_s,
            "peak_mb": after["peak_mb"], "phase": after["phases"][0],
        })  # fmt: skip
    return found


def _reports(
    devices: list[Device], manifest: Manifest, offer: Offer, leader: bytes, authority: PartyKey
) -> list[Request]:
    terms = terms_of(manifest, offer.round)
    population = population_digest("phones", leader)
    values = np.random.default_rng(1).integers(-20, 21, report_length(manifest, offer.round))
    made = []
    for device in devices:
        admission = ticket(authority, population, device.key.public, FAR_MS)
        report = seal(terms, values, 1, device.key, admission)
        made.append(device.request("reports", report.encode()))
    return made
