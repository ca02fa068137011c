"""How near the feature owner's add loop comes to the speed of memory, measured in one thread of this process."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np

from isthmus.crypto.lattice.vectors import add_into_bins

RUNS = 7
COPY_BYTES = 256 * 2**20
WORD_BYTES = 7


def gb_per_s(size_bytes: float, work: Callable[[], Any]) -> float:
    """Gigabytes a second of thread CPU time, the best of several runs after one that does not count."""
    work()
    best = float("inf")
    for _ in range(RUNS):
        began = time.thread_time()
        work()
        best = min(best, time.thread_time() - began)
    return float(f"{size_bytes / best / 1e9:.3g}")


def add_loop(case: Namespace) -> dict[str, dict[str, float]]:
    """Gigabytes a second: the add loop at one and at eight vectors a pass, and plain numpy on arrays beyond the caches.

    By the bytes of main memory that a pass must read, a bin of every row and feature and a word of every row and vector; and by
    all that the loop moves, which for each addition is also a word, and a sum read and written, in the caches.
    """
    draw = np.random.default_rng(11)
    bins = draw.integers(1, case.bins + 1, (case.features, case.rows), dtype=np.uint8)
    counts = (case.bins + 1,) * case.features
    additions = case.rows * case.features
    plain = np.ones(COPY_BYTES // 8, dtype=np.uint64)
    target = np.empty_like(plain)
    figures: dict[str, dict[str, float]] = {
        "numpy": {
            "copy_gb_per_s": gb_per_s(2 * COPY_BYTES, lambda: np.copyto(target, plain)),
            "sum_gb_per_s": gb_per_s(COPY_BYTES, lambda: plain.sum()),
        }
    }
    for vectors in (1, 8):
        words = draw.integers(0, 256, (vectors, case.rows, WORD_BYTES), dtype=np.uint8)
        sums = np.zeros((vectors, sum(counts)), dtype=np.uint64)
        rate = gb_per_s(1e9, lambda: add_into_bins(sums, bins, counts, 0, words))  # noqa: B023
        figures[f"{vectors} vectors"] = {
            "ns_per_row_feature_vector": round(1e9 / rate / additions / vectors, 3),
            "memory_gb_per_s": round((additions + words.nbytes) * rate / 1e9, 2),
            "moved_gb_per_s": round(additions * (1 + 24 * vectors) * rate / 1e9, 2),
        }
    return figures
