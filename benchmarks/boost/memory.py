"""How near the feature owner's add loop comes to the speed of memory, measured in one thread of this process."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np

from isthmus.crypto.lattice import hint

RUNS = 7
COPY_BYTES = 256 * 2**20


def gb_per_s(size_bytes: float, work: Callable[[], Any]) -> float:
    """Bytes a second of thread CPU time, the best of several runs after one that does not count."""
    work()
    best = float("inf")
    for _ in range(RUNS):
        began = time.thread_time()
        work()
        best = min(best, time.thread_time() - began)
    return float(f"{size_bytes / best / 1e9:.3g}")


def add_loop(case: Namespace) -> dict[str, float]:
    """Gigabytes a second: the add loop by the bytes it must move, and plain numpy on arrays beyond the caches.

    One vector over all rows and features: each addition reads a word and a bin and reads and writes a sum, 8 + 1 + 16 bytes.
    """
    draw = np.random.default_rng(11)
    bins = draw.integers(1, case.bins + 1, (case.features, case.rows), dtype=np.uint8)
    counts = (case.bins + 1,) * case.features
    words = draw.integers(0, 2**63, case.rows, dtype=np.uint64)
    flat = hint.cells(bins, counts)
    plain = np.ones(COPY_BYTES // 8, dtype=np.uint64)
    target = np.empty_like(plain)
    additions = case.rows * case.features
    add = gb_per_s(25 * additions, lambda: hint.add_words(words, flat, sum(counts)))
    return {
        "add_gb_per_s": add,
        "add_ns_per_row_feature": round(25 / add, 3),
        "copy_gb_per_s": gb_per_s(2 * COPY_BYTES, lambda: np.copyto(target, plain)),
        "sum_gb_per_s": gb_per_s(COPY_BYTES, lambda: plain.sum()),
    }
