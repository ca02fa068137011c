"""Sums of integers per tree node, feature and bin, in the clear: what a party does with its own columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BinMatrix:
    """Bins of one owner's features on the training rows: `bins` is `(features, rows)` uint8, `counts` the bins of each."""

    bins: NDArray[np.uint8]
    counts: tuple[int, ...]

    @property
    def rows(self) -> int:
        return int(self.bins.shape[1])

    @property
    def total(self) -> int:
        """All bins of all features, R."""
        return sum(self.counts)


def histogram(
    matrix: BinMatrix, slot_of_row: NDArray[np.int32], slots: int, g: NDArray[np.int64], h: NDArray[np.int64]
) -> Sums:
    """Sums of g and h, `(slots, R, 2)`: one slot per open tree node, features side by side; slot -1 takes no part."""
    inside = np.flatnonzero(slot_of_row >= 0)
    slot = slot_of_row[inside].astype(np.int64)
    weights = (g[inside].astype(np.float64), h[inside].astype(np.float64))
    sums = np.zeros((slots, matrix.total, 2), dtype=np.int64)
    start = 0
    for feature, count in enumerate(matrix.counts):
        key = slot * count + matrix.bins[feature, inside]
        for part, weight in enumerate(weights):
            flat = np.bincount(key, weights=weight, minlength=slots * count)
            sums[:, start : start + count, part] = flat.reshape(slots, count)
        start += count
    return sums
