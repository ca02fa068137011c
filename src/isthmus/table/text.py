"""CSV to Arrow text columns: declared encoding, no guessing, row numbers for whatever is wrong.

Every cell stays text here, so that no leading zero is lost. Quotes follow RFC 4180: a quoted cell may hold
delimiters, line breaks and doubled quotes.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from isthmus.base.errors import ConfigError, DataError
from isthmus.base.progress import Progress
from isthmus.table.files import MAX_CELL_BYTES, MAX_COLUMNS, TableFile
from isthmus.table.rows import LISTED

# gb18030 reads everything that gbk and gb2312 write.
_CODECS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "utf-8-sig": "utf-8",
    "gb18030": "gb18030",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "utf-16": "utf-16",
    "utf-16-le": "utf-16-le",
    "utf-16-be": "utf-16-be",
}
ENCODINGS = tuple(_CODECS)
_CHUNK_BYTES = 1 << 20
_ROW_BYTES = 8 << 20  # Arrow reads blocks of this size; a longer row cannot be taken in
_HEADER_BYTES = 16 << 20
_END = "\x1a"  # cells of the row that we append: an unclosed quote swallows it, and so shows


class CsvFile:
    """A CSV whose header has been read. `names` are its columns, blanks around them removed."""

    def __init__(self, file: TableFile, encoding: str, delimiter: str | None) -> None:
        codec = _CODECS.get(encoding.lower().replace("_", "-"))
        if codec is None:
            raise ConfigError("out_of_bounds", field="encoding", value=encoding, allowed=", ".join(ENCODINGS))
        self._file = file
        self._progress = Progress()
        self._chunks = _without_final_blank_lines(self._utf8_chunks(codec, encoding), file.name)
        self._delimiter = delimiter
        self.names, self._rest = self._read_header()

    def read(self, wanted: Sequence[str], plain: str, progress: Progress) -> dict[str, Any]:
        """Arrow chunked arrays of `wanted`: `plain` as strings, the others dictionary-encoded."""
        self._progress = progress
        progress.start("read", self._file.size_bytes)
        coded = pa.dictionary(pa.int32(), pa.string())
        ragged: list[tuple[int, int]] = []

        def on_ragged(row: Any) -> str:
            ragged.append((int(row.number), int(row.actual_columns)))
            return "skip"

        parts: dict[str, list[Any]] = {name: [] for name in wanted}
        rows = 0
        try:
            reader = arrow_csv.open_csv(
                io.BufferedReader(_ChunkStream(self._with_end_row()), _CHUNK_BYTES),
                read_options=arrow_csv.ReadOptions(
                    use_threads=False, block_size=_ROW_BYTES, column_names=self.names
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self._delimiter,
                    newlines_in_values=True,
                    ignore_empty_lines=False,
                    invalid_row_handler=on_ragged,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    check_utf8=False,
                    include_columns=list(wanted),
                    column_types={name: pa.string() if name == plain else coded for name in wanted},
                    null_values=[],
                    strings_can_be_null=False,
                ),
            )
            for batch in reader:
                for name in wanted:
                    cells = batch.column(name)
                    self._check_cells(cells, name, rows)
                    parts[name].append(cells)
                rows += batch.num_rows
        except pa.ArrowInvalid as error:
            raise self._refusal(error, rows + len(ragged)) from None
        if ragged:
            row, cells_there = ragged[0]
            listed = ", ".join(str(number) for number, _ in ragged[:LISTED])
            why = f"row {row} has {cells_there} cells and the header {len(self.names)}"
            why += f"; {len(ragged)} such rows: {listed}" if len(ragged) > 1 else ""
            raise DataError(
                "bad_csv", file=self._file.name, why=why, rows=[number for number, _ in ragged[:LISTED]]
            )
        if not rows or parts[wanted[0]][-1][-1].as_py() != _END:
            why = f"a quote opened in row {max(rows, 1)} is never closed"
            raise DataError("bad_csv", file=self._file.name, why=why, rows=[max(rows, 1)])
        return {name: pa.chunked_array(chunks).slice(0, rows - 1) for name, chunks in parts.items()}

    def _refusal(self, error: Exception, rows: int) -> DataError:
        if "straddling" in str(error):
            what = f"Row {rows + 1} of {self._file.name}, or a later one,"
            return DataError(
                "too_large", what=what, size=f"over {_ROW_BYTES} bytes", limit=f"{_ROW_BYTES} bytes"
            )
        return DataError("bad_csv", file=self._file.name, why=f"it cannot be read on after row {rows}")

    def _check_cells(self, cells: Any, name: str, rows_before: int) -> None:
        words = cells.dictionary if pa.types.is_dictionary(cells.type) else cells
        longest = pc.max(pc.binary_length(words)).as_py() or 0
        if longest > MAX_CELL_BYTES:
            too_long = pc.greater(pc.binary_length(cells.cast(pa.string())), MAX_CELL_BYTES)
            row = rows_before + pc.index(too_long, True).as_py() + 1
            what = f"Row {row}, column {name} of {self._file.name}"
            raise DataError("too_large", what=what, size=f"{longest} bytes", limit=f"{MAX_CELL_BYTES} bytes")

    def _with_end_row(self) -> Iterator[bytes]:
        empty = True
        for chunk in self._rest:
            empty = empty and not chunk
            yield chunk
        if empty:
            raise DataError("too_small", what=self._file.name, count=0, needed=1)
        assert self._delimiter is not None
        yield ("\n" + self._delimiter.join([_END] * len(self.names)) + "\n").encode()

    def _read_header(self) -> tuple[list[str], Iterator[bytes]]:
        name = self._file.name
        head = b""
        cells: list[str] = []
        at_end = False
        while True:
            chunk = next(self._chunks, None)
            at_end = chunk is None
            head += chunk or b""
            # Whole characters only; the bytes themselves have been checked already.
            text = head.decode("utf-8", errors="ignore")
            lines = io.StringIO(text, newline="")
            if self._delimiter is None:
                first_line = lines.readline()
                lines.seek(0)
                tabs = self._file.suffix == ".tsv" or (self._file.suffix == ".txt" and "\t" in first_line)
                delimiter = "\t" if tabs else ","
            else:
                delimiter = self._delimiter
            try:
                cells = next((record for record in csv.reader(lines, delimiter=delimiter) if record), [])
            except csv.Error as error:
                raise DataError("bad_csv", file=name, why=f"its header: {error}") from None
            if at_end or lines.tell() < len(text):
                break
            if len(head) > _HEADER_BYTES:
                limit = f"{_HEADER_BYTES} bytes"
                raise DataError("too_large", what=f"The header of {name}", size=f"over {limit}", limit=limit)
        if at_end and head.count(b'"') % 2:
            raise DataError("bad_csv", file=name, why="a quote opened in the header is never closed")
        self._delimiter = delimiter
        rest = head[len(text[: lines.tell()].encode()) :]
        return check_names([cell.strip() for cell in cells], name), _chain(rest, self._chunks)

    def _utf8_chunks(self, codec: str, declared: str) -> Iterator[bytes]:
        """The file as checked UTF-8 without a byte-order mark."""
        decoder = codecs.getincrementaldecoder(codec)()
        read_bytes = 0
        first = True
        while True:
            chunk = self._file.raw.read(_CHUNK_BYTES) or b""
            held = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeError as error:  # the base class alone: UTF-16 without its byte-order mark
                offset = read_bytes - held + error.start if isinstance(error, UnicodeDecodeError) else 0
                row = self._row_at(offset, codec)
                raise DataError(
                    "encoding_error", file=self._file.name, encoding=declared, row=row, offset=offset
                ) from None
            read_bytes += len(chunk)
            self._progress.at(read_bytes)
            utf8 = chunk if codec == "utf-8" else text.encode()
            if b"\0" in utf8:
                raise DataError("unsupported_format", file=self._file.name, why="it holds NUL bytes")
            if first and utf8:
                utf8, first = utf8.removeprefix(codecs.BOM_UTF8), False
            if utf8:
                yield utf8
            if not chunk:
                return

    def _row_at(self, offset: int, codec: str) -> int:
        """The 1-based data row (0: the header) in which the byte at `offset` lies."""
        if offset == 0:
            return 0
        self._file.raw.seek(0)
        before = io.BufferedReader(_ChunkStream(self._raw_chunks(offset)))
        lines = io.TextIOWrapper(before, codec, errors="ignore", newline="")
        delimiter = self._delimiter or ("\t" if self._file.suffix == ".tsv" else ",")
        try:
            # One more character stands for the bad one, so that its own row counts even when it is the first.
            return max(0, sum(1 for _ in csv.reader(_with_last(lines, "x"), delimiter=delimiter)) - 1)
        except (csv.Error, UnicodeError):
            self._file.raw.seek(0)
            return sum(chunk.count(b"\n") for chunk in self._raw_chunks(offset))

    def _raw_chunks(self, size_bytes: int) -> Iterator[bytes]:
        while size_bytes > 0 and (chunk := self._file.raw.read(min(size_bytes, _CHUNK_BYTES))):
            size_bytes -= len(chunk)
            yield chunk


def check_names(names: list[str], file: str) -> list[str]:
    """The header, if every column has a name of its own."""
    if not names:
        raise DataError("too_small", what=file, count=0, needed=1)
    if len(names) > MAX_COLUMNS:
        size, limit = f"{len(names)} columns", f"{MAX_COLUMNS} columns"
        raise DataError("too_large", what=file, size=size, limit=limit)
    for position, name in enumerate(names, start=1):
        if not name or len(name) > 256 or re.search(r"[\x00-\x1f\x7f]", name):
            raise DataError("bad_csv", file=file, why=f"column {position} has no usable name in the header")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError("repeated_column", file=file, column=name)
        seen.add(name)
    return names


class _ChunkStream(io.RawIOBase):
    """An iterator of bytes as a raw file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        taken = min(len(buffer), len(self._left))
        buffer[:taken] = self._left[:taken]
        self._left = self._left[taken:]
        return taken


def _without_final_blank_lines(chunks: Iterator[bytes], file: str) -> Iterator[bytes]:
    """Blank lines inside a file are rows with nothing in them; at its end they are nothing."""
    held = b""
    for chunk in chunks:
        body = chunk.rstrip(b"\r\n")
        if body:
            yield held + body
            held = chunk[len(body) :]
        else:
            held += chunk
        if len(held) > MAX_CELL_BYTES:
            raise DataError("bad_csv", file=file, why="it holds a long run of blank lines")
    # Kept after a lone header, so that it is known to be complete.


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _with_last(lines: Iterator[str], extra: str) -> Iterator[str]:
    """The same lines with `extra` at the very end of the last one, or on a line of its own after a line break."""
    last = ""
    for line in lines:
        if last:
            yield last
        last = line
    if last.endswith(("\n", "\r")):
        yield last
        last = ""
    yield last + extra
