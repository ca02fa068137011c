"""Second-order boosted trees on bin sums: gradients, the best split of a tree node, leaf values, the label owner's half.

Gain and leaf weight as in XGBoost (Chen and Guestrin 2016, equations 6 and 7), on integers times the tree's scales.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from isthmus.base.errors import DataError
from isthmus.learn import histogram
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


def best_splits(
    sums: list[list[Sums]],
    counts: list[tuple[int, ...]],
    open_features: list[NDArray[np.bool_]],
    q: Quantised,
    p: BoostedTrees,
) -> list[Split | None]:
    """The split of each tree node with the largest gain, or None.

    `sums` holds for each tree node one `(R, 2)` array per owner. Of equal gains the first wins: by owner, feature,
    missing right before left, then the lower bin.
    """
    widths = [np.array(own, dtype=np.int64) for own in counts]
    least = max(p.min_child_hessian, float(np.finfo(np.float64).tiny))
    splits: list[Split | None] = []
    for node in sums:
        best, best_gain = None, max(p.gamma, LEAST_GAIN)
        for owner, (own, wide, chosen) in enumerate(zip(node, widths, open_features, strict=True)):
            gain, feature, last_left, missing_left = _kernel()(
                own, wide, chosen, q.g_scale, q.h_scale, p.l2, least, best_gain
            )
            if gain > best_gain:
                best, best_gain = Split(owner, feature, last_left, bool(missing_left), gain), gain
        splits.append(best)
    return splits


def warm() -> None:
    """Compile what a tree's own work needs, or load it from the cache (NUMBA_CACHE_DIR)."""
    histogram.warm()
    _kernel()


@cache
def _kernel() -> Any:
    """`_best_split` for arrays of any stride, read-only or not: one signature, so that nothing is compiled later."""
    sums, widths, open_features = (
        types.Array(kind, dimensions, "A", readonly=True)
        for kind, dimensions in ((types.int64, 2), (types.int64, 1), (types.boolean, 1))
    )
    real, whole, of = types.float64, types.int64, cast(Any, types.Tuple)
    signature = of((real, whole, whole, whole))(sums, widths, open_features, real, real, real, real, real)
    return njit(signature, cache=True, nogil=True, error_model="numpy")(_best_split)


def _best_split(
    sums: Any, widths: Any, open_features: Any, g_scale: Any, h_scale: Any, l2: Any, least: Any, best: Any
) -> Any:
    """Gain, feature, last bin to the left, side of missing values (1: left) of the first split with the largest gain above
    `best`; `best` itself where there is none."""
    feature, last_left, missing_left = -1, -1, 0
    end = 0
    for f in range(len(widths)):
        start, end = end, end + widths[f]
        if not open_features[f]:
            continue
        g_all, h_all = 0, 0
        for at in range(start, end):
            g_all += sums[at, 0]
            h_all += sums[at, 1]
        g, h = g_all * g_scale, h_all * h_scale
        above = g * g / (h + l2)
        for side in range(2):
            g_part, h_part = side * sums[start, 0], side * sums[start, 1]
            for at in range(start + 1, end - side):
                g_part += sums[at, 0]
                h_part += sums[at, 1]
                h_left, h_right = h_part * h_scale, (h_all - h_part) * h_scale
                if h_left >= least and h_right >= least:
                    g_left, g_right = g_part * g_scale, (g_all - g_part) * g_scale
                    gain = g_left * g_left / (h_left + l2) + g_right * g_right / (h_right + l2) - above
                    if gain > best:
                        best, feature, last_left, missing_left = gain, f, at - start, side
    return best, feature, last_left, missing_left


def leaf_values(leaf_of_row: NDArray[np.int64], leaves: int, g: Floats, h: Floats, p: BoostedTrees) -> Floats:
    """Value of each leaf from the label owner's exact gradients, `(leaves,)`; sums run in row order."""
    g_sum = np.bincount(leaf_of_row, weights=g, minlength=leaves)
    h_sum = np.bincount(leaf_of_row, weights=h, minlength=leaves)
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
        if any(
            not (0 <= s.column < len(columns) and 0 <= s.last_left < columns[s.column].count) for s in splits
        ):
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
        half = LabelHalf(str(document["objective"]), float(document["base"]), columns, owners, splits, trees)
        if not (math.isfinite(half.base) and all(_sound(tree, half) for tree in trees)):
            raise ValueError
        return half
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError("bad_model", file="model half", why="a field is missing or damaged") from None


def _sound(tree: Tree, half: LabelHalf) -> bool:
    """Whether every row ends in a leaf, and every split is one that there is."""
    children = {child for i in tree.inner for child in (2 * i + 1, 2 * i + 2)}
    return (
        set(tree.inner) | set(tree.leaf) == children | {0}
        and not set(tree.inner) & set(tree.leaf)
        and all(map(math.isfinite, tree.leaf.values()))
        and all(
            0 <= node.owner <= len(half.owners)
            and 0 <= node.split < (2**32 if node.owner else len(half.splits))
            for node in tree.inner.values()
        )
    )
