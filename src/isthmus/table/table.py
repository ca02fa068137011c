"""A party's own rows: match keys, feature columns, and the label where this party has it. Never leaves the party."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class NumericColumn:
    """Float64 values, shape (rows,); NaN is missing, infinity does not occur."""

    name: str
    values: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"NumericColumn({self.name!r}, rows={len(self.values)})"

    def take(self, rows: NDArray[np.int64]) -> NumericColumn:
        return NumericColumn(self.name, self.values[rows])

    @property
    def missing(self) -> NDArray[np.bool_]:
        return np.isnan(self.values)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CategoryColumn:
    """Codes into `levels`, shape (rows,); -1 is missing. Levels are sorted by code point, blanks around them gone."""

    name: str
    codes: NDArray[np.int32]
    levels: tuple[str, ...]

    def __repr__(self) -> str:
        return f"CategoryColumn({self.name!r}, rows={len(self.codes)}, levels={len(self.levels)})"

    def take(self, rows: NDArray[np.int64]) -> CategoryColumn:
        return CategoryColumn(self.name, self.codes[rows], self.levels)

    @property
    def missing(self) -> NDArray[np.bool_]:
        return self.codes < 0


Column = NumericColumn | CategoryColumn


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """What a model half must remember of a column to read the next file the same way."""

    name: str
    kind: Literal["numeric", "category"]
    levels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """The feature columns of a table, in order."""

    columns: tuple[ColumnSchema, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def to_document(self) -> list[dict[str, Any]]:
        return [{"name": c.name, "kind": c.kind, "levels": list(c.levels)} for c in self.columns]

    @staticmethod
    def from_document(document: Sequence[dict[str, Any]]) -> Schema:
        return Schema(tuple(ColumnSchema(d["name"], d["kind"], tuple(d["levels"])) for d in document))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Table:
    """Rows of one party, in file order.

    ids: normalised match keys, UTF-8, unique. columns: features without id and label. dropped: column name to
    "constant" or "empty". source_rows: 1-based data row in the file. raw_ids: the ids as the file spells them.
    """

    ids: list[bytes]
    columns: dict[str, Column]
    label: NDArray[np.float64] | None
    dropped: dict[str, str]
    source_rows: NDArray[np.int64]
    raw_ids: list[str]

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.raw_ids), len(self.source_rows)}
        lengths |= {len(c.missing) for c in self.columns.values()}
        if self.label is not None:
            lengths.add(len(self.label))
        if len(lengths) != 1:
            raise ValueError(f"a table whose parts have different lengths: {sorted(lengths)}")

    def __repr__(self) -> str:
        label = "no label" if self.label is None else "with label"
        return f"Table(rows={self.rows}, columns={list(self.columns)}, {label})"

    @property
    def rows(self) -> int:
        return len(self.ids)

    @property
    def schema(self) -> Schema:
        return Schema(
            tuple(
                ColumnSchema(name, "numeric")
                if isinstance(column, NumericColumn)
                else ColumnSchema(name, "category", column.levels)
                for name, column in self.columns.items()
            )
        )

    def take(self, rows: NDArray[np.int64]) -> Table:
        """The rows at these 0-based positions, in this order."""
        positions: list[int] = rows.tolist()
        return Table(
            ids=[self.ids[i] for i in positions],
            columns={name: column.take(rows) for name, column in self.columns.items()},
            label=None if self.label is None else self.label[rows],
            dropped=dict(self.dropped),
            source_rows=self.source_rows[rows],
            raw_ids=[self.raw_ids[i] for i in positions],
        )
