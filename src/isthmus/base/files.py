"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from isthmus.base.errors import LocalError


def committed(what: str) -> None:
    """Called around every write that must last, `before ...` and `after ...`; the crash lab hooks in here."""


def disk_trouble(path: Path, why: str) -> LocalError:
    """The error for a write that failed: whether the disk is full can be told from the rest."""
    full = "full" in why or why == os.strerror(errno.ENOSPC)
    return (
        LocalError("disk_full", path=str(path)) if full else LocalError("disk_error", path=str(path), why=why)
    )


def write_file(path: Path, body: bytes, mode: int = 0o600) -> None:
    """Write aside, sync, rename: a reader sees the old file or the new one. Raises LocalError `disk_full` or `disk_error`."""
    aside = path.with_name(path.name + ".part")
    try:
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(body)
            stream.flush()
            os.fsync(stream.fileno())
        committed("before file")
        _move(aside, path)
    except OSError as error:
        raise disk_trouble(path, error.strerror or "unknown") from None
    committed("after file")


def move_file(path: Path, to: Path) -> None:
    """Rename within a folder, durably; takes the place of what stood there. Raises as `write_file` does."""
    try:
        _move(path, to)
    except OSError as error:
        raise disk_trouble(to, error.strerror or "unknown") from None


def _move(path: Path, to: Path) -> None:
    os.replace(path, to)
    folder = os.open(to.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
