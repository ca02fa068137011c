"""Vertical boosted trees: CPU seconds, bytes and memory per tree, beside other systems on the same data.

    ./run bench boost [--quick] [--engine all|NAME,NAME] [--rows N --features F --bins B --depth D --trees T]
    ./run bench boost --engine lattice-hint,sf-heu-ou,secretflow-sgb-ou,fedtree-he,xgboost --peers FOLDER --repeats 3
    ./run bench boost --over link            two real nodes over TLS, the slope between 2 trees and 2 + T
    ./run bench boost --rate-mbit 100 --delay-ms 10    a slow line; the delay is one way
    ./run bench boost --profile              seconds by stage, and the add loop beside a plain copy
    ./run bench boost --growth >growth.jsonl; python benchmarks/plot_growth.py growth.jsonl

Prints one JSON line per case and engine: medians over `--repeats`, with the engines taking turns. `features` are the feature
owner's, `own_features` the label owner's. CPU seconds are of whole processes, user and system. Of our engines they run from
the first tree's begin to the last tree's end, divided by the trees; what happens once (keys, hints) stands in `cpu_s_setup`.
`cpu_s_offline` is the part of `cpu_s_per_tree` that both parties could do ahead of a tree. Of SecretFlow, FedTree and
xgboost they are the slope between 1 tree and 1 + T. Libraries that would use threads of their own get one, unless
OMP_NUM_THREADS says otherwise. null: does not apply, or is not known. AUC is on 20 % held-out rows.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from boost import growth, memory, nodes, pair
from boost.beside import PEERS, run_peer

OURS = ("paillier", "lattice-hint")
KEYS = (
    "cpu_s_setup", "mb_setup", "cpu_s_offline", "cpu_s_per_tree", "cpu_s_per_tree_label", "cpu_s_per_tree_feature",
    "cpu_s_per_tree_nodes", "cpu_s_per_tree_baseline", "wall_s_per_tree", "bytes_per_row_per_tree",
    "peak_mb_label", "peak_mb_feature", "peak_mb", "auc",
)  # fmt: skip
MORE: tuple[str, ...] = ("key_bits", "auc_trees", "profile", "memory")


def sample(case: Namespace) -> dict[str, Any]:
    if case.engine in PEERS:
        return run_peer(case)
    return nodes.run_nodes(case) if case.over == "link" else pair.run_pair(case)


def line(case: Namespace, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """One JSON line out of the samples of one engine."""
    engine = f"paillier-{case.key_bits}" if case.engine == "paillier" else case.engine
    names = ("rows", "own_features", "features", "bins", "depth", "trees")
    head = {"bench": "boost", "engine": engine, **{name: getattr(case, name) for name in names}}
    if case.engine in OURS:
        head.update(over=case.over, rate_mbit=case.rate_mbit, delay_ms=case.delay_ms)
    skipped = [s["skipped"] for s in samples if "skipped" in s]
    if skipped:
        return {**head, "skipped": skipped[0]}
    figures = {name: _median(s.get(name) for s in samples) for name in KEYS}
    whole = [s["cpu_s_per_tree"] for s in samples]
    last = samples[-1]
    more: dict[str, Any] = {name: last[name] for name in MORE if name in last}
    return {
        **head,
        **figures,
        "cpu_s_per_tree_range": [_short(min(whole)), _short(max(whole))],
        **more,
        "repeats": len(samples),
        "cores": len(os.sched_getaffinity(0)),
        "library_threads": int(os.environ["OMP_NUM_THREADS"]),
        "load": round(os.getloadavg()[0], 2),
        "machine": _machine(),
        "versions": last.get("versions") or _versions(),
    }


def measure(case: Namespace, engines: Iterable[str]) -> None:
    """Every engine in turn, `repeats` times, then a line each."""
    cases = [Namespace(**{**vars(case), "engine": engine}) for engine in engines]
    samples: dict[str, list[dict[str, Any]]] = {c.engine: [] for c in cases}
    for _ in range(case.repeats):
        for one in cases:
            if not any("skipped" in s for s in samples[one.engine]):
                samples[one.engine].append(sample(one))
    for one in cases:
        if case.profile and one.engine == "lattice-hint":
            samples[one.engine][-1]["memory"] = memory.add_loop(one)
        print(json.dumps(line(one, samples[one.engine])), flush=True)


def _median(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return _short(statistics.median(known)) if known else None


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _machine() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if text.startswith("model name"):
            return f"{text.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{platform.machine()}, {os.cpu_count()} cores"


def _versions() -> dict[str, str]:
    names = ("isthmus", "numpy", "numba", "cryptography")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def _engines(text: str) -> tuple[str, ...]:
    """`all`: ours; `peers`: lattice-hint and every peer; else names with commas."""
    if text in ("all", "peers"):
        return OURS if text == "all" else ("lattice-hint", *PEERS)
    names = tuple(text.split(","))
    for name in names:
        if name not in (*OURS, *PEERS):
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join((*OURS, *PEERS))}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two small cases")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--own-features", type=int, default=5)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--bins", type=int, default=32)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--trees", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--key-bits", type=int, default=2048, help="of the Paillier engine")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--engine", type=_engines, default=OURS, help=_engines.__doc__)
    parser.add_argument("--peers", help="folder with an environment per peer: heu, secretflow, fedtree")
    parser.add_argument("--over", choices=["socket", "link"], default="socket")
    parser.add_argument("--rate-mbit", type=float, help="a slow line, over a socket only")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="one way, over a socket only")
    parser.add_argument("--cores", type=int, help="pin every process to so many cores")
    parser.add_argument("--profile", action="store_true", help="CPU seconds by stage")
    parser.add_argument("--growth", action="store_true", help="rows, features, bins and depth, one at a time")
    chosen = parser.parse_args()
    if "OMP_NUM_THREADS" not in os.environ:
        # The libraries of matrix products and of peers read it when they are loaded.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    if chosen.over == "link" and (chosen.rate_mbit or chosen.delay_ms or chosen.profile):
        parser.error("--over link goes with none of --rate-mbit, --delay-ms, --profile")
    if chosen.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.cores])
    if chosen.growth:
        for axis, case in growth.cases(chosen):
            samples = [sample(case) for _ in range(case.repeats)]
            print(json.dumps({"axis": axis, **line(case, samples)}), flush=True)
        return
    for rows in [chosen.rows] if chosen.rows else [1_000, 4_000] if chosen.quick else [10_000, 24_000]:
        measure(Namespace(**{**vars(chosen), "rows": rows}), chosen.engine)


if __name__ == "__main__":
    main()
