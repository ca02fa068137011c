"""What the peers' scripts share: the case from the folder in argv, clocks, the answer back as JSON.

These scripts run under the Python of the peer's own environment and import nothing of Isthmus.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(sys.argv[1])


@dataclass(frozen=True)
class Case:
    """`x` and `bins` are `(rows + held-out rows, own_features + features)`, the label owner's columns first."""

    rows: int
    own_features: int
    features: int
    bins: int
    depth: int
    trees: int
    learning_rate: float
    x: np.ndarray
    y: np.ndarray
    binned: np.ndarray


def load() -> Case:
    arrays = {
        field: np.load(FOLDER / f"{name}.npy", allow_pickle=False)
        for field, name in (("x", "x"), ("y", "y"), ("binned", "bins"))
    }
    return Case(**json.loads((FOLDER / "case.json").read_text()), **arrays)


def cpu_s() -> float:
    """User and system seconds of this process, all its threads, and ended children."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What `work` gives, its CPU seconds, its wall seconds."""
    wall, cpu = time.perf_counter(), cpu_s()
    made = work()
    return made, cpu_s() - cpu, time.perf_counter() - wall


def per_tree(train: Callable[[int], Any], case: Case) -> tuple[dict[str, Any], Any]:
    """`train(trees)` with one tree and with `trees` more; the slope is what a tree costs, the rest is set-up.

    Returns the figures, and the model of `1 + trees` trees.
    """
    _, cpu_one, wall_one = timed(lambda: train(1))
    model, cpu_all, wall_all = timed(lambda: train(1 + case.trees))
    slope = (cpu_all - cpu_one) / case.trees
    figures = {
        "cpu_s_setup": max(cpu_one - slope, 0.0),
        "cpu_s_per_tree": slope,
        "wall_s_per_tree": (wall_all - wall_one) / case.trees,
    }
    return figures, model


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; equal scores share their mean rank."""
    _, inverse, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[inverse]
    ones = label.sum()
    return float((rank[label == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(label) - ones)))


def peak_mb() -> float | None:
    """Most memory of this program. What getrusage says would count the process that started it (Linux)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), None)


def finish(result: dict[str, Any], *packages: str) -> None:
    """Write the answer where the bench looks for it, with peak memory and versions."""
    versions = {"python": platform.python_version()}
    versions.update({name: importlib.metadata.version(name) for name in packages})
    answer = {**result, "peak_mb": peak_mb(), "versions": versions}
    (FOLDER / "result.json").write_text(json.dumps(answer))
