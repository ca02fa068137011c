"""The personal head: nearest to the shared one with few examples, the most likely one with many; figures of a ranking."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from isthmus.learn.head import Head
from isthmus.learn.personal import BIAS_PRECISION, WEIGHT_PRECISION, alone, ranking, with_personal

METRICS = ("accuracy", "auc_per_device", "hit_top3")


def person(rows: int, outputs: int = 1, seed: int = 2) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 5))
    return x, rng.integers(0, max(2, outputs), rows).astype(float), rng.uniform(0.5, 2, rows)


@pytest.mark.parametrize(
    ("layers", "loss", "outputs"),
    [([{"dense": 1}, "sigmoid"], "bce", 1), ([{"dense": 4}, "tanh", {"dense": 3}, "softmax"], "ce", 3)],
)
def test_the_change_is_the_most_likely_one_under_its_prior(layers: Any, loss: str, outputs: int) -> None:
    head = Head.from_layers(layers, 5, loss)
    shared = np.random.default_rng(1).normal(size=head.size)
    x, y, weight = person(40, outputs)
    hidden = head.hidden(shared, x)
    precision = np.full((hidden.shape[1] + 1, outputs), WEIGHT_PRECISION * np.square(hidden).mean())
    precision[-1] = BIAS_PRECISION

    def surprise(change: Any) -> float:
        model = shared.copy()
        model[-change.size :] += change
        chance = head.forward(model, x)
        of_label = (
            np.where(y == 1, chance[:, 0], 1 - chance[:, 0])
            if outputs == 1
            else chance[range(40), y.astype(int)]
        )
        return float(
            -(weight / weight.mean() * np.log(of_label)).sum() + 0.5 * (precision.ravel() * change**2).sum()
        )

    best = minimize(surprise, np.zeros(precision.size), tol=1e-12).x
    found = with_personal(head, shared, x, y, weight) - shared
    np.testing.assert_allclose(found[-precision.size :], best, atol=2e-4)
    assert (
        not found[: -precision.size].astype(np.float32).any() or np.abs(found[: -precision.size]).max() < 1e-6
    )


def test_without_examples_the_shared_model_stands() -> None:
    head = Head.from_layers([{"dense": 1}, "sigmoid"], 5)
    shared = head.init(bytes(16))
    nothing = np.zeros((0, 5)), np.zeros(0), np.zeros(0)
    np.testing.assert_array_equal(with_personal(head, shared, *nothing), shared)


def test_few_examples_move_it_less_than_many() -> None:
    head = Head.from_layers([{"dense": 1}, "sigmoid"], 5)
    x, _, _ = person(400)
    y = (x[:, 0] > 0).astype(float)
    moved = [
        np.linalg.norm(with_personal(head, np.zeros(6), x[:n], y[:n], np.ones(n))[:5]) for n in (5, 50, 400)
    ]
    assert moved[0] < moved[1] < moved[2]


def test_a_head_of_ones_own_ranks_what_it_has_seen() -> None:
    x, _, _ = person(200)
    y = (x @ np.array([1.0, -1, 0, 0, 0]) > 0).astype(float)
    head, model = alone(5, 1, "bce", x[:150], y[:150], np.ones(150))
    assert ranking(("auc_per_device",), head.forward(model, x[150:]), y[150:])[0] > 0.95
    three, of_three = alone(5, 3, "ce", x, y + (x[:, 2] > 1), np.ones(200))
    assert three.forward(of_three, x).shape == (200, 3)


def test_figures_of_a_ranking_are_those_counted_by_hand() -> None:
    scores = np.array([[0.9], [0.8], [0.3], [0.3], [0.1]])
    assert ranking(METRICS, scores, np.array([1.0, 0, 1, 0, 0])) == pytest.approx([3 / 5, 4.5 / 6, 2 / 3])
    assert ranking(METRICS, scores, np.ones(5)) == pytest.approx([2 / 5, 0.5, 1])
    assert ranking(METRICS, scores[:0], np.ones(0)) == [0.5] * 3
    three = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    assert ranking(METRICS, three, np.array([2.0, 1])) == pytest.approx([0.5, 1, 0.5])
