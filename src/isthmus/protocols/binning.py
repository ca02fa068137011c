"""Binning: each owner cuts its own columns on the training rows; the label owner gets WOE and IV of opaque features.

    label owner                                                feature owner
      1  Parts   training, validation or test, per row  -----> fits its bins on the training rows
      2                                                 <----- Shapes  number of bins of each feature, opaque order
         one histogram (protocols/histogram.py) with g = label, h = 1 gives bads and rows per bin

The order of a feature owner's features is sorted by a hash of job and name: another one in every job, the same in a rerun.

Leaks: the label owner learns how many features there are, how many bins each has (for a categorical feature: how many
levels are frequent), and bads and rows per bin of opaque features; no bin in use holds fewer training rows than the floor.
The feature owner learns which shared rows train and test, and nothing of the labels. Adversary: semi-honest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import DataError, PeerError
from isthmus.learn.bins import ColumnBins, NumericBins, fit_category, fit_numeric
from isthmus.learn.histogram import BinMatrix
from isthmus.learn.parameters import Binning
from isthmus.learn.woe import WoeTable, woe_table
from isthmus.protocols.histogram import LabelSide
from isthmus.table.table import CategoryColumn, NumericColumn, Table
from isthmus.wire.channel import Channel
from isthmus.wire.message import Array, Message

TRAIN, VALID, TEST = 0, 1, 2
FEATURES_MAX = 10_000
BytesPerRow = NDArray[np.uint8]


@dataclass(frozen=True)
class Parts(Message):
    KIND: ClassVar[int] = 0x0201
    part_of_row: Annotated[BytesPerRow, Array("u1", None)]


@dataclass(frozen=True)
class Shapes(Message):
    KIND: ClassVar[int] = 0x0202
    bin_counts: Annotated[NDArray[np.uint16], Array("u2", None)]


@dataclass(frozen=True, slots=True)
class Binned:
    """One owner's columns after binning: `matrix` covers the training rows, then the validation rows."""

    columns: list[ColumnBins]
    matrix: BinMatrix
    dropped: dict[str, str]


async def bin_as_label_owner(
    channels: Sequence[Channel], table: Table, part_of_row: BytesPerRow, binning: Binning
) -> tuple[Binned, list[tuple[int, ...]]]:
    """Own columns, binned, and the bin counts of each feature owner's opaque features."""
    for channel in channels:  # 1
        await channel.send(Parts(part_of_row))
    binned = bin_table(table, part_of_row, binning, order=None)
    shapes = []
    for channel in channels:  # 2
        counts = (await channel.recv(Shapes)).bin_counts
        if not 0 < len(counts) <= FEATURES_MAX or counts.min() < 2 or counts.max() > binning.max_bins + 1:
            raise PeerError("bad_message", why="a feature has more bins than agreed, or none")
        shapes.append(tuple(counts.tolist()))
    return binned, shapes


async def bin_as_feature_owner(
    channel: Channel, table: Table, binning: Binning, digest: bytes
) -> tuple[Binned, BytesPerRow]:
    """Own columns, binned, in this job's opaque order, and the part of each row."""
    part_of_row = (await channel.recv(Parts)).part_of_row  # 1
    if len(part_of_row) != table.rows or part_of_row.max(initial=0) > TEST:
        raise PeerError("bad_message", why="the parts do not cover the shared rows")
    binned = bin_table(table, part_of_row, binning, order=digest)
    await channel.send(Shapes(np.array(binned.matrix.counts, dtype=np.uint16)))  # 2
    return binned, part_of_row


async def weigh_as_label_owner(
    engine: LabelSide, label: NDArray[np.float64], shapes: list[tuple[int, ...]]
) -> list[list[WoeTable]]:
    """WOE and IV of every opaque feature of each feature owner, from labels 0/1 of the training rows. The feature owner
    answers with `engine.tree()` and `engine.level()`."""
    await engine.tree(label.astype(np.int64), np.ones(len(label), dtype=np.int64))
    sums = await engine.level(np.zeros(len(label), dtype=np.int32), 1)
    for owner, counts in zip(sums, shapes, strict=True):
        _check_weights(owner[0], counts, label)
    return [weights_of(owner[0], counts) for owner, counts in zip(sums, shapes, strict=True)]


def _check_weights(sums: NDArray[np.int64], counts: tuple[int, ...], label: NDArray[np.float64]) -> None:
    """Bads and rows of a feature's bins are possible, and add up to those of all training rows."""
    totals = np.add.reduceat(sums, np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=0)
    possible = (sums[:, 0] >= 0).all() and (sums[:, 0] <= sums[:, 1]).all()
    if not possible or not (totals == [int(label.sum()), len(label)]).all():
        raise PeerError("answer_inconsistent")


def weights_of(sums: NDArray[np.int64], counts: tuple[int, ...]) -> list[WoeTable]:
    """WOE and IV of each feature from bads and rows per bin, `(R, 2)`."""
    ends = np.cumsum(counts)
    return [
        woe_table(sums[end - count : end, 0], sums[end - count : end, 1])
        for end, count in zip(ends, counts, strict=True)
    ]


def bin_table(table: Table, part_of_row: BytesPerRow, binning: Binning, order: bytes | None) -> Binned:
    """Fit on the training rows and bin training and validation rows. Columns with one bin are dropped, and listed."""
    train = np.flatnonzero(part_of_row == TRAIN)
    fit = np.concatenate([train, np.flatnonzero(part_of_row == VALID)])
    columns: list[ColumnBins] = []
    dropped = dict(table.dropped)
    names = list(table.columns)
    if order is not None:
        names.sort(key=lambda name: hashlib.sha256(order + name.encode()).digest())
    for name in names:
        fitted = _fit(table.columns[name], train, binning)
        if fitted is None:
            dropped[name] = "sparse_bins"
        else:
            columns.append(fitted)
    if not columns:
        raise DataError("no_features", file="table", dropped=len(dropped))
    bins = np.stack([bins_of(column, table, fit) for column in columns])
    return Binned(columns, BinMatrix(bins, tuple(c.count for c in columns)), dropped)


def bins_of(column: ColumnBins, table: Table, rows: NDArray[np.int64]) -> BytesPerRow:
    """Bin of each of these rows in one fitted column."""
    source = table.columns[column.name]
    if isinstance(column, NumericBins):
        if not isinstance(source, NumericColumn):
            raise DataError("bad_model", file="table", why=f"column {column.name} was numeric in training")
        return column.apply(source.values[rows])
    if isinstance(source, NumericColumn):
        raise DataError("bad_model", file="table", why=f"column {column.name} was categorical in training")
    return column.apply(source.codes[rows], source.levels)


def _fit(
    column: NumericColumn | CategoryColumn, train: NDArray[np.int64], binning: Binning
) -> ColumnBins | None:
    if isinstance(column, NumericColumn):
        return fit_numeric(column.name, column.values[train], binning.max_bins, binning.min_rows)
    return fit_category(column.name, column.codes[train], column.levels, binning.max_bins, binning.min_rows)
