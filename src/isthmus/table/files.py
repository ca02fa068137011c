"""Opens a table file safely: a regular file, not a link, of a size and a kind that we read, known by its first bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Literal

from isthmus.base.errors import ConfigError, DataError

MAX_FILE_BYTES = 100_000_000_000
MAX_COLUMNS = 10_000
MAX_CELL_BYTES = 1_000_000

_KINDS: dict[str, Literal["csv", "parquet"]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}

# First bytes of what people rename to .csv or .parquet. Pickles from protocol 2 on start with 0x80 and the protocol.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    *((bytes((0x80, protocol)), "a pickle") for protocol in range(2, 6)),
    (b"PK\x03\x04", "a ZIP archive, as are .xlsx, .npz and .pt"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"BZh91AY&SY", "compressed with bzip2"),
    (b"\xfd7zXZ\x00", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"\x04\x22\x4d\x18", "compressed with lz4"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"ARROW1\x00\x00", "an Arrow file"),
    (b"Obj\x01", "Avro"),
    (b"%PDF-", "a PDF"),
    (b"\x7fELF", "a program"),
    (b"\x89PNG\r\n", "an image"),
)


@dataclass(frozen=True, slots=True)
class TableFile:
    """An open file; `name` is all that errors may say of its path."""

    name: str
    suffix: str
    kind: Literal["csv", "parquet"]
    size_bytes: int
    raw: FileIO


@contextmanager
def open_table_file(path: Path) -> Iterator[TableFile]:
    """Raises `bad_path`, `unsupported_format`, `too_small`, `too_large`; `dataset_changed` if it changes meanwhile."""
    with _open_regular(path) as raw:
        before = os.fstat(raw.fileno())
        suffix = path.suffix.lower()
        if suffix not in _KINDS:
            raise DataError(
                "unsupported_format", file=path.name, why="its name ends in none of " + " ".join(_KINDS)
            )
        kind = _KINDS[suffix]
        if before.st_size == 0:
            raise DataError("too_small", what=path.name, count=0, needed=1)
        if before.st_size > MAX_FILE_BYTES:
            size, limit = f"{before.st_size} bytes", f"{MAX_FILE_BYTES} bytes"
            raise DataError("too_large", what=path.name, size=size, limit=limit)
        _check_magic(raw, path.name, kind, before.st_size)
        yield TableFile(path.name, suffix, kind, before.st_size, raw)
        after = os.fstat(raw.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise DataError("dataset_changed", file=path.name)


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of a regular file, in hex, read as a stream."""
    with _open_regular(path) as raw:
        # FileIO has the readinto that hashlib asks for; its stub names buffered readers only.
        return hashlib.file_digest(raw, "sha256").hexdigest()


def _open_regular(path: Path) -> FileIO:
    # O_NONBLOCK: a named pipe would block for ever. O_NOFOLLOW: the last part must not be a link.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        why = (
            "it is a symbolic link"
            if error.errno == errno.ELOOP
            else (error.strerror or "unreadable").lower()
        )
        raise ConfigError("bad_path", path=path.name, why=why) from None
    except ValueError:
        raise ConfigError("bad_path", path=path.name.replace("\0", "?"), why="its name holds a NUL") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError("bad_path", path=path.name, why="it is not a regular file")
    return FileIO(descriptor, "rb")


def _check_magic(raw: FileIO, name: str, kind: Literal["csv", "parquet"], size_bytes: int) -> None:
    head = raw.read(512) or b""
    raw.seek(max(0, size_bytes - 4))
    tail = raw.read(4) or b""
    raw.seek(0)
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise DataError("unsupported_format", file=name, why=f"it is {what}")
    if head[257:262] == b"ustar":
        raise DataError("unsupported_format", file=name, why="it is a tar archive")
    if kind == "parquet":
        if head[:4] == b"PARE" or tail == b"PARE":
            raise DataError("unsupported_format", file=name, why="encrypted Parquet")
        if head[:4] != b"PAR1":
            raise DataError("unsupported_format", file=name, why="it does not start as Parquet does")
        if size_bytes < 12 or tail != b"PAR1":
            raise DataError("bad_array", file=name, why="its end is missing")
    elif head[:4] == tail == b"PAR1":
        raise DataError("unsupported_format", file=name, why="it is Parquet; name it .parquet")
