"""Second-order boosted trees on bin sums: gradients, the best split of a tree node, leaf values, the label owner's half.

Gain and leaf weight as in XGBoost (Chen and Guestrin 2016, equations 6 and 7), on integers times the tree's scales.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import DataError
from isthmus.learn.bins import MISSING, ColumnBins, bins_from_json
from isthmus.learn.histogram import Sums
from isthmus.learn.parameters import BoostedTrees
from isthmus.learn.quantise import Quantised

LEAST_GAIN = 1e-6
Floats = NDArray[np.float64]


def link(objective: str, raw: Floats) -> Floats:
    """Raw scores to predictions: a probability, or the value itself."""
    return 1.0 / (1.0 + np.exp(-raw)) if objective == "binary" else raw


def base_score(objective: str, label: Floats) -> float:
    """The raw score every row starts from: log odds, or the mean."""
    mean = float(np.mean(label))
    return float(np.log(mean / (1.0 - mean))) if objective == "binary" else mean


def gradients(objective: str, label: Floats, raw: Floats) -> tuple[Floats, Floats]:
    """First and second derivative of the loss at the raw scores, `(rows,)` each."""
    predicted = link(objective, raw)
    return predicted - label, predicted * (1.0 - predicted) if objective == "binary" else np.ones_like(raw)


def loss(objective: str, label: Floats, raw: Floats) -> float:
    """Mean log loss, or root mean squared error."""
    if objective == "binary":
        return float(np.mean(np.logaddexp(0.0, raw) - label * raw))
    return float(np.sqrt(np.mean((raw - label) ** 2)))


@dataclass(frozen=True, slots=True)
class Split:
    """Rows with a value bin up to `last_left` go left; bin 0 goes left where `missing_left`. `owner` 0 is the label owner."""

    owner: int
    feature: int
    last_left: int
    missing_left: bool
    gain: float


def goes_left(bins: NDArray[np.uint8], last_left: int, missing_left: bool) -> NDArray[np.bool_]:
    """The side of each row at a split."""
    return np.where(bins == MISSING, missing_left, bins <= last_left)


def best_split(
    sums: list[Sums],
    counts: list[tuple[int, ...]],
    open_features: list[NDArray[np.bool_]],
    q: Quantised,
    p: BoostedTrees,
) -> Split | None:
    """The split of one tree node with the largest gain, or None.

    `sums` holds one `(R, 2)` array per owner. Of equal gains the first wins: by owner, feature, missing right before
    left, then the lower bin.
    """
    best: Split | None = None
    for owner, owner_sums in enumerate(sums):
        start = 0
        for feature, count in enumerate(counts[owner]):
            part = owner_sums[start : start + count]
            start += count
            if not open_features[owner][feature]:
                continue
            found = _best_of_feature(part, q, p)
            if found is not None and (best is None or found[0] > best.gain):
                best = Split(owner, feature, found[1], found[2], found[0])
    return best


def _best_of_feature(part: Sums, q: Quantised, p: BoostedTrees) -> tuple[float, int, bool] | None:
    total = part.sum(axis=0)
    values = np.cumsum(part[1:], axis=0)
    left = np.concatenate([values, values[:-1] + part[0]])
    g_left, h_left = left[:, 0] * q.g_scale, left[:, 1] * q.h_scale
    g_right, h_right = (total[0] - left[:, 0]) * q.g_scale, (total[1] - left[:, 1]) * q.h_scale
    g_all, h_all = total[0] * q.g_scale, total[1] * q.h_scale
    tiny = np.finfo(np.float64).tiny
    gain = (
        g_left * g_left / np.maximum(h_left + p.l2, tiny)
        + g_right * g_right / np.maximum(h_right + p.l2, tiny)
        - g_all * g_all / max(h_all + p.l2, tiny)
    )
    least = max(p.min_child_hessian, tiny)
    gain = np.where((h_left >= least) & (h_right >= least), gain, -np.inf)
    at = int(np.argmax(gain))
    if not gain[at] > max(p.gamma, LEAST_GAIN):
        return None
    return float(gain[at]), at % len(values) + 1, at >= len(values)


def leaf_values(leaf_of_row: NDArray[np.int64], leaves: int, g: Floats, h: Floats, p: BoostedTrees) -> Floats:
    """Value of each leaf from the label owner's exact gradients, `(leaves,)`; sums run in row order. -1 takes no part."""
    inside = leaf_of_row >= 0
    g_sum = np.bincount(leaf_of_row[inside], weights=g[inside], minlength=leaves)
    h_sum = np.bincount(leaf_of_row[inside], weights=h[inside], minlength=leaves)
    values: Floats = -p.learning_rate * g_sum / np.maximum(h_sum + p.l2, np.finfo(np.float64).tiny)
    return values


@dataclass(frozen=True, slots=True)
class Inner:
    """An inner tree node. For owner 0 `split` is an index into the half's own splits, else a number the owner knows."""

    owner: int
    split: int


@dataclass(slots=True)
class Tree:
    """Tree nodes in heap order (children of i are 2i+1 and 2i+2): inner nodes and leaf values."""

    inner: dict[int, Inner] = field(default_factory=dict)
    leaf: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OwnSplit:
    """A split on one of the half's own columns."""

    column: int
    last_left: int
    missing_left: bool


@dataclass(slots=True)
class LabelHalf:
    """What the label owner keeps: the shape of the trees, the leaves, its own splits. Of a partner's split, a number."""

    objective: str
    base: float
    columns: list[ColumnBins]
    owners: list[str]
    splits: list[OwnSplit] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": "isthmus-half/1",
            "role": "label-owner",
            "note": "half of a model: it cannot score without the halves of the feature owners",
            "objective": self.objective,
            "base": self.base,
            "owners": self.owners,
            "columns": [c.to_json() for c in self.columns],
            "splits": [[s.column, s.last_left, s.missing_left] for s in self.splits],
            "trees": [
                {
                    "inner": [[i, n.owner, n.split] for i, n in sorted(t.inner.items())],
                    "leaf": [[i, v] for i, v in sorted(t.leaf.items())],
                }
                for t in self.trees
            ],
        }


@dataclass(slots=True)
class FeatureHalf:
    """What a feature owner keeps: its splits by number. Nothing of the trees' shape, counts, gains or leaves."""

    columns: list[ColumnBins]
    splits: list[OwnSplit] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": "isthmus-half/1",
            "role": "feature-owner",
            "note": "half of a model: it cannot score without the half of the label owner",
            "columns": [c.to_json() for c in self.columns],
            "splits": [[s.column, s.last_left, s.missing_left] for s in self.splits],
        }


def half_from_json(document: Any, role: str) -> LabelHalf | FeatureHalf:
    """Read a half of this role; DataError(bad_model) for anything else."""
    try:
        if document["format"] != "isthmus-half/1" or document["role"] != role:
            raise DataError("bad_model", file="model half", why=f"it is not a half of a {role}")
        columns = [bins_from_json(c) for c in document["columns"]]
        splits = [OwnSplit(int(c), int(b), bool(m)) for c, b, m in document["splits"]]
        if any(not 0 <= s.column < len(columns) for s in splits):
            raise ValueError
        if role == "feature-owner":
            return FeatureHalf(columns, splits)
        trees = [
            Tree(
                {int(i): Inner(int(o), int(s)) for i, o, s in t["inner"]},
                {int(i): float(v) for i, v in t["leaf"]},
            )
            for t in document["trees"]
        ]
        owners = [str(o) for o in document["owners"]]
        return LabelHalf(str(document["objective"]), float(document["base"]), columns, owners, splits, trees)
    except (KeyError, TypeError, ValueError):
        raise DataError("bad_model", file="model half", why="a field is missing or damaged") from None
