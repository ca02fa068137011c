"""A laboratory for crashes: two real nodes on loopback that run one whole job, are killed, and are started again.

The two nodes are made and joined once; every experiment runs on a copy of their folders, so that all begin alike. A node that
dies is started again at once, as a service manager would; nothing else is done for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.base.errors import IsthmusError
from isthmus.cli.demo import redone_by
from isthmus.client.client import Client
from isthmus.client.temporary import TemporaryNodes
from isthmus.store.folder import NodeFolder

BANK, PARTNER = "bank", "data-co"
PARTIES = (BANK, PARTNER)
TREES = 5
LIMIT_S = 120.0
POLL_S = 0.05
PROCESS = str(Path(__file__).with_name("process.py"))


@dataclass(frozen=True)
class Blow:
    """What befalls one party: at a boundary of one of its processes, or so many seconds after the job began to run. The role
    `line` is that of both parties: requests are lost before and after they arrive, doubled and late, by the seed."""

    party: str
    role: str
    point: int = 0
    after_s: float = 0.0
    how: str = "kill"
    seed: int = 0


@dataclass
class Outcome:
    """What became of one experiment."""

    finished: bool
    digests: dict[str, str]
    redone: int
    passed: dict[tuple[str, str], int]
    attempts: int
    struck: int
    wall_s: float
    errors: list[str] = field(default_factory=list)


class Node:
    """One node process, started again whenever it dies."""

    def __init__(self, home: Path) -> None:
        self.home, self.folder = home, NodeFolder(home)
        self.starts = 0
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with (self.home / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, PROCESS, "node", str(self.home)],
                stdin=subprocess.PIPE,
                stderr=log,
                stdout=log,
            )

    def tend(self) -> None:
        if self.process.poll() is not None:
            self.process = self._start()

    def client(self) -> Client:
        return Client(self.folder)

    def strike(self, role: str) -> bool:
        """SIGKILL to the node or to its worker; False where there is none."""
        if role == "node":
            self.process.kill()
            return True
        listing = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with suppress(OSError):
            for child in listing.read_text().split():
                os.kill(int(child), signal.SIGKILL)
                return True
        return False

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Lab:
    """`engine` of the job; everything lives in `root`."""

    def __init__(self, root: Path, engine: str = "lattice-hint", rows: int = 600, trees: int = TREES) -> None:
        self._root, self._turn = root, 0
        self._document = document(engine, trees)
        self.origin = root / "origin"
        self._tables(rows)
        with TemporaryNodes(PARTIES, self.origin, [root]) as nodes:
            for party in PARTIES:
                label = "bad" if party == BANK else None
                nodes.node(party).client.add_dataset("people", str(root / f"{party}.csv"), "id", label=label)

    def _tables(self, rows: int) -> None:
        draw = np.random.default_rng(5)
        traits = draw.normal(size=(2 * rows, 6))
        bad = (traits.sum(axis=1) + draw.normal(size=2 * rows) > 1).astype(int)
        for party, first, columns in ((BANK, 0, (0, 1, 2)), (PARTNER, rows // 5, (3, 4, 5))):
            lines = [",".join(["id", *(f"x{c}" for c in columns), *(["bad"] if party == BANK else [])])]
            for person in range(first, first + rows):
                cells = [f"p{person}", *(f"{traits[person, c]:.4f}" for c in columns)]
                lines.append(",".join([*cells, *([str(bad[person])] if party == BANK else [])]))
            (self._root / f"{party}.csv").write_text("\n".join(lines) + "\n")

    def run(self, blows: list[Blow]) -> Outcome:
        """One job under these blows, from its proposal to its end at both sides."""
        self._turn += 1
        place = self._root / f"run-{self._turn}"
        shutil.copytree(self.origin, place)
        for blow in blows:
            if blow.role == "line":
                for party in PARTIES:
                    (place / party / "fate-line").write_text(str(blow.seed))
            elif blow.point:
                (place / blow.party / f"fate-{blow.role}").write_text(f"{blow.how} {blow.point}")
        began_s = time.monotonic()
        with ExitStack() as stack:
            nodes = {party: Node(place / party) for party in PARTIES}
            for node in nodes.values():
                stack.callback(node.close)
            outcome = self._play(nodes, blows, began_s + LIMIT_S)
        outcome.wall_s = time.monotonic() - began_s
        if outcome.finished:
            shutil.rmtree(place)
        return outcome

    def _play(self, nodes: dict[str, Node], blows: list[Blow], limit_s: float) -> Outcome:
        timed = sorted((b for b in blows if not b.point and b.role != "line"), key=lambda b: b.after_s)
        job_id, accepted_s, struck = "", 0.0, 0
        proposed = json.dumps(self._document)
        done: set[str] = set()
        errors: list[str] = []
        while len(done) < len(nodes) and time.monotonic() < limit_s:
            time.sleep(POLL_S)
            for node in nodes.values():
                node.tend()
            with suppress(IsthmusError):
                if not job_id:
                    known = nodes[BANK].client().jobs()
                    job_id = known[0]["id"] if known else nodes[BANK].client().propose(proposed)["id"]
                for party, node in nodes.items():
                    job = node.client().job(job_id)
                    if party == PARTNER and job["state"] == "proposed":
                        node.client().accept_job(job_id, grant=True)
                    if job["state"] == "done":
                        done.add(party)
                    elif job["state"] in ("failed", "refused", "stopped", "paused"):
                        errors.append(f"{party}: {job['state']} {job['error']}")
                    elif job["state"] == "running" and not accepted_s:
                        accepted_s = time.monotonic()
            if errors:
                break
            if accepted_s and timed and time.monotonic() - accepted_s >= timed[0].after_s:
                blow = timed.pop(0)
                struck += nodes[blow.party].strike(blow.role)
        for blow in blows:
            if blow.role == "line" or (
                blow.point and not (nodes[blow.party].home / f"fate-{blow.role}").exists()
            ):
                struck += 1
        digests, redone, attempts = {}, 0, 0
        for party, node in nodes.items():
            half = node.home / "jobs" / job_id / "half.json"
            digests[party] = hashlib.sha256(half.read_bytes()).hexdigest() if half.exists() else ""
            with suppress(IsthmusError):
                again, count = redone_by(node.client().events(job_id))
                redone, attempts = max(redone, again), max(attempts, count)
        passed = {
            (party, role): (node.home / f"passed-{role}").stat().st_size
            for party, node in nodes.items()
            for role in ("node", "worker")
            if (node.home / f"passed-{role}").exists()
        }
        return Outcome(len(done) == len(nodes), digests, redone, passed, attempts, struck, 0.0, errors)


def document(engine: str, trees: int) -> dict[str, Any]:
    return {
        "apiVersion": "isthmus/v1",
        "kind": "Job",
        "metadata": {"name": "crash", "purpose": "A job that is killed again and again"},
        "parties": {"label_owner": BANK, "feature_owners": [PARTNER]},
        "inputs": {p: {"dataset": "people@1", "keys": [[{"column": "id"}]]} for p in PARTIES},
        "align": {"min_rows": 100},
        "sample": {"label": "bad"},
        "split": {"train": 0.8, "valid": 0, "test": 0.2},
        "model": {"trees": trees, "depth": 3, "min_child_rows": 20, "stop_after": 0, "local_trees": 1},
        "crypto": {"engine": engine, "paillier_bits": 2048},
        "evaluate": {"bootstrap": 10},
    }


def random_blows(seed: int, count: int, span_s: float) -> list[Blow]:
    """So many blows at random instants within the time that a job takes."""
    draw = random.Random(seed)
    return [
        Blow(draw.choice(PARTIES), draw.choice(("node", "worker")), after_s=draw.uniform(0, span_s))
        for _ in range(count)
    ]
