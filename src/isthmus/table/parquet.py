"""Flat Parquet columns to Arrow, with what the footer declares checked against the file before memory is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as arrow_parquet

from isthmus.base.errors import DataError
from isthmus.base.progress import Progress
from isthmus.table.files import MAX_CELL_BYTES, MAX_COLUMNS, TableFile
from isthmus.table.text import check_names

_BATCH_ROWS = 1 << 16
_METADATA_BYTES = 64 << 20
_MAX_RATIO = 1000  # of what is declared to what is there; run-length pages of honest files stay below


class ParquetFile:
    """A Parquet file whose footer has been read. Text columns come dictionary-encoded, so repeats cost nothing."""

    def __init__(self, file: TableFile) -> None:
        self._file = file
        try:
            parquet = arrow_parquet.ParquetFile(
                file.raw,
                thrift_string_size_limit=_METADATA_BYTES,
                thrift_container_size_limit=1_000_000,
            )
            schema = parquet.schema_arrow
            self._check_declared(parquet.metadata)
        except (pa.ArrowNotImplementedError, pa.ArrowKeyError) as error:
            raise DataError("unsupported_format", file=file.name, why=_first_line(error)) from None
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError("bad_array", file=file.name, why=_first_line(error)) from None
        self._schema = schema
        self._rows = int(parquet.metadata.num_rows)
        self.names: list[str] = check_names([str(name) for name in schema.names], file.name)

    def read(self, wanted: Sequence[str], plain: str, progress: Progress) -> dict[str, Any]:
        """Arrow chunked arrays of `wanted`: `plain` in its own type, other text dictionary-encoded."""
        name = self._file.name
        for column in wanted:
            self._check_type(column)
        coded = [c for c in wanted if c != plain and _is_text(self._schema.field(c).type)]
        progress.start("read", self._rows)
        parts: dict[str, list[Any]] = {column: [] for column in wanted}
        rows = 0
        try:
            self._file.raw.seek(0)
            parquet = arrow_parquet.ParquetFile(
                self._file.raw,
                read_dictionary=coded,
                thrift_string_size_limit=_METADATA_BYTES,
                thrift_container_size_limit=1_000_000,
                page_checksum_verification=True,
            )
            for batch in parquet.iter_batches(
                batch_size=_BATCH_ROWS, columns=list(wanted), use_threads=False
            ):
                for column in wanted:
                    cells = batch.column(column)
                    self._check_text(cells, column, rows)
                    parts[column].append(cells)
                rows += batch.num_rows
                progress.at(rows)
        except pa.ArrowNotImplementedError as error:
            raise DataError("unsupported_format", file=name, why=_first_line(error)) from None
        except (pa.ArrowException, OSError) as error:
            raise DataError("bad_array", file=name, why=_first_line(error)) from None
        if rows != self._rows:
            raise DataError("bad_array", file=name, why=f"it declares {self._rows} rows and holds {rows}")
        if not rows:
            raise DataError("too_small", what=name, count=0, needed=1)
        return {column: pa.chunked_array(chunks) for column, chunks in parts.items()}

    def _check_declared(self, metadata: Any) -> None:
        name, size_bytes = self._file.name, self._file.size_bytes
        if metadata.num_columns > MAX_COLUMNS:
            size, limit = f"{metadata.num_columns} columns", f"{MAX_COLUMNS} columns"
            raise DataError("too_large", what=name, size=size, limit=limit)
        # Column chunks are not asked about: pyarrow ends the process when their statistics are damaged.
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        if metadata.num_rows < 0 or metadata.num_rows != sum(group.num_rows for group in groups):
            raise DataError("bad_array", file=name, why="its row groups do not add up to its rows")
        if metadata.num_rows > _MAX_RATIO * size_bytes:
            raise DataError("bad_array", file=name, why=f"{metadata.num_rows} rows in {size_bytes} bytes")
        unpacked = sum(group.total_byte_size for group in groups)
        if unpacked > _MAX_RATIO * max(size_bytes, 1 << 16):
            raise DataError("bad_array", file=name, why=f"{size_bytes} bytes that unpack to {unpacked}")

    def _check_type(self, column: str) -> None:
        kind = self._schema.field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        readable = (
            _is_text(kind)
            or pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_date(kind)
            or pa.types.is_timestamp(kind)
            or pa.types.is_time(kind)
            or pa.types.is_null(kind)
        )
        if isinstance(kind, pa.BaseExtensionType) or not readable:
            raise DataError(
                "unsupported_format", file=self._file.name, why=f"column {column} holds {_kind_word(kind)}"
            )

    def _check_text(self, cells: Any, column: str, rows_before: int) -> None:
        """Text that is UTF-8 and codes that mean something, as the format promises but no reader checks."""
        coded = pa.types.is_dictionary(cells.type)
        words = cells.dictionary if coded else cells
        if _is_text(words.type):
            self._check_words(cells, words, column, rows_before)
        if coded:
            try:
                cells.validate(full=True)
            except pa.ArrowInvalid:
                why = f"column {column} points beyond its dictionary"
                raise DataError("bad_array", file=self._file.name, why=why) from None

    def _check_words(self, cells: Any, words: Any, column: str, rows_before: int) -> None:
        """Refuses what is not UTF-8, naming the byte inside the cell, and cells of unbearable length."""
        try:
            words.validate(full=True)
        except pa.ArrowInvalid:
            broken, offset = _not_utf8(words)
            position = broken if words is cells else pc.index(cells.indices, broken).as_py()
            raise DataError(
                "encoding_error",
                file=self._file.name,
                encoding=f"UTF-8 in column {column}",
                row=rows_before + max(0, position) + 1,
                offset=offset,
            ) from None
        longest = pc.max(pc.binary_length(words)).as_py() or 0
        if longest > MAX_CELL_BYTES:
            what = f"A cell of column {column} of {self._file.name}"
            raise DataError("too_large", what=what, size=f"{longest} bytes", limit=f"{MAX_CELL_BYTES} bytes")


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _kind_word(kind: Any) -> str:
    return "nested values" if pa.types.is_nested(kind) else f"values of type {str(kind)[:60]}"


def _not_utf8(words: Any) -> tuple[int, int]:
    """The position of the first word that is not UTF-8, and its first wrong byte."""
    binary = words.cast(pa.large_binary() if pa.types.is_large_string(words.type) else pa.binary())
    for position, word in enumerate(binary):
        try:
            (word.as_py() or b"").decode()
        except UnicodeDecodeError as error:
            return position, error.start
    return 0, 0


def _first_line(error: Exception) -> str:
    """Arrow's own words without its stack of notes; they name structures, not values."""
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
