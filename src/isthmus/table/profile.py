"""What the columns of a table look like: for the party's own eyes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from isthmus.table.table import CategoryColumn, NumericColumn, Table

TOP_LEVELS = 10


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column. min to max: numeric columns only. top: the commonest levels and their counts, categories only.

    missing_share is in [0, 1]; unique counts values apart from missing. A column that was left out has kind "dropped"
    and its reason; nothing else of it is known, but that a constant one has one value.
    """

    name: str
    kind: Literal["numeric", "category", "dropped"]
    missing_share: float
    unique: int
    constant: bool = False
    reason: str = ""
    min: float | None = None
    p1: float | None = None
    p50: float | None = None
    p99: float | None = None
    max: float | None = None
    top: tuple[tuple[str, int], ...] = ()


def profile(table: Table) -> list[ColumnProfile]:
    """One entry a column, kept columns in file order, then those left out."""
    kept = [
        _numeric(column) if isinstance(column, NumericColumn) else _category(column)
        for column in table.columns.values()
    ]
    dropped = [
        ColumnProfile(
            name,
            "dropped",
            missing_share=1.0 if reason == "empty" else 0.0,
            unique=0 if reason == "empty" else 1,
            constant=reason == "constant",
            reason=reason,
        )
        for name, reason in table.dropped.items()
    ]
    return kept + dropped


def _numeric(column: NumericColumn) -> ColumnProfile:
    present = column.values[~column.missing]
    share = float(column.missing.mean()) if len(column.values) else 0.0
    if not len(present):
        return ColumnProfile(column.name, "numeric", share, 0)
    unique = len(np.unique(present))
    low, p1, p50, p99, high = (float(q) for q in np.quantile(present, [0, 0.01, 0.5, 0.99, 1]))
    constant = unique == 1 and share == 0
    return ColumnProfile(
        column.name, "numeric", share, unique, constant, min=low, p1=p1, p50=p50, p99=p99, max=high
    )


def _category(column: CategoryColumn) -> ColumnProfile:
    present = column.codes[~column.missing]
    share = float(column.missing.mean()) if len(column.codes) else 0.0
    counts = np.bincount(present, minlength=len(column.levels))
    order = np.argsort(-counts, kind="stable")[:TOP_LEVELS]
    top = tuple((column.levels[i], int(counts[i])) for i in order if counts[i])
    unique = int((counts > 0).sum())
    return ColumnProfile(column.name, "category", share, unique, constant=unique == 1 and share == 0, top=top)
