"""Bins of one column, fitted on training rows. Bin 0 is for missing values, bins 1, 2, ... for values.

Every bin that a fitted column uses holds at least `min_rows` training rows. Numeric values are cut at quantiles; categories
are coded by their own frequency (bin 1 the most frequent), rare levels share the last bin.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import DataError

Bins = NDArray[np.uint8]
MISSING = 0
MISSING_WORD = "?"


@dataclass(frozen=True, slots=True)
class NumericBins:
    """Bin i (from 1) holds `cuts[i-2] < value <= cuts[i-1]`; the last bin has no upper cut.

    `missing_bin` is 0, or the fullest value bin where too few values were missing to stand alone.
    """

    name: str
    cuts: tuple[float, ...]
    missing_bin: int = MISSING

    @property
    def count(self) -> int:
        """Number of bins, the missing bin included."""
        return len(self.cuts) + 2

    def apply(self, values: NDArray[np.float64]) -> Bins:
        """Bin of each value, `(rows,)`; NaN is missing."""
        bins = np.searchsorted(np.asarray(self.cuts), values, side="left") + 1
        return np.where(np.isnan(values), self.missing_bin, bins).astype(np.uint8)

    def labels(self) -> tuple[str, ...]:
        """Each bin in words, for the owner of the column; the missing bin first."""
        if not self.cuts:
            return (MISSING_WORD, "*")
        between = [f"({low:g}, {high:g}]" for low, high in itertools.pairwise(self.cuts)]
        return (MISSING_WORD, f"<= {self.cuts[0]:g}", *between, f"> {self.cuts[-1]:g}")

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "numeric",
            "name": self.name,
            "cuts": list(self.cuts),
            "missing_bin": self.missing_bin,
        }


@dataclass(frozen=True, slots=True)
class CategoryBins:
    """Bin of each level. A level that was not there in training goes to `unseen_bin`."""

    name: str
    levels: tuple[tuple[str, ...], ...]
    unseen_bin: int
    missing_bin: int = MISSING

    @property
    def count(self) -> int:
        """Number of bins, the missing bin included."""
        return len(self.levels) + 1

    def apply(self, codes: NDArray[np.int32], names: tuple[str, ...]) -> Bins:
        """Bin of each row, `(rows,)`, from the codes of a column and the names of its levels; -1 is missing."""
        where = {name: i for i, group in enumerate(self.levels, start=1) for name in group}
        table = np.array(
            [where.get(name, self.unseen_bin) for name in names] + [self.missing_bin], dtype=np.uint8
        )
        return table[codes]

    def labels(self) -> tuple[str, ...]:
        """Each bin in words, for the owner of the column; the missing bin first."""
        return (MISSING_WORD, *(", ".join(group) for group in self.levels))

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "category",
            "name": self.name,
            "levels": [list(group) for group in self.levels],
            "unseen_bin": self.unseen_bin,
            "missing_bin": self.missing_bin,
        }


ColumnBins = NumericBins | CategoryBins


def fit_numeric(name: str, values: NDArray[np.float64], max_bins: int, min_rows: int) -> NumericBins | None:
    """Quantile bins of the training values, or None when everything falls into one bin.

    At most `max_bins` value bins. Equal values stay together, so a bin may hold more than its share; the rest is
    then shared out anew.
    """
    present = np.sort(values[~np.isnan(values)])
    missing = len(values) - len(present)
    if len(present) == 0:
        return None
    distinct, counts = np.unique(present, return_counts=True)
    cuts: list[float] = []
    sizes: list[int] = []
    held, left, free = 0, len(present), max_bins
    before = 0.0
    for value, count in zip(distinct.tolist(), counts.tolist(), strict=True):
        target = max(left / free, min_rows)
        if held and held >= min_rows and free > 1 and held + count / 2 > target:
            cuts.append(before)
            sizes.append(held)
            left -= held
            free -= 1
            held = 0
        held, before = held + count, value
    if held < min_rows and cuts:
        cuts.pop()
        held += sizes.pop()
    sizes.append(held)
    lone = 0 < missing < min_rows
    if sizes[0] < min_rows or (not cuts and (missing == 0 or lone)):
        return None
    return NumericBins(name, tuple(cuts), int(np.argmax(sizes)) + 1 if lone else MISSING)


def fit_category(
    name: str, codes: NDArray[np.int32], levels: tuple[str, ...], max_bins: int, min_rows: int
) -> CategoryBins | None:
    """Frequency-coded bins of the training rows, or None when everything falls into one bin.

    Levels under `min_rows`, and those beyond the first `max_bins - 1`, share the last bin; if that bin is itself too
    small they join the rarest level that stands alone.
    """
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    missing = int((codes < 0).sum())
    order = sorted((i for i in range(len(levels)) if counts[i]), key=lambda i: (-counts[i], levels[i]))
    alone = [i for i in order if counts[i] >= min_rows]
    if len(alone) > max_bins or (len(alone) == max_bins and len(order) > max_bins):
        alone = alone[: max_bins - 1]
    rare = [i for i in order if i not in set(alone)]
    groups: list[tuple[str, ...]] = [(levels[i],) for i in alone]
    sizes = [int(counts[i]) for i in alone]
    if rare:
        names, size = tuple(levels[i] for i in rare), int(counts[rare].sum())
        if size < min_rows and groups:
            groups[-1] += names
            sizes[-1] += size
        else:
            groups.append(names)
            sizes.append(size)
    lone = 0 < missing < min_rows
    if not groups or sizes[0] < min_rows or (len(groups) == 1 and (missing == 0 or lone)):
        return None
    missing_bin = int(np.argmax(sizes)) + 1 if lone else MISSING
    return CategoryBins(name, tuple(groups), len(groups) if rare else missing_bin, missing_bin)


def bins_from_json(document: dict[str, Any]) -> ColumnBins:
    """Read what `to_json` wrote; DataError(bad_model) for anything else."""
    try:
        made: ColumnBins
        if document["kind"] == "numeric":
            cuts = tuple(map(float, document["cuts"]))
            made = NumericBins(document["name"], cuts, int(document["missing_bin"]))
            sound = all(map(math.isfinite, cuts)) and all(a < b for a, b in itertools.pairwise(cuts))
        elif document["kind"] == "category":
            groups = tuple(tuple(map(str, group)) for group in document["levels"])
            unseen = int(document["unseen_bin"])
            made = CategoryBins(document["name"], groups, unseen, int(document["missing_bin"]))
            sound = 0 <= unseen < made.count
        else:
            raise ValueError
        if not (sound and isinstance(made.name, str) and 0 <= made.missing_bin < made.count <= 256):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError("bad_model", file="model half", why="a column's bins cannot be read") from None
    return made
