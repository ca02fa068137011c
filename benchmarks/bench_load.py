"""Load: a job trains in a real pair of nodes while people and programs ask one of them for things, at a steady pace.

    ./run bench load [--quick] [--per-s N] [--seconds S] [--rows N] [--trees N] [--repeats N]

Prints one JSON line. Requests are sent when they are due, whatever became of those before (most read jobs, events, partners,
datasets and the audit log; somebody signs in every ten seconds; three event streams stay open), and a latency counts from the
moment when the request was due. `slowdown` is the median wall time of the training at the label owner with that load over the
median without, runs of one job file taking turns. At the end one token asks for more than its limit, which must give 429. The
exit code is 1 if there was any 5xx, no 429, a job that did not end well, or another result under load than without.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from isthmus.client.temporary import TemporaryNodes

PARTIES = ("bank", "data-co")
BURST = 50
"""Limits of the node under test: a machine of two cores that trains beside it could not answer as many as the product allows."""
STREAMS = 3
SIGN_IN_S = 10.0
NAME, PASSWORD = "ann", "four unrelated words here"
CODES = {2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}


@dataclass
class Seen:
    """What came of the requests."""

    latencies_s: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    events: int = 0

    def take(self, status: int, since_s: float) -> None:
        self.latencies_s.append(time.perf_counter() - since_s)
        self.codes["429" if status == 429 else CODES.get(status // 100, str(status))] += 1


def write_tables(folder: Path, rows: int) -> None:
    draw = np.random.default_rng(11)
    traits = draw.normal(size=(rows + rows // 10, 12))
    bad = (traits.sum(axis=1) + draw.normal(size=len(traits)) > 3).astype(int)
    for party, first, columns in (("bank", 0, range(6)), ("data-co", rows // 10, range(6, 12))):
        lines = [",".join(["id", *(f"x{c}" for c in columns), *(["bad"] if party == "bank" else [])])]
        for person in range(first, first + rows):
            cells = [f"p{person}", *(f"{traits[person, c]:.4f}" for c in columns)]
            lines.append(",".join([*cells, *([str(bad[person])] if party == "bank" else [])]))
        (folder / f"{party}.csv").write_text("\n".join(lines) + "\n")


def document(trees: int) -> str:
    job = {
        "apiVersion": "isthmus/v1",
        "kind": "Job",
        "metadata": {"name": "load", "purpose": "A job that trains under load"},
        "parties": {"label_owner": "bank", "feature_owners": ["data-co"]},
        "inputs": {party: {"dataset": "people@1", "keys": [[{"column": "id"}]]} for party in PARTIES},
        "align": {"min_rows": 100},
        "sample": {"label": "bad"},
        "model": {"trees": trees, "depth": 4, "stop_after": 0},
        "crypto": {"engine": "lattice-hint"},
        "run": {"seed": 7},
        "evaluate": {"bootstrap": 10},
        "privacy": {"runs_30d": 100},
    }
    return json.dumps(job)


class Load:
    """Asks one node for things, at a steady pace, until it is told to end."""

    def __init__(self, root: str, token: str, per_s: float) -> None:
        self._root, self._per_s, self.seen = root, per_s, Seen()
        self._bearer = {"Authorization": f"Bearer {token}"}
        self._limits = httpx.Limits(max_connections=64)

    async def run(self, job_id: str, end: asyncio.Event) -> None:
        paths = (
            *("/jobs?limit=20", f"/jobs/{job_id}", f"/jobs/{job_id}/events?after=0", "/node", "/partners"),
            *("/datasets", "/audit?limit=50", "/grants", "/projects", "/approvals", f"/jobs/{job_id}/plan"),
        )
        async with (
            httpx.AsyncClient(
                base_url=self._root, trust_env=False, timeout=60, limits=self._limits
            ) as client,
            asyncio.TaskGroup() as tasks,
        ):
            streams = [tasks.create_task(self._stream(client, job_id)) for _ in range(STREAMS)]
            began_s, number, signs_in_s = time.perf_counter(), 0, 0.0
            while not end.is_set():
                due_s = began_s + number / self._per_s
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                if due_s - began_s >= signs_in_s:
                    signs_in_s += SIGN_IN_S
                    body = {"name": NAME, "password": PASSWORD}
                    tasks.create_task(self._one(client, "POST", "/sign-in", due_s, body))
                else:
                    tasks.create_task(self._one(client, "GET", paths[number % len(paths)], due_s))
                number += 1
            for stream in streams:
                stream.cancel()

    async def _one(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        due_s: float,
        body: dict[str, str] | None = None,
    ) -> None:
        headers = {} if body else self._bearer
        answer = await client.request(method, f"/api/v1{path}", headers=headers, json=body)
        self.seen.take(answer.status_code, due_s)

    async def _stream(self, client: httpx.AsyncClient, job_id: str) -> None:
        headers = {**self._bearer, "Accept": "text/event-stream"}
        began_s = time.perf_counter()
        async with client.stream("GET", f"/api/v1/jobs/{job_id}/events", headers=headers) as answer:
            self.seen.take(answer.status_code, began_s)
            async for line in answer.aiter_lines():
                self.seen.events += line.startswith("event:")

    async def flood(self, most: int) -> Counter[str]:
        """So many requests at once, of one token."""
        seen = Seen()
        async with httpx.AsyncClient(
            base_url=self._root, trust_env=False, timeout=60, limits=self._limits
        ) as client:

            async def ask() -> None:
                since_s = time.perf_counter()
                answer = await client.get("/api/v1/node", headers=self._bearer)
                seen.take(answer.status_code, since_s)

            await asyncio.gather(*(ask() for _ in range(most)))
        return seen.codes


class Bench:
    """Jobs with and without load, on one pair of nodes."""

    def __init__(self, nodes: TemporaryNodes, asked: argparse.Namespace) -> None:
        self._nodes, self._asked = nodes, asked
        bank = nodes.node("bank")
        added = bank.client.add_user(NAME, ["modeller"])
        bank.client.sign_in(NAME, PASSWORD, once=added["once"])
        control = bank.folder.control()
        self.load = Load(f"http://127.0.0.1:{control.port}", control.token, asked.per_s)

    def job(self, loaded: bool, lasts_s: float = 0.0) -> tuple[float, dict[str, Any]]:
        """One job: its wall seconds at the label owner, and the figures that must not depend on the load."""
        return asyncio.run(self._job(loaded, lasts_s))

    async def _job(self, loaded: bool, lasts_s: float) -> tuple[float, dict[str, Any]]:
        bank, partner = (self._nodes.node(party).client for party in PARTIES)
        began_s = time.perf_counter()
        job_id = (await asyncio.to_thread(bank.propose, document(self._asked.trees)))["id"]
        end, load = asyncio.Event(), None
        if loaded:
            load = asyncio.create_task(self.load.run(job_id, end))
        ended = await asyncio.to_thread(self._follow, bank, partner, job_id)
        if load is not None:
            await asyncio.sleep(max(0.0, lasts_s - (time.perf_counter() - began_s)))
            end.set()
            await load
        if ended["state"] != "done":
            raise SystemExit(f"{job_id} is {ended['state']}: {ended['error']}")
        model = (Path(ended["folder"]) / "half.json").read_text("utf-8")
        figures = {name: ended["result"][name] for name in ended["result"] if name not in MEASURED}
        return ended["result"]["wall_s"], {"trees": json.loads(model)["trees"], **figures}

    @staticmethod
    def _follow(bank: Any, partner: Any, job_id: str) -> Any:
        while job_id not in [job["id"] for job in partner.jobs()]:
            time.sleep(0.05)
        partner.accept_job(job_id, grant=True)
        return bank.follow(job_id, lambda: time.sleep(0.2), lambda job: None)


MEASURED = ("wall_s", "cpu_s", "peak_bytes", "attempts", "seconds", "bytes", "spent", "rounds")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="isthmus-load-") as name:
        root = Path(name)
        write_tables(root, asked.rows)
        with TemporaryNodes(list(PARTIES), root / "nodes", [root]) as nodes:
            for party in PARTIES:
                label = "bad" if party == "bank" else None
                nodes.node(party).client.add_dataset("people", str(root / f"{party}.csv"), "id", label=label)
            config = nodes.node("bank").folder.home / "config.yaml"
            text = config.read_text("utf-8").replace("burst: 1000", f"burst: {BURST}")
            config.write_text(text.replace("per_s: 100.0", f"per_s: {1.25 * asked.per_s}"), "utf-8")
            nodes.restart("bank")
            bench = Bench(nodes, asked)
            bench.job(loaded=False)  # kernels are compiled, files are read
            alone, under = [], []
            for turn in range(asked.repeats):
                alone.append(bench.job(loaded=False))
                under.append(bench.job(loaded=True, lasts_s=asked.seconds if turn == 0 else 0.0))
            flooded = asyncio.run(bench.load.flood(asked.flood))
    seen = bench.load.seen
    latencies_ms = sorted(1000 * latency for latency in seen.latencies_s)
    walls = [statistics.median(wall for wall, _ in some) for some in (alone, under)]
    return {
        "bench": "load",
        "requests": len(latencies_ms),
        "per_s": asked.per_s,
        "codes": dict(seen.codes),
        "5xx": seen.codes["5xx"] + flooded["5xx"],
        "p50_ms": round(latencies_ms[len(latencies_ms) // 2], 1),
        "p99_ms": round(latencies_ms[int(0.99 * (len(latencies_ms) - 1))], 1),
        "events": seen.events,
        "train_s_alone": [round(wall, 2) for wall, _ in alone],
        "train_s_loaded": [round(wall, 2) for wall, _ in under],
        "slowdown": round(walls[1] / walls[0], 3),
        "flood": dict(flooded),
        "identical": all(figures == alone[0][1] for _, figures in alone + under),
        "rows": asked.rows,
        "trees": asked.trees,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version(), "isthmus": importlib.metadata.version("isthmus")},
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small job, once, under a few seconds of load")
    parser.add_argument("--per-s", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the first load lasts at least")
    parser.add_argument("--rows", type=int, default=24_000)
    parser.add_argument("--trees", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--flood", type=int, default=600)
    asked = parser.parse_args()
    if asked.quick:
        asked.rows, asked.trees, asked.repeats, asked.seconds = 1000, 2, 1, 5.0
    line = run(asked)
    print(json.dumps(line), flush=True)
    return 0 if line["identical"] and not line["5xx"] and line["flood"].get("429") else 1


if __name__ == "__main__":
    sys.exit(main())
