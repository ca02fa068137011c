"""From cells to columns: what counts as missing, as a number, as a category; and which cells are neither."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from isthmus.base.errors import DataError
from isthmus.table.rows import first_rows
from isthmus.table.table import CategoryColumn, Column, ColumnSchema, NumericColumn

MISSING = ("", ".", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "NULL", "Null", "null", "\\N")
NUMERIC_SHARE = 0.9  # more parsing cells than this: a numeric column with bad cells, not a category
_MAX_TEXT_BYTES = (1 << 31) - 1

_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_NUMBER_WORD = r"^[+-]?(?i:inf|infinity|nan)$"


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of a file, row by row.

    Text has `words`, an Arrow array, and `codes` into it; typed Parquet numbers have the Arrow array itself and no
    codes until somebody asks for text. numbers: float64, NaN where the cell is no number. like: the cell is written
    as a number (also Inf, 1e400). missing: nothing is there. All of shape (rows,).
    """

    name: str
    numbers: NDArray[np.float64]
    like: NDArray[np.bool_]
    missing: NDArray[np.bool_]
    codes: NDArray[np.int32]
    words: Any

    @property
    def not_finite(self) -> NDArray[np.bool_]:
        """Neither missing nor a finite number."""
        return ~self.missing & ~np.isfinite(self.numbers)


def cells_of(
    name: str, column: Any, keep: NDArray[np.int64] | None, missing: Collection[str], file: str
) -> Cells:
    """`column` is an Arrow chunked array; `keep` are the 0-based rows that count (None: all)."""
    kind = column.type
    typed = not pa.types.is_dictionary(kind) and (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )
    if typed:
        return _typed_cells(name, column, keep)
    return _text_cells(name, column, keep, missing, file)


def _typed_cells(name: str, column: Any, keep: NDArray[np.int64] | None) -> Cells:
    array = column.combine_chunks()
    if keep is not None:
        array = array.take(pa.array(keep))
    if pa.types.is_boolean(array.type):
        as_numbers = array.cast(pa.int8())
    else:
        as_numbers = array
    null: NDArray[np.bool_] = array.is_null().to_numpy(zero_copy_only=False)
    filled = as_numbers.cast(pa.float64(), safe=False).fill_null(np.nan)
    numbers: NDArray[np.float64] = filled.to_numpy(zero_copy_only=False).astype(np.float64, copy=True)
    missing = null | np.isnan(numbers)
    return Cells(name, numbers, ~missing, missing, np.empty(0, np.int32), array)


def _text_cells(
    name: str, column: Any, keep: NDArray[np.int64] | None, missing_words: Collection[str], file: str
) -> Cells:
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()  # dates, times, all-null columns
    if sum(chunk.dictionary.nbytes for chunk in column.chunks) > _MAX_TEXT_BYTES:
        limit = f"{_MAX_TEXT_BYTES} bytes of different texts"
        raise DataError("too_large", what=f"Column {name} of {file}", size="more", limit=limit)
    coded = column.unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.chunk(0)
    codes: NDArray[np.int32] = (
        coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    )
    if keep is not None:
        codes = codes[keep]
    raw = coded.dictionary
    words = pc.utf8_trim_whitespace(raw if pa.types.is_string(raw.type) else raw.cast(pa.string()))
    empty = pc.or_kleene(
        words.is_null(), pc.is_in(words, value_set=pa.array(sorted(missing_words), pa.string()))
    )
    numbers, like = _parse(pc.if_else(empty, pa.scalar(None, pa.string()), words))
    # Code -1 (a Parquet null) picks the last place: missing.
    missing_at = np.append(empty.to_numpy(zero_copy_only=False).astype(np.bool_), True)
    return Cells(
        name,
        np.append(numbers, np.nan)[codes],
        np.append(like, False)[codes],
        missing_at[codes],
        codes,
        words,
    )


def _parse(words: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Numbers (NaN where none; infinite where out of range) and which words are written as numbers."""
    try:
        parsed = words.cast(pa.float64())
    except pa.ArrowInvalid:
        written = pc.match_substring_regex(words, f"{_NUMBER}|{_NUMBER_WORD}")
        plain = pc.replace_substring_regex(
            pc.if_else(written, words, pa.scalar(None, pa.string())), r"^\+", ""
        )
        parsed = plain.cast(pa.float64())
    like: NDArray[np.bool_] = parsed.is_valid().to_numpy(zero_copy_only=False)
    numbers: NDArray[np.float64] = parsed.fill_null(np.nan).to_numpy(zero_copy_only=False)
    return numbers, like


def column_of(
    cells: Cells, declared: Literal["numeric", "category"] | None, source_rows: NDArray[np.int64], file: str
) -> Column:
    """The feature column, its kind inferred unless declared. Raises `not_a_number` with the rows."""
    kind = declared or _inferred(cells)
    if kind == "category":
        return _category(cells)
    bad = cells.not_finite
    if bad.any():
        raise DataError("not_a_number", column=cells.name, file=file, **first_rows(bad, source_rows))
    return NumericColumn(cells.name, np.where(cells.missing, np.nan, cells.numbers))


def as_in_schema(cells: Cells, schema: ColumnSchema, source_rows: NDArray[np.int64], file: str) -> Column:
    """The column in the kind and with the levels that a model knows; a level it has never met counts as missing."""
    column = column_of(cells, schema.kind, source_rows, file)
    if isinstance(column, NumericColumn):
        return column
    known = {level: code for code, level in enumerate(schema.levels)}
    recode = np.array([*(known.get(level, -1) for level in column.levels), -1], dtype=np.int32)
    return CategoryColumn(column.name, recode[column.codes], schema.levels)


def useless(column: Column) -> str | None:
    """ "empty" when every cell is missing, "constant" when one value fills every row; a gap is itself a signal."""
    missing = column.missing
    if missing.all():
        return "empty"
    if missing.any():
        return None
    values = column.values if isinstance(column, NumericColumn) else column.codes
    return "constant" if bool((values == values[0]).all()) else None


def label_of(
    cells: Cells,
    objective: Literal["binary", "regression"],
    positive: str | None,
    source_rows: NDArray[np.int64],
    file: str,
) -> NDArray[np.float64]:
    """0 and 1, or finite numbers. Raises `bad_label` (binary) or `bad_target` (regression) with the rows."""
    if objective == "regression":
        bad = cells.missing | cells.not_finite
        if bad.any():
            raise DataError("bad_target", column=cells.name, file=file, **first_rows(bad, source_rows))
        return cells.numbers
    texts = _category(cells)
    if positive is not None:
        wanted = _number_of(positive)
        is_positive = np.array(
            [
                level == positive.strip() or (wanted is not None and _number_of(level) == wanted)
                for level in texts.levels
            ]
            + [False]
        )
        bad, label = cells.missing, is_positive[texts.codes].astype(np.float64)
    else:
        truth = {"true": 1.0, "false": 0.0}
        spelt = np.array([*(truth.get(level.lower(), np.nan) for level in texts.levels), np.nan])
        label = np.where(np.isfinite(cells.numbers), cells.numbers, spelt[texts.codes])
        bad = cells.missing | ~((label == 0) | (label == 1))
    if bad.any():
        raise DataError("bad_label", column=cells.name, file=file, **first_rows(bad, source_rows))
    return label


def _inferred(cells: Cells) -> Literal["numeric", "category"]:
    present = int((~cells.missing).sum())
    return "numeric" if int((cells.like & ~cells.missing).sum()) > NUMERIC_SHARE * present else "category"


def _category(cells: Cells) -> CategoryColumn:
    words, codes = cells.words, cells.codes
    if not len(codes):
        coded = words.cast(pa.string()).dictionary_encode()
        words = coded.dictionary
        codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    present = codes[~cells.missing]
    used = np.unique(present)
    spelt = words.take(pa.array(used)).to_pylist()
    levels = sorted(set(spelt))  # blanks around a word may have made two of one
    place = {level: code for code, level in enumerate(levels)}
    recode = np.full(len(words) + 1, -1, dtype=np.int32)
    recode[used] = [place[word] for word in spelt]
    return CategoryColumn(cells.name, np.where(cells.missing, np.int32(-1), recode[codes]), tuple(levels))


def _number_of(text: str) -> float | None:
    numbers, like = _parse(pa.array([text.strip()], pa.string()))
    return float(numbers[0]) if like[0] and np.isfinite(numbers[0]) else None
