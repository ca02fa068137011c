"""Weight of evidence and information value of a binned column.

    WOE of a bin = ln( share of all goods in the bin / share of all bads in the bin )
    IV           = sum over bins of (share of goods - share of bads) * WOE

So a positive WOE is safer than average, a negative one riskier. Positives are the bads.

Smoothing: a bin with rows but no good (or no bad) counts 0.5 in the empty cell, so that its WOE is finite; other
cells and the totals stay as counted. A bin without any row has WOE 0 and adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isthmus.base.errors import DataError

SMOOTHING = 0.5


@dataclass(frozen=True, slots=True)
class WoeTable:
    """Counts, WOE and contribution to the IV of each bin, in the order of the bins."""

    positives: tuple[int, ...]
    totals: tuple[int, ...]
    woe: tuple[float, ...]
    contributions: tuple[float, ...]
    iv: float

    @property
    def bad_rates(self) -> tuple[float | None, ...]:
        """Bad rate per bin, None where the bin is empty."""
        return tuple(p / n if n else None for p, n in zip(self.positives, self.totals, strict=True))


def _counts(values: ArrayLike, what: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{what} is one row of integers")
    return array.astype(np.int64)


def woe_table(positives: ArrayLike, totals: ArrayLike) -> WoeTable:
    """WOE and IV from the bads and the rows of each bin. DataError `one_class` where goods or bads are missing."""
    bads, rows = _counts(positives, "positives"), _counts(totals, "totals")
    if bads.shape != rows.shape:
        raise ValueError("positives and totals need the same bins")
    goods = rows - bads
    if (bads < 0).any() or (goods < 0).any():
        raise ValueError("a bin holds between none and all of its rows as positives")
    all_bads, all_goods = int(bads.sum()), int(goods.sum())
    if all_bads == 0 or all_goods == 0:
        raise DataError("one_class", column="label", count=all_bads + all_goods)
    bad_share = np.where(bads == 0, SMOOTHING, bads) / all_bads
    good_share = np.where(goods == 0, SMOOTHING, goods) / all_goods
    empty = rows == 0
    woe = np.where(empty, 0.0, np.log(good_share / bad_share))
    parts = np.where(empty, 0.0, (good_share - bad_share) * woe)
    return WoeTable(
        positives=tuple(int(n) for n in bads),
        totals=tuple(int(n) for n in rows),
        woe=tuple(float(w) for w in woe),
        contributions=tuple(float(c) for c in parts),
        iv=float(parts.sum()),
    )
