"""Both parties as two real nodes over the link, TLS on loopback: what one more tree costs, workers and nodes apart.

Two jobs on the same nodes, of a few trees and of `trees` more. Their difference is the training alone: reading, alignment,
binning, hints and reports fall out. The label owner's worker also trains its own baseline, one local tree for each
joint one; that is measured in this process and taken out of its figure.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boost.data import Floats, as_table, cut, portfolio
from boost.pair import parameters
from isthmus.base.progress import Progress
from isthmus.base.randomness import Rng
from isthmus.client.temporary import TemporaryNodes
from isthmus.learn import tree
from isthmus.protocols.boost import LabelBooster

LABEL, FEATURE = "label-owner", "feature-owner"
FEW = 2
POLL_S = 1.0  # each look costs the node a request
TICKS_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spent:
    """CPU seconds of one job: both workers, both nodes; wall seconds of the training stage; bytes that crossed."""

    label: float
    feature: float
    nodes: float
    wall: float
    size_bytes: float


def run_nodes(case: Namespace) -> dict[str, Any]:
    """One sample."""
    x, y = portfolio(case)
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as work:
        root = Path(work)
        paths = write_tables(root, case, x, y)
        with TemporaryNodes([LABEL, FEATURE], root / "nodes", [root]) as nodes:
            for party, path in paths.items():
                more = {"label": "label", "objective": "binary"} if party == LABEL else {}
                nodes.node(party).client.add_dataset(party, str(path), "id", **more)
            run_job(nodes, case, 1)  # so that kernels are compiled and files read before anything counts
            few, _ = run_job(nodes, case, FEW)
            many, report = run_job(nodes, case, FEW + case.trees)
    baseline = baseline_cpu_s(case, x, y)

    def slope(field: str) -> float:
        return float((getattr(many, field) - getattr(few, field)) / case.trees)

    label, feature, both_nodes = slope("label") - baseline, slope("feature"), slope("nodes")
    return {
        "cpu_s_setup": few.label + few.feature + few.nodes - FEW * (label + feature + both_nodes + baseline),
        "cpu_s_per_tree": label + feature + both_nodes,
        "cpu_s_per_tree_label": label,
        "cpu_s_per_tree_feature": feature,
        "cpu_s_per_tree_nodes": both_nodes,
        "cpu_s_per_tree_baseline": baseline,
        "wall_s_per_tree": slope("wall"),
        "bytes_per_row_per_tree": slope("size_bytes") / case.rows,
        **report,
    }


def write_tables(root: Path, case: Namespace, x: Floats, y: Floats) -> dict[str, Path]:
    """label-owner.csv and feature-owner.csv with one id column in common."""
    ids = np.arange(len(x)) + 10_000_000
    columns = {
        LABEL: np.column_stack([ids, y, x[:, : case.own_features]]),
        FEATURE: np.column_stack([ids, x[:, case.own_features :]]),
    }
    paths = {}
    for party, table in columns.items():
        names = ["id", *(["label"] if party == LABEL else [])]
        names += [f"x{i}" for i in range(table.shape[1] - len(names))]
        paths[party] = root / f"{party}.csv"
        whole = ["%d"] * (2 if party == LABEL else 1)
        formats = whole + ["%.9g"] * (table.shape[1] - len(whole))
        np.savetxt(paths[party], table, formats, delimiter=",", header=",".join(names), comments="")
    return paths


def job_of(case: Namespace, trees: int) -> dict[str, Any]:
    p, crypto = parameters(case)
    return {
        "apiVersion": "isthmus/v1",
        "kind": "Job",
        "metadata": {"name": f"bench-{trees}", "purpose": "Measure what one tree costs over the link"},
        "parties": {"label_owner": LABEL, "feature_owners": [FEATURE]},
        "inputs": {
            party: {"dataset": f"{party}@1", "keys": [[{"column": "id"}]]} for party in (LABEL, FEATURE)
        },
        "sample": {"label": "label"},
        "split": {"by": "hash", "train": 0.8, "valid": 0, "test": 0.2},
        "features": {"binning": {"max_bins": case.bins}},
        "model": {
            "trees": trees,
            "depth": p.depth,
            "learning_rate": p.learning_rate,
            "stop_after": 0,
            "local_trees": 0,
        },
        "crypto": {"engine": case.engine, "paillier_bits": crypto.paillier_bits},
        "evaluate": {"bootstrap": 0},
        "run": {"cores": int(os.environ["OMP_NUM_THREADS"])},
        "report": {"languages": ["en"]},
    }


def run_job(nodes: TemporaryNodes, case: Namespace, trees: int) -> tuple[Spent, dict[str, Any]]:
    """What a job of so many trees cost, and the AUC and peak memory of its parties."""
    processes = [node.process.pid for node in nodes.nodes]
    before = sum(map(process_cpu_s, processes))
    ended = nodes.run(json.dumps(job_of(case, trees)), None, lambda: time.sleep(POLL_S), lambda job: None)
    if ended["error"]:
        raise SystemExit(f"the job failed: {ended['error']}")
    results = {}
    for node in nodes.nodes:
        while (result := node.client.job(ended["id"])["result"]) is None:
            time.sleep(POLL_S)
        results[node.party] = result
    spent = sum(map(process_cpu_s, processes)) - before
    label, feature = results[LABEL], results[FEATURE]
    crossed = label["bytes"]["sent_by_label"] + label["bytes"]["sent_by_feature"]
    return (
        Spent(label["cpu_s"], feature["cpu_s"], spent, label["seconds"]["train"], crossed),
        {
            "auc": label["metrics"]["joint"]["auc"],
            "peak_mb_label": label["peak_bytes"] / 1e6,
            "peak_mb_feature": feature["peak_bytes"] / 1e6,
        },
    )


def process_cpu_s(pid: int) -> float:
    """User and system seconds of one living process, without its children (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return float((int(fields[11]) + int(fields[12])) / TICKS_S)


def baseline_cpu_s(case: Namespace, x: Floats, y: Floats) -> float:
    """CPU seconds of one tree on the label owner's columns alone."""
    binned = cut(as_table(x[:, : case.own_features], 0), case.rows, case.bins)
    p, crypto = parameters(case)
    alone = LabelBooster([], None, binned, [], y[: case.rows], case.rows, p, crypto, Rng(bytes(32)))
    tree.warm()
    before = resource.getrusage(resource.RUSAGE_SELF)
    asyncio.run(alone.train(Progress()))
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(spent / case.trees)
