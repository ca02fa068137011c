"""One update from the sums of several buckets, so that a few bad reports spoil a bucket and not the model.

A leader sees sums only, never a report: what stands out can be found by bucket alone. With b buckets, fewer than half of
them may hold bad reports; in a single bucket one report can move the mean as far as it likes, within the ring.
Sources: coordinate median and trimmed mean, Yin et al. (ICML 2018); clipping by the median norm, after Nguyen et al., FLAME
(USENIX Security 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rule = Literal["mean", "clip", "median", "trimmed_mean"]
RULES: tuple[Rule, ...] = get_args(Rule)

FAR = 3.0
"""A bucket stands out if it lies that many times farther from the median than half of the buckets do."""


@dataclass(frozen=True, slots=True)
class Combined:
    """`summed` and `weight` as a strategy takes them; `flagged` names the buckets that stand out, by place."""

    summed: Floats
    weight: float
    flagged: tuple[int, ...]


def combine(sums: Floats, weights: Floats, rule: Rule = "trimmed_mean", trim: float = 0.25) -> Combined:
    """From `(buckets, length)` weighted sums and `(buckets,)` weights, each above 0.

    mean: all buckets, as one. clip: the mean of bucket means, each shortened to the median of their norms. median:
    coordinate by coordinate. trimmed_mean: without the lowest and highest `trim` of the buckets, at least one each way,
    coordinate by coordinate; with fewer than three buckets nothing can be left out and it is the mean.
    """
    sums, weights = np.asarray(sums, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if not (len(sums) == len(weights) >= 1 and (weights > 0).all() and np.isfinite(sums).all()):
        raise ValueError("every bucket has a finite sum and a weight above 0")
    means = sums / weights[:, None]
    total = float(weights.sum())
    return Combined(_middle(means, weights, rule, trim) * total, total, standing_out(means))


def _middle(means: Floats, weights: Floats, rule: Rule, trim: float) -> Floats:
    count = len(means)
    if rule == "median":
        middle: Floats = np.median(means, axis=0)
        return middle
    if rule == "clip":
        norms = np.linalg.norm(means, axis=1)
        factors = np.minimum(1.0, np.median(norms) / np.where(norms > 0, norms, 1.0))
        return np.average(means * factors[:, None], axis=0, weights=weights)
    if rule == "trimmed_mean" and count >= 3:
        out = min(max(1, int(trim * count)), (count - 1) // 2)
        inner: Floats = np.sort(means, axis=0)[out : count - out].mean(axis=0)
        return inner
    return np.average(means, axis=0, weights=weights)


def standing_out(means: Floats) -> tuple[int, ...]:
    """Buckets far from the coordinate median, measured by how far the others are; of fewer than three, none."""
    if len(means) < 3:
        return ()
    distances = np.linalg.norm(means - np.median(means, axis=0), axis=1)
    usual = float(np.median(distances)) or float(np.abs(means).max()) * 1e-9
    return tuple(np.flatnonzero(distances > FAR * usual).tolist())
