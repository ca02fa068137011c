"""What one person's head differs by from everybody's, how well a ranking does on one device, and a head of one's own data alone.

A personal head is the shared model with a change of its last layer, found on the device from the person's own examples under
a Gaussian prior that the change is 0: the most likely change (MAP). The fewer examples, the nearer it stays to the shared model.
The prior's precision is that of 100 on weights whose inputs have variance 1, and 1 on biases; it scales with the inputs.

The minimum is found by majorisation: the curvature of both losses is bounded (a quarter for sigmoid, a half for softmax:
Böhning 1992), so that every step solves the same positive definite system and none can overshoot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.learn.head import Head

Floats = NDArray[np.floating[Any]]

WEIGHT_PRECISION: Final = 100.0
BIAS_PRECISION: Final = 1.0
_STEPS_MOST: Final = 500
_NEAR: Final = 1e-7


def with_personal(head: Head, shared: Floats, x: Floats, y: Floats, weight: Floats) -> NDArray[np.float32]:
    """The shared model with the personal change of its last layer; `shared` itself where there are no examples."""
    shared = np.asarray(shared, dtype=np.float64)
    x = np.asarray(x, dtype=np.float64)
    if not len(x):
        return shared.astype(np.float32)
    change = _change(head, head.hidden(shared, x), head.values(shared, x), y, weight)
    made = shared.copy()
    made[-change.size :] += change.ravel()
    return made.astype(np.float32)


def alone(
    inputs: int, outputs: int, loss: str, x: Floats, y: Floats, weight: Floats
) -> tuple[Head, NDArray[np.float32]]:
    """A head without hidden layers that knows these examples only, and its model: what a device reaches without the others."""
    closing = "softmax" if outputs > 1 else "sigmoid"
    head = Head.from_layers(
        [{"dense": outputs}, closing], inputs, "ce" if outputs > 1 else "bce" if loss == "ce" else loss
    )
    return head, with_personal(head, np.zeros(head.size), x, y, weight)


def _change(head: Head, hidden: Floats, values: Floats, y: Floats, weight: Floats) -> Floats:
    """`(inputs + 1, outputs)`: of the weights, then of the biases."""
    outputs = head.outputs
    labels = y[:, None] == np.arange(outputs) if outputs > 1 else np.asarray(y, dtype=np.float64)[:, None]
    rows = np.hstack([hidden, np.ones((len(hidden), 1))])
    weight = np.asarray(weight, dtype=np.float64) / np.mean(weight)
    scale = float(np.square(hidden).mean()) or 1.0
    precision = np.full(rows.shape[1], WEIGHT_PRECISION * scale)
    precision[-1] = BIAS_PRECISION
    bound = (0.5 if outputs > 1 else 0.25) * (rows.T * weight) @ rows + np.diag(precision)
    inverse = np.linalg.inv(bound)
    change = np.zeros((rows.shape[1], outputs))
    for _ in range(_STEPS_MOST):
        wrong = head.closed(values + rows @ change) if head.closing else _chance(values + rows @ change)
        step = inverse @ (rows.T @ (weight[:, None] * (wrong - labels)) + precision[:, None] * change)
        change -= step
        if np.abs(step).max() < _NEAR:
            break
    return change


def _chance(values: Floats) -> Floats:
    found: Floats = 0.5 * (1 + np.tanh(0.5 * values))
    return found


def ranking(metrics: Sequence[str], scores: Floats, y: Floats) -> list[float]:
    """Figures in [0, 1] of one device. `scores` `(rows, outputs)` are chances, y labels.

    accuracy: share of examples whose likeliest label is theirs. auc_per_device: how often a liked example stands before another
    one, a half where all are alike. hit_top3: how many of the three that stand first are liked. With three labels or more, an
    example is ranked by the chance of the last one.
    """
    liked = y == max(scores.shape[1] - 1, 1)
    likeliest = scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0.5).astype(int)
    found = {
        "accuracy": lambda: float((likeliest == y).mean()),
        "auc_per_device": lambda: _auc(scores[:, -1], liked),
        "hit_top3": lambda: float(liked[np.argsort(-scores[:, -1], kind="stable")[:3]].mean()),
    }
    return [found[metric]() if len(y) else 0.5 for metric in metrics]


def _auc(scores: Floats, liked: NDArray[np.bool_]) -> float:
    likes, others = scores[liked], scores[~liked]
    if not len(likes) or not len(others):
        return 0.5
    gap = likes[:, None] - others[None, :]
    return float(((gap > 0) + 0.5 * (gap == 0)).mean())
