"""Sums per tree node and bin: exact, whatever the layout, and nothing left to compile once the kernels are warm."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from isthmus.learn.histogram import BLOCK_ROWS, BinMatrix, Sums, histogram


def added_one_by_one(
    matrix: BinMatrix, slot_of_row: np.ndarray, slots: int, g: np.ndarray, h: np.ndarray
) -> Sums:
    sums = np.zeros((slots, matrix.total, 2), dtype=np.int64)
    start = 0
    for feature, count in enumerate(matrix.counts):
        for row in np.flatnonzero(slot_of_row >= 0).tolist():
            cell = sums[slot_of_row[row], start + int(matrix.bins[feature, row])]
            cell += (g[row], h[row])
        start += count
    return sums


def case(
    rows: int, features: int, slots: int, widest: int
) -> tuple[BinMatrix, np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(rows + features)
    counts = tuple(draw.integers(2, 256, features).tolist())
    bins = np.stack([draw.integers(0, count, rows, dtype=np.uint8) for count in counts])
    slot_of_row = draw.integers(-1, slots, rows).astype(np.int32)
    g, h = draw.integers(-widest, widest + 1, rows), draw.integers(-widest, widest + 1, rows)
    return BinMatrix(bins, counts), slot_of_row, g, h


@pytest.mark.parametrize(
    ("rows", "features", "slots", "widest"),
    [
        (0, 2, 1, 15),
        (1, 1, 1, 15),
        (BLOCK_ROWS, 4, 2, 15),
        (BLOCK_ROWS + 1, 7, 3, 15),
        (300, 5, 2, 2**31 - 1),
    ],
)
def test_sums_are_those_of_adding_one_by_one(rows: int, features: int, slots: int, widest: int) -> None:
    matrix, slot_of_row, g, h = case(rows, features, slots, widest)
    expected = added_one_by_one(matrix, slot_of_row, slots, g, h)
    assert (histogram(matrix, slot_of_row, slots, g, h) == expected).all()


def test_a_sum_at_the_limit_of_a_half_word_does_not_reach_the_other() -> None:
    rows = 6
    matrix = BinMatrix(np.ones((1, rows), dtype=np.uint8), (2,))
    edge = np.full(rows, 2**30, dtype=np.int64)
    for g, h in ((edge, edge), (-edge, edge), (edge, -edge), (-edge, -edge)):
        sums = histogram(matrix, np.zeros(rows, dtype=np.int32), 1, g, h)
        assert sums.tolist() == [[[0, 0], [g.sum(), h.sum()]]]


def test_a_view_of_some_rows_gives_the_sums_of_a_copy() -> None:
    matrix, slot_of_row, g, h = case(500, 5, 2, 15)
    view = BinMatrix(matrix.bins[:, :300], matrix.counts)
    copy = BinMatrix(view.bins.copy(), matrix.counts)
    rest = slot_of_row[:300], 2, g[:300], h[:300]
    assert (histogram(view, *rest) == histogram(copy, *rest)).all()


def test_a_bin_or_slot_that_does_not_exist_is_refused() -> None:
    bins = np.array([[0, 1], [0, 2]], dtype=np.uint8)
    with pytest.raises(ValueError, match="bins"):
        BinMatrix(bins, (2, 2))
    ones = np.ones(2, dtype=np.int64)
    with pytest.raises(ValueError, match="slots"):
        histogram(BinMatrix(bins, (2, 3)), np.array([0, 1], dtype=np.int32), 1, ones, ones)


AFTER_WARMING = """
import sys
import numpy as np
from isthmus.learn import tree
from isthmus.learn.histogram import BinMatrix, histogram
from isthmus.learn.parameters import BoostedTrees
from isthmus.learn.quantise import Quantised

tree.warm()
loaded = []
sys.addaudithook(lambda event, _: loaded.append(event) if event in ("pickle.find_class", "compile") else None)
wide = np.zeros((2, 40), dtype=np.uint8)
wide[:, ::2] = 1
for bins in (wide, wide[:, :30], wide.T.copy().T):
    bins.flags.writeable = False
    rows = bins.shape[1]
    g, h = np.where(bins[0], 3, -3), np.ones(2 * rows, dtype=np.int64)[::2]
    g.flags.writeable = False
    sums = histogram(BinMatrix(bins, (2, 3)), np.zeros(rows, dtype=np.int32), 1, g, h)
    sums.flags.writeable = False
    q, p = Quantised(g, h, 1.0, 1.0), BoostedTrees(min_child_hessian=0)
    splits = tree.best_splits([[sums[0]]], [(2, 3)], [np.ones(2, dtype=bool)], q, p)
    assert splits[0] is not None and splits[0].last_left == 1, splits
assert not loaded, loaded
"""


def test_once_warm_nothing_is_compiled_or_loaded_whatever_the_layout() -> None:
    done = subprocess.run([sys.executable, "-c", AFTER_WARMING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
