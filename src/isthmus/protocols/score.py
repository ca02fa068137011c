"""Batch scoring of aligned rows with two or more halves of a model.

    label owner (shape, leaves, own splits)                    feature owner (own splits)
      1  Ask    split numbers and rows      ------------->                     once per depth and group of trees
      2                                     <-------------     Told   one bit a row: left or right
      3  Ask    empty                       ------------->     done

With `split_reveal: column` the label owner names no rows: each split is asked about once, for all rows.

Leaks: the label owner learns the side that rows take at the partner's splits they meet (all rows with `column`). The feature
owner learns which rows meet which of its splits (nothing with `column`), and no score. Adversary: semi-honest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import PeerError
from isthmus.learn.bins import ColumnBins
from isthmus.learn.tree import FeatureHalf, LabelHalf, Tree, goes_left
from isthmus.protocols.binning import bins_of
from isthmus.table.table import Table
from isthmus.wire.channel import Channel
from isthmus.wire.message import Array, Message, RowSets

TREES_AT_ONCE = 16
ROWS_AT_ONCE = 16_000_000
"""Rows times trees of one question at most, unless one tree has more."""
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Ask(Message):
    KIND: ClassVar[int] = 0x0601
    splits: Annotated[NDArray[np.uint32], Array("u4", None)]
    rows: Annotated[list[Rows], RowSets()]


@dataclass(frozen=True)
class Told(Message):
    KIND: ClassVar[int] = 0x0602
    bits: Annotated[NDArray[np.uint8], Array("u1", None)]


async def score_as_label_owner(
    channels: Sequence[Channel], half: LabelHalf, table: Table, split_reveal: Literal["ids", "column"]
) -> NDArray[np.float64]:
    """Raw scores of the table's rows, `(rows,)`, in the order both sides agreed on. Trees are added in order."""
    own = _Sides(half.columns, table)
    raw = np.full(table.rows, half.base)
    at_once = max(1, min(TREES_AT_ONCE, ROWS_AT_ONCE // max(1, table.rows)))
    for start in range(0, len(half.trees), at_once):
        trees = half.trees[start : start + at_once]
        for values in await _walk(channels, half, trees, own, table.rows, split_reveal):
            raw += values
    for channel in channels:  # 3
        await channel.send(_ask([], []))
    return raw


async def score_as_feature_owner(channel: Channel, half: FeatureHalf, table: Table) -> None:
    """Answer until the label owner is done."""
    own = _Sides(half.columns, table)
    while len((ask := await channel.recv(Ask)).splits):  # 1
        if len(ask.rows) != len(ask.splits):
            raise PeerError("bad_message", why="the fields of a question differ in length")
        if ask.splits.max() >= len(half.splits) or any(len(r) and r[-1] >= table.rows for r in ask.rows):
            raise PeerError("bad_message", why="a question names a split or row that does not exist")
        left = []
        for number, rows in zip(ask.splits, ask.rows, strict=True):
            split = half.splits[number]
            asked = rows if len(rows) else np.arange(table.rows)
            left.append(own.left(split.column, split.last_left, split.missing_left, asked))
        await channel.send(Told(np.packbits(np.concatenate(left))))  # 2


class _Sides:
    """Sides of rows at splits on the own columns; each column is binned once, when it is first met."""

    def __init__(self, columns: list[ColumnBins], table: Table) -> None:
        self._columns, self._table = columns, table
        self._bins: dict[int, NDArray[np.uint8]] = {}

    def left(self, column: int, last_left: int, missing_left: bool, rows: Rows) -> Bools:
        if column not in self._bins:
            self._bins[column] = bins_of(self._columns[column], self._table, np.arange(self._table.rows))
        return goes_left(self._bins[column][rows], last_left, missing_left)


async def _walk(
    channels: Sequence[Channel], half: LabelHalf, trees: list[Tree], own: _Sides, rows: int, split_reveal: str
) -> list[NDArray[np.float64]]:
    """Leaf value of each row in each of these trees, walking all of them down together."""
    at = [np.zeros(rows, dtype=np.int64) for _ in trees]
    while True:
        met = [
            (t, i, tree.inner[i])
            for t, tree in enumerate(trees)
            for i in np.unique(at[t]).tolist()
            if i in tree.inner
        ]
        if not met:
            break
        moves: list[tuple[int, int, Rows, Bools]] = []
        for owner, channel in enumerate([None, *channels]):
            mine = [
                (t, i, node.split, np.flatnonzero(at[t] == i)) for t, i, node in met if node.owner == owner
            ]
            if channel is None:
                for t, i, number, here in mine:
                    s = half.splits[number]
                    moves.append((t, i, here, own.left(s.column, s.last_left, s.missing_left, here)))
            elif mine:
                moves += await _ask_partner(channel, mine, rows, split_reveal)
        for t, i, here, left in moves:
            at[t][here] = np.where(left, 2 * i + 1, 2 * i + 2)
    values = []
    for tree, place in zip(trees, at, strict=True):
        leaves = np.array(sorted(tree.leaf), dtype=np.int64)
        values.append(np.array([tree.leaf[i] for i in leaves.tolist()])[np.searchsorted(leaves, place)])
    return values


async def _ask_partner(
    channel: Channel, mine: list[tuple[int, int, int, Rows]], rows: int, split_reveal: str
) -> list[tuple[int, int, Rows, Bools]]:
    column = split_reveal == "column"
    await channel.send(_ask([m[2] for m in mine], [m[3][:0] if column else m[3] for m in mine]))  # 1
    sizes = [rows if column else len(m[3]) for m in mine]
    bits = (await channel.recv(Told)).bits  # 2
    if len(bits) != (sum(sizes) + 7) // 8:
        raise PeerError("bad_message", why="more or fewer sides came than rows were asked for")
    parts = np.split(np.unpackbits(bits, count=sum(sizes)).astype(bool), np.cumsum(sizes)[:-1])
    return [
        (t, i, here, part[here] if column else part)
        for (t, i, _, here), part in zip(mine, parts, strict=True)
    ]


def _ask(splits: list[int], rows: list[Rows]) -> Ask:
    return Ask(np.array(splits, dtype=np.uint32), rows)
