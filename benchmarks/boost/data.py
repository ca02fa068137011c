"""The data of every engine: seeded columns, a label that needs both sides, and equal-frequency bins."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.learn.bins import ColumnBins, NumericBins, fit_numeric
from isthmus.learn.histogram import BinMatrix
from isthmus.protocols.binning import Binned
from isthmus.table.table import Column, NumericColumn, Table

Floats = NDArray[np.float64]


def portfolio(case: Namespace) -> tuple[Floats, Floats]:
    """Columns `(rows * 5 / 4, own_features + features)`, the label owner's first, and a 0/1 label with a fifth of ones.

    The rows after `case.rows` are held out for AUC.
    """
    draw = np.random.default_rng(7)
    rows = case.rows * 5 // 4
    x = draw.normal(size=(rows, case.own_features + case.features))
    weight = draw.normal(size=x.shape[1]) / np.sqrt(x.shape[1])
    signal = x @ weight + 0.5 * x[:, 0] * x[:, -1] + draw.normal(size=rows)
    return x, (signal > np.quantile(signal, 0.8)).astype(np.float64)


def as_table(x: Floats, first: int) -> Table:
    """Columns as a party's table, without ids: nothing here aligns."""
    columns: dict[str, Column] = {
        f"x{first + i}": NumericColumn(f"x{first + i}", np.ascontiguousarray(x[:, i]))
        for i in range(x.shape[1])
    }
    return Table([b""] * len(x), columns, None, {}, np.arange(1, len(x) + 1), [""] * len(x))


def cut(table: Table, rows: int, bins: int) -> Binned:
    """The first `rows` rows in equal-frequency bins; bin 0 of each column is for missing values and stays empty."""
    columns: list[ColumnBins] = []
    matrix = []
    for column in table.columns.values():
        assert isinstance(column, NumericColumn)
        fitted = fit_numeric(column.name, column.values[:rows], bins, 20)
        assert fitted is not None
        columns.append(fitted)
        matrix.append(fitted.apply(column.values[:rows]))
    return Binned(columns, BinMatrix(np.stack(matrix), tuple(c.count for c in columns)), {})


def write_for_peers(case: Namespace, folder: Path) -> None:
    """The same rows, columns, label and bins as plain .npy files, and the case as JSON."""
    x, y = portfolio(case)
    fitted = [c for c in cut(as_table(x, 0), case.rows, case.bins).columns if isinstance(c, NumericBins)]
    binned = [column.apply(x[:, i]) for i, column in enumerate(fitted)]
    for name, array in (("x", x), ("y", y), ("bins", np.stack(binned, axis=1))):
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    names = ("rows", "own_features", "features", "bins", "depth", "trees", "learning_rate")
    (folder / "case.json").write_text(json.dumps({name: getattr(case, name) for name in names}))
