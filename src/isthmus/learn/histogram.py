"""Sums of integers per tree node, feature and bin, in the clear: what a party does with its own columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

BLOCK_ROWS = 4096
Sums = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BinMatrix:
    """Bins of one owner's features on the training rows: `bins` is `(features, rows)` uint8, `counts` the bins of each."""

    bins: NDArray[np.uint8]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if (self.bins.max(axis=1, initial=0) >= self.counts).any():
            raise ValueError("a row lies beyond the bins of its feature")

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
    """Sums of g and h, `(slots, R, 2)`: one slot per open tree node, features side by side; slot -1 takes no part.

    Exact: as many rows at a time as a word of two halves of 32 bits can hold. Values lie below 2^31 on either side.
    """
    if slot_of_row.max(initial=-1) >= slots:
        raise ValueError("a row lies beyond the slots")
    starts = np.cumsum([0, *matrix.counts[:-1]], dtype=np.uint64)
    sums = np.zeros((slots, matrix.total, 2), dtype=np.int64)
    widest = max(
        1, *(int(abs(edge)) for part in (g, h) for edge in (part.min(initial=0), part.max(initial=0)))
    )
    step = (2**31 - 1) // widest
    for start in range(0, len(slot_of_row), step):
        rows = slice(start, start + step)
        words = np.zeros((slots, matrix.total), dtype=np.int64)
        _kernel()(matrix.bins[:, rows], starts, slot_of_row[rows], g[rows], h[rows], words)
        low = words.astype(np.int32)
        sums[:, :, 0] += (words - low) >> 32
        sums[:, :, 1] += low
    return sums


def warm() -> None:
    """Compile the kernel, or load it from the cache (NUMBA_CACHE_DIR)."""
    _kernel()


@cache
def _kernel() -> Any:
    """`_add_rows` for arrays of any stride, read-only or not: one signature, so that nothing is compiled later."""

    def read(kind: Any, dimensions: int) -> Any:
        return types.Array(kind, dimensions, "A", readonly=True)

    signature = types.void(
        read(types.uint8, 2),
        read(types.uint64, 1),
        read(types.int32, 1),
        read(types.int64, 1),
        read(types.int64, 1),
        types.int64[:, ::1],
    )
    return njit(signature, cache=True, nogil=True)(_add_rows)


def _add_rows(bins: Any, starts: Any, slot_of_row: Any, g: Any, h: Any, sums: Any) -> None:
    """sums[slot, bin] += g * 2^32 + h for every row with a slot.

    Rows are gathered block by block; four features at a time, so that equal bins in a row need not wait for each other.
    Unsigned places spare the check for negative ones.
    """
    features, total = bins.shape[0], sums.shape[1]
    flat = sums.reshape(-1)
    at = np.empty(BLOCK_ROWS, np.uint64)
    base = np.empty(BLOCK_ROWS, np.uint64)
    word = np.empty(BLOCK_ROWS, np.int64)
    for first in range(0, slot_of_row.shape[0], BLOCK_ROWS):
        held = 0
        for i in range(first, min(first + BLOCK_ROWS, slot_of_row.shape[0])):
            slot = slot_of_row[i]
            if slot >= 0:
                at[held], base[held], word[held] = i, slot * total, (g[i] << 32) + h[i]
                held += 1
        f = 0
        while f + 4 <= features:
            b0, b1, b2, b3 = bins[f], bins[f + 1], bins[f + 2], bins[f + 3]
            s0, s1, s2, s3 = starts[f], starts[f + 1], starts[f + 2], starts[f + 3]
            for k in range(held):
                i, to, value = at[k], base[k], word[k]
                flat[to + s0 + b0[i]] += value
                flat[to + s1 + b1[i]] += value
                flat[to + s2 + b2[i]] += value
                flat[to + s3 + b3[i]] += value
            f += 4
        while f < features:
            b0, s0 = bins[f], starts[f]
            for k in range(held):
                flat[base[k] + s0 + b0[at[k]]] += word[k]
            f += 1
