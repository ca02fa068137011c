"""`./run soak [--jobs N] [--minutes M]`: what two nodes hold on to while job after job runs through them, as JSON lines.

Small jobs go through two real node processes, one after another and now and then three at once, over a line that loses, doubles
and delays requests; workers are killed. With --small a worker only passes a message, so that the nodes see more jobs. Every few
jobs one line a node: jobs done, resident memory, open handles, threads, bytes of the write-ahead log and of the database. The
last line has the growth over the second half of the run, and the exit code is 1 if a job did not end well or something other
than the database grew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from isthmus.base.errors import IsthmusError
from tests.crash.lab import BANK, PARTIES, PARTNER, POLL_S, Lab, Node, document

KILLED_OF = 12
"""One job in so many loses a worker."""
ROUND_OF = 5
"""Every so many rounds three jobs at once."""
EVERY_JOBS = 10
RSS_MIB_MOST, MORE_MOST = 8.0, 2
"""How much a node may grow in the second half, memory and handles or threads."""
JOB_S = 180.0
JOBS_MOST = 1000
"""No grant allows more in thirty days."""
FIGURES = ("rss_mib", "handles", "threads", "wal_kib", "db_kib")


def held(node: Node) -> dict[str, float]:
    """What the process of a node holds now; of Linux alone."""
    place = Path(f"/proc/{node.process.pid}")
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
    sizes = {end: node.home / f"node.db{end}" for end in ("", "-wal")}
    kib = {end: path.stat().st_size / 1024 if path.exists() else 0.0 for end, path in sizes.items()}
    return {
        "rss_mib": round(int(status["VmRSS"].split()[0]) / 1024, 2),
        "handles": len(os.listdir(place / "fd")),
        "threads": int(status["Threads"]),
        "wal_kib": round(kib["-wal"]),
        "db_kib": round(kib[""]),
    }


def per_hundred(samples: list[tuple[int, float]]) -> float:
    """The slope of a straight line through the samples, for a hundred jobs."""
    count = len(samples)
    jobs = sum(done for done, _ in samples) / count
    mean = sum(value for _, value in samples) / count
    spread = sum((done - jobs) ** 2 for done, _ in samples)
    return 100 * sum((done - jobs) * (value - mean) for done, value in samples) / spread if spread else 0.0


class Soak:
    """Jobs through the two nodes of a lab, and what was measured."""

    def __init__(self, nodes: dict[str, Node], seed: int) -> None:
        self.nodes = nodes
        self.done = self.killed = 0
        self.bad: list[str] = []
        self.samples: dict[str, list[tuple[int, dict[str, float]]]] = {party: [] for party in nodes}
        self._draw = random.Random(seed)
        self._clients = {party: node.client() for party, node in nodes.items()}
        self._proposed = 0

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def round(self, jobs: int) -> None:
        """So many jobs at once, from their proposal to their end at both nodes."""
        waiting: dict[str, set[str]] = {}
        for _ in range(jobs):
            self._proposed += 1
            job = document("lattice-hint", 1) | {
                "metadata": {"name": f"soak-{self._proposed}", "purpose": "One job after another"},
                "privacy": {"runs_30d": JOBS_MOST},
            }
            waiting[self._clients[BANK].propose(json.dumps(job))["id"]] = set(PARTIES)
        strike_s = self._draw.uniform(0.5, 3.0) if self._draw.randrange(KILLED_OF) < jobs else None
        began_s = time.monotonic()
        while waiting and time.monotonic() - began_s < JOB_S:
            time.sleep(POLL_S)
            if strike_s is not None and time.monotonic() - began_s > strike_s:
                self.killed += self.nodes[self._draw.choice(PARTIES)].strike("worker")
                strike_s = None
            for job_id, left in list(waiting.items()):
                for party in list(left):
                    with suppress(IsthmusError):
                        self._look(job_id, party, left)
                if not left:
                    del waiting[job_id]
        self.bad += [self._stuck(job_id) for job_id in waiting]

    def _stuck(self, job_id: str) -> str:
        jobs = {party: client.job(job_id) for party, client in self._clients.items()}
        stands = [
            f"{party}: {job['state']} {(job['error'] or {}).get('code')}" for party, job in jobs.items()
        ]
        return f"{job_id} has not ended; {'; '.join(stands)}"

    def _look(self, job_id: str, party: str, left: set[str]) -> None:
        job = self._clients[party].job(job_id)
        if job["state"] == "proposed" and party == PARTNER:
            self._clients[party].accept_job(job_id, grant=True)
        elif job["state"] == "done":
            left.discard(party)
            self.done += party == BANK
        elif job["state"] in ("failed", "refused", "stopped", "paused"):
            left.discard(party)
            self.bad.append(f"{job_id} is {job['state']} at {party}: {(job['error'] or {}).get('code')}")

    def measure(self) -> None:
        for party, node in self.nodes.items():
            figures = held(node)
            self.samples[party].append((self.done, figures))
            print(json.dumps({"soak": party, "jobs": self.done, **figures}), flush=True)

    def result(self, seconds: float) -> dict[str, Any]:
        growth, more = {}, {}
        for party, samples in self.samples.items():
            later = samples[len(samples) // 2 :]
            growth[party] = {
                name: round(per_hundred([(done, figures[name]) for done, figures in later]), 3)
                for name in FIGURES
            }
            more[party] = {name: later[-1][1][name] - later[0][1][name] for name in FIGURES}
        grew = any(
            m["rss_mib"] > RSS_MIB_MOST or m["handles"] > MORE_MOST or m["threads"] > MORE_MOST
            for m in more.values()
        )
        return {
            "soak": "result",
            "jobs": self.done,
            "workers_killed": self.killed,
            "seconds": round(seconds),
            "bad": self.bad,
            "grew": grew,
            "growth_per_100_jobs": growth,
            "restarts": {party: node.starts - 1 for party, node in self.nodes.items()},
        }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./run soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=JOBS_MOST)
    parser.add_argument("--minutes", type=float, default=24 * 60.0, help="no new job after so long")
    parser.add_argument(
        "--small", action="store_true", help="workers that only pass a message: more jobs for the nodes"
    )
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.jobs <= JOBS_MOST:
        parser.error(f"--jobs: 1 to {JOBS_MOST}")
    with tempfile.TemporaryDirectory(prefix="isthmus-soak-") as root, ExitStack() as stack:
        lab = Lab(Path(root), rows=300, trees=1)
        for party in PARTIES:
            (lab.origin / party / "fate-line").write_text(str(chosen.seed))
            if chosen.small:
                (lab.origin / party / "small-worker").touch()
        nodes = {party: Node(lab.origin / party) for party in PARTIES}
        for node in nodes.values():
            stack.callback(node.close)
        until_up(nodes)
        soak = Soak(nodes, chosen.seed)
        stack.callback(soak.close)
        began_s, turn, measured = time.monotonic(), 0, 0
        while soak.done < chosen.jobs and time.monotonic() - began_s < chosen.minutes * 60 and not soak.bad:
            turn += 1
            soak.round(1 if turn % ROUND_OF else 3)
            if soak.done >= measured + EVERY_JOBS:
                measured = soak.done
                soak.measure()
        soak.measure()
        result = soak.result(time.monotonic() - began_s)
    print(json.dumps(result), flush=True)
    return 1 if result["bad"] or result["grew"] or any(result["restarts"].values()) else 0


def until_up(nodes: dict[str, Node]) -> None:
    """Waits until both nodes answer and the line between them stands."""
    while True:
        time.sleep(POLL_S)
        with suppress(IsthmusError):
            for node in nodes.values():
                with node.client() as client:
                    if not all(partner["connected"] for partner in client.partners()):
                        break
            else:
                return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
