"""Weight of evidence and information value."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import DataError
from isthmus.learn.woe import woe_table

BINS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12).filter(
    lambda bins: sum(b for b, _ in bins) > 0 and sum(g for _, g in bins) > 0
)


def test_a_worked_example_comes_out_as_by_hand() -> None:
    table = woe_table([10, 30], [100, 100])
    safe, risky = math.log((90 / 160) / (10 / 40)), math.log((70 / 160) / (30 / 40))
    assert table.woe == pytest.approx((safe, risky))
    assert table.contributions == pytest.approx(((90 / 160 - 0.25) * safe, (70 / 160 - 0.75) * risky))
    assert table.iv == pytest.approx(sum(table.contributions))
    assert table.bad_rates == (0.1, 0.3)


def test_a_bin_with_fewer_bads_than_average_has_a_positive_weight() -> None:
    table = woe_table([1, 9], [50, 50])
    assert table.woe[0] > 0 > table.woe[1]


def test_an_empty_cell_counts_half_a_row_and_leaves_the_other_cells_alone() -> None:
    table = woe_table([0, 10], [20, 100])
    assert table.woe[0] == pytest.approx(math.log((20 / 110) / (0.5 / 10)))
    assert table.woe[1] == pytest.approx(math.log((90 / 110) / (10 / 10)))


def test_a_bin_without_goods_is_smoothed_the_same_way() -> None:
    table = woe_table([20, 10], [20, 100])
    assert table.woe[0] == pytest.approx(math.log((0.5 / 90) / (20 / 30)))


def test_a_bin_without_rows_says_nothing() -> None:
    with_empty, without = woe_table([5, 0, 8], [50, 0, 40]), woe_table([5, 8], [50, 40])
    assert with_empty.woe[1] == 0.0
    assert with_empty.contributions[1] == 0.0
    assert with_empty.bad_rates[1] is None
    assert with_empty.iv == pytest.approx(without.iv)


@pytest.mark.parametrize(("positives", "totals"), [([0, 0], [5, 6]), ([5, 6], [5, 6]), ([], [])])
def test_one_class_is_refused_by_name(positives: list[int], totals: list[int]) -> None:
    with pytest.raises(DataError) as caught:
        woe_table(np.array(positives, dtype=np.int64), np.array(totals, dtype=np.int64))
    assert caught.value.code == "one_class"
    assert caught.value.fields == {"column": "label", "count": sum(totals)}


@pytest.mark.parametrize(
    ("positives", "totals"), [([3], [2]), ([-1, 2], [4, 4]), ([1, 1], [4]), ([0.5], [2])]
)
def test_impossible_counts_are_a_mistake_of_the_caller(positives: list[int], totals: list[int]) -> None:
    with pytest.raises(ValueError):
        woe_table(positives, totals)


@given(BINS)
def test_no_contribution_is_negative_and_all_are_finite(bins: list[tuple[int, int]]) -> None:
    table = woe_table([b for b, _ in bins], [b + g for b, g in bins])
    assert all(c >= 0 and math.isfinite(c) for c in table.contributions)
    assert table.iv == pytest.approx(sum(table.contributions))


@given(BINS)
def test_swapping_goods_and_bads_turns_the_sign_and_keeps_the_value(bins: list[tuple[int, int]]) -> None:
    one = woe_table([b for b, _ in bins], [b + g for b, g in bins])
    other = woe_table([g for _, g in bins], [b + g for b, g in bins])
    assert other.woe == pytest.approx([-w for w in one.woe])
    assert other.iv == pytest.approx(one.iv)
