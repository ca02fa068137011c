"""Buckets: what a spoiled one can do to the model, and that it is named."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.fleet.combine import RULES, Rule, combine

TRUE = np.linspace(-1, 1, 40)


def buckets(count: int, spoiled: dict[int, np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(count)
    weights = draw.integers(90, 110, count).astype(float)
    means = TRUE + 0.05 * draw.normal(size=(count, 40))
    for place, value in (spoiled or {}).items():
        means[place] = value
    return means * weights[:, None], weights


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_honest_buckets_give_about_their_mean_and_none_stands_out(rule: Rule, count: int) -> None:
    sums, weights = buckets(count)
    found = combine(sums, weights, rule)
    assert found.weight == weights.sum()
    assert np.abs(found.summed / found.weight - TRUE).max() < 0.2
    assert found.flagged == ()


def test_the_mean_is_the_sum_of_all_reports() -> None:
    sums, weights = buckets(5)
    assert combine(sums, weights, "mean").summed == pytest.approx(sums.sum(axis=0))


@pytest.mark.parametrize(
    "value", [100 * TRUE, -TRUE, np.full(40, 1e12)], ids=["scaled", "flipped", "garbled"]
)
@pytest.mark.parametrize("rule", ["clip", "median", "trimmed_mean"])
def test_a_spoiled_bucket_does_not_carry_the_model_and_is_named(rule: Rule, value: np.ndarray) -> None:
    sums, weights = buckets(7, {4: value})
    found = combine(sums, weights, rule)
    assert found.flagged == (4,)
    error = np.linalg.norm(found.summed / found.weight - TRUE) / np.linalg.norm(TRUE)
    assert error < (0.35 if rule == "clip" else 0.1)


def test_the_plain_mean_would_have_been_carried_away() -> None:
    sums, weights = buckets(7, {4: 100 * TRUE})
    found = combine(sums, weights, "mean")
    assert found.flagged == (4,)
    assert np.abs(found.summed / found.weight - TRUE).max() > 5


def test_one_coordinate_that_is_off_in_one_bucket_is_seen() -> None:
    sums, weights = buckets(4)
    sums[2, 7] += 50 * weights[2]
    found = combine(sums, weights)
    assert found.flagged == (2,)
    assert np.abs(found.summed / found.weight - TRUE).max() < 0.2


def test_of_two_buckets_nobody_can_say_which_one_lies() -> None:
    sums, weights = buckets(2, {0: 100 * TRUE})
    assert combine(sums, weights).flagged == ()


def test_equal_buckets_are_not_flagged() -> None:
    assert combine(np.tile(TRUE, (5, 1)), np.ones(5)).flagged == ()
    assert combine(np.zeros((5, 3)), np.ones(5)).flagged == ()


def test_empty_and_endless_buckets_are_refused() -> None:
    for sums, weights in (
        (np.ones((2, 3)), np.array([1.0, 0.0])),
        (np.full((1, 3), np.inf), np.ones(1)),
        (np.ones((0, 3)), np.ones(0)),
    ):
        with pytest.raises(ValueError, match="bucket"):
            combine(sums, weights)
