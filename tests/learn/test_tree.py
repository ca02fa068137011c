"""The best split of a tree node: the largest gain, and the first of equal ones."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.learn.histogram import Sums
from isthmus.learn.parameters import BoostedTrees
from isthmus.learn.quantise import Quantised
from isthmus.learn.tree import Split, best_splits

NOTHING = np.zeros(0, dtype=np.int64)
SCALES = Quantised(NOTHING, NOTHING, 0.25, 0.5)
PARAMETERS = BoostedTrees(min_child_hessian=1.0)


def sums_of(*bins: tuple[int, int]) -> Sums:
    return np.array(bins, dtype=np.int64)


def best(
    owners: list[Sums],
    counts: list[tuple[int, ...]],
    chosen: list[list[bool]] | None = None,
    p: BoostedTrees = PARAMETERS,
) -> Split | None:
    open_features = chosen or [[True] * len(own) for own in counts]
    return best_splits([owners], counts, [np.array(own) for own in open_features], SCALES, p)[0]


FLAT = sums_of((0, 0), (4, 20), (4, 20))
STEEP = sums_of((0, 0), (-8, 20), (16, 20))
NEITHER_SIDE = sums_of((0, 0), (-8, 20), (0, 0), (16, 20))
MISSING = sums_of((16, 20), (-8, 20))


def test_the_largest_gain_wins_wherever_it_is() -> None:
    found = best([FLAT, np.concatenate([FLAT, STEEP])], [(3,), (3, 3)])
    assert found is not None
    assert (found.owner, found.feature, found.last_left, found.missing_left) == (1, 1, 1, False)
    left, right, both = (-2.0) ** 2 / 11.0, 4.0**2 / 11.0, 2.0**2 / 21.0
    assert found.gain == left + right - both


def test_of_equal_gains_the_first_owner_and_feature_win() -> None:
    twice = np.concatenate([STEEP, STEEP])
    first = best([twice, twice], [(3, 3), (3, 3)])
    assert first is not None
    assert (first.owner, first.feature) == (0, 0)
    second = best([twice, twice], [(3, 3), (3, 3)], [[False, True], [True, True]])
    assert second is not None
    assert (second.owner, second.feature) == (0, 1)
    third = best([twice, twice], [(3, 3), (3, 3)], [[False, False], [True, True]])
    assert third is not None
    assert (third.owner, third.feature) == (1, 0)


def test_of_equal_gains_the_lower_bin_and_missing_right_win() -> None:
    found = best([NEITHER_SIDE], [(4,)])
    assert found is not None
    assert (found.last_left, found.missing_left) == (1, False)


@pytest.mark.parametrize(
    ("bins", "missing_left"),
    [
        (sums_of((-8, 20), (-8, 20), (16, 20)), True),
        (sums_of((16, 20), (-8, 20), (16, 20)), False),
        (MISSING, False),
    ],
)
def test_missing_values_go_where_the_gain_is(bins: Sums, missing_left: bool) -> None:
    found = best([bins], [(len(bins),)])
    assert found is not None
    assert (found.last_left, found.missing_left) == (1, missing_left)


@pytest.mark.parametrize(
    "p",
    [BoostedTrees(min_child_hessian=10.5), BoostedTrees(min_child_hessian=1.0, gamma=1.63)],
)
def test_a_split_under_a_floor_is_none(p: BoostedTrees) -> None:
    assert best([STEEP], [(3,)], p=p) is None


def test_a_split_at_the_floors_stands() -> None:
    assert best([STEEP], [(3,)], p=BoostedTrees(min_child_hessian=10.0, gamma=1.62)) is not None


def test_every_tree_node_of_a_level_gets_its_own_split() -> None:
    level = [[FLAT], [STEEP], [NEITHER_SIDE[[0, 1, 3]]]]
    found = best_splits(level, [(3,)], [np.array([True])], SCALES, PARAMETERS)
    assert found == [best(node, [(3,)]) for node in level]
    assert [split is None for split in found] == [True, False, False]
