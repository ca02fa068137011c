"""Reads a party's file into a Table, or says which rows and columns stand in the way.

No row is ever left out unasked: every row comes back, or the file is refused with the first row numbers and the
count. Rows are numbered from 1 after the header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from isthmus.base.errors import ConfigError, DataError
from isthmus.base.progress import Progress
from isthmus.table.cells import MISSING, as_in_schema, cells_of, column_of, label_of, useless
from isthmus.table.files import TableFile, file_digest, open_table_file
from isthmus.table.ids import IdForm, normalise
from isthmus.table.parquet import ParquetFile
from isthmus.table.rows import LISTED, first_rows
from isthmus.table.table import Column, ColumnSchema, Schema, Table
from isthmus.table.text import CsvFile

_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a file is to be understood.

    positive: the cell that counts as 1; None: the label holds 0/1 (or 0.0/1.0, true/false). include and exclude take
    names or patterns with * and ?. missing: cells, blanks around them gone, that mean nothing is there.
    duplicates: which row of a repeated id counts; "refuse" until somebody chooses. delimiter: None means a comma,
    for .tsv a tab, for .txt a tab if the first line has one.
    """

    id: str
    label: str | None = None
    positive: str | None = None
    objective: Literal["binary", "regression"] = "binary"
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ("*",)
    encoding: str = "utf-8"
    duplicates: Literal["refuse", "first", "last"] = "refuse"
    id_form: IdForm = "none"
    missing: tuple[str, ...] = MISSING
    delimiter: str | None = None

    def __post_init__(self) -> None:
        if self.label == self.id:
            raise ConfigError(
                "out_of_bounds", field="label", value=self.id, allowed="another column than the id"
            )
        if both := sorted(set(self.categorical) & set(self.numeric)):
            allowed = "a column is categorical or numeric, not both"
            raise ConfigError("out_of_bounds", field="numeric", value=", ".join(both), allowed=allowed)
        if self.delimiter is not None and self.delimiter not in _DELIMITERS:
            allowed = "comma, semicolon, tab, |"
            raise ConfigError("out_of_bounds", field="delimiter", value=self.delimiter, allowed=allowed)


@dataclass(frozen=True, slots=True)
class _Ids:
    keys: list[bytes]
    raw: list[str]
    source_rows: NDArray[np.int64]
    keep: NDArray[np.int64] | None  # 0-based rows that stay, None when all do


def read_table(
    path: Path, options: ReadOptions, progress: Progress | None = None, schema: Schema | None = None
) -> Table:
    """The table of a CSV or Parquet file.

    With a `schema`, as for scoring, exactly its columns are read in the kinds and levels that it names, nothing is
    dropped, one row is enough and the label may have one class.
    """
    with open_table_file(path) as file:
        source = _source(file, options)
        wanted = _wanted(source.names, options, file.name, schema)
        columns = source.read([options.id, *([options.label] if options.label else []), *wanted], options.id,
                              progress or Progress())  # fmt: skip
    ids = _ids(columns.pop(options.id), options, path.name)
    needed = 2 if schema is None else 1
    if len(ids.keys) < needed:
        raise DataError("too_small", what=path.name, count=len(ids.keys), needed=needed)
    label = None
    if options.label:
        cells = cells_of(options.label, columns.pop(options.label), ids.keep, options.missing, path.name)
        label = label_of(cells, options.objective, options.positive, ids.source_rows, path.name)
        if schema is None and bool((label == label[0]).all()):
            raise DataError("one_class", column=options.label, count=len(label))
    kept: dict[str, Column] = {}
    dropped: dict[str, str] = {}
    known: dict[str, ColumnSchema] = (
        {} if schema is None else {column.name: column for column in schema.columns}
    )
    for name in wanted:
        cells = cells_of(name, columns.pop(name), ids.keep, options.missing, path.name)
        if schema is not None:
            kept[name] = as_in_schema(cells, known[name], ids.source_rows, path.name)
            continue
        column = column_of(cells, _declared(name, options), ids.source_rows, path.name)
        if reason := useless(column):
            dropped[name] = reason
        else:
            kept[name] = column
    if not kept:
        raise DataError("no_features", file=path.name, dropped=len(dropped))
    return Table(ids.keys, kept, label, dropped, ids.source_rows, ids.raw)


def read_ids(path: Path, options: ReadOptions) -> list[bytes]:
    """The match keys of the column `options.id`, in file order; other columns are not looked at."""
    with open_table_file(path) as file:
        source = _source(file, options)
        _must_have(source.names, [options.id], file.name)
        columns = source.read([options.id], options.id, Progress())
    return _ids(columns[options.id], options, path.name).keys


def _source(file: TableFile, options: ReadOptions) -> CsvFile | ParquetFile:
    if file.kind == "parquet":
        return ParquetFile(file)
    return CsvFile(file, options.encoding, options.delimiter)


def _wanted(names: list[str], options: ReadOptions, file: str, schema: Schema | None) -> list[str]:
    _must_have(names, [options.id, *([options.label] if options.label else [])], file)
    if schema is not None:
        _must_have(names, schema.names, file)
        return schema.names
    named = [*options.categorical, *options.numeric, *options.include, *options.exclude]
    _must_have(names, [name for name in named if not re.search(r"[*?\[]", name)], file)
    aside = {options.id, options.label}
    return [
        name
        for name in names
        if name not in aside and _is_in(name, options.include) and not _is_in(name, options.exclude)
    ]


def _is_in(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def _must_have(names: list[str], needed: list[str], file: str) -> None:
    for name in needed:
        if name not in names:
            # A file without a header shows its first row as names: what looks like an id or an address stays out.
            shown = [known for known in names if not re.search(r"[0-9]{5}|@", known)][:LISTED]
            more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
            raise DataError("missing_column", file=file, column=name, known=", ".join(shown) + more)


def _declared(name: str, options: ReadOptions) -> Literal["numeric", "category"] | None:
    if name in options.categorical:
        return "category"
    return "numeric" if name in options.numeric else None


def _ids(column: Any, options: ReadOptions, file: str) -> _Ids:
    rows = np.arange(1, len(column) + 1, dtype=np.int64)
    where = {"column": options.id, "file": file}
    texts = _id_texts(column, where, rows)
    trimmed = pc.utf8_trim_whitespace(texts)
    gaps = pc.is_in(trimmed, value_set=pa.array(sorted({"", *options.missing}), pa.large_string()))
    null = gaps.to_numpy(zero_copy_only=False).astype(np.bool_)
    if null.any():
        raise DataError("null_id", **where, **first_rows(null, rows))
    keys, bad = normalise(texts, options.id_form)
    if bad.any():
        form = "exact text" if options.id_form == "none" else options.id_form
        raise DataError("malformed_id", **where, form=form, **first_rows(bad, rows))
    keep = _one_row_per_id(keys, options.duplicates, where, rows)
    if keep is not None:
        keys, texts, rows = keys.take(pa.array(keep)), texts.take(pa.array(keep)), rows[keep]
    as_bytes: list[bytes] = keys.cast(pa.large_binary()).to_numpy(zero_copy_only=False).tolist()
    return _Ids(as_bytes, texts.to_numpy(zero_copy_only=False).tolist(), rows, keep)


def _id_texts(column: Any, where: dict[str, Any], rows: NDArray[np.int64]) -> Any:
    """The ids as text; whole numbers in decimal. Floating point has lost what it was."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    if not (whole or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        form = f"text or whole numbers (they are stored as {kind})"
        raise DataError("malformed_id", **where, form=form, **first_rows(np.ones(len(rows), np.bool_), rows))
    return column.cast(pa.large_string()).combine_chunks().fill_null("")


def _one_row_per_id(
    keys: Any, duplicates: Literal["refuse", "first", "last"], where: dict[str, Any], rows: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    coded = keys.dictionary_encode()
    codes: NDArray[np.int64] = coded.indices.to_numpy(zero_copy_only=False)
    distinct = len(coded.dictionary)
    if distinct == len(codes):
        return None
    if duplicates == "refuse":
        times = np.bincount(codes, minlength=distinct)
        fields = first_rows(times[codes] > 1, rows) | {"count": int((times > 1).sum())}
        raise DataError("duplicate_id", **where, **fields)
    chosen = np.empty(distinct, dtype=np.int64)
    places = np.arange(len(codes), dtype=np.int64)
    order = places[::-1] if duplicates == "first" else places  # of several writes to one place the last stays
    chosen[codes[order]] = order
    return np.sort(chosen)


__all__ = ["ReadOptions", "file_digest", "read_ids", "read_table"]
