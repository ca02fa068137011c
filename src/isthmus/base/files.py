"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from isthmus.base.errors import LocalError


def write_file(path: Path, body: bytes, mode: int = 0o600) -> None:
    """Write aside, sync, rename: a reader sees the old file or the new one. Raises LocalError(disk_error)."""
    aside = path.with_name(path.name + ".part")
    try:
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(body)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise LocalError("disk_error", path=str(path), why=error.strerror or "unknown") from None
