"""The file of a backup: a zip with `manifest.json` first, which names every other file with its size and SHA-256.

It is read as something that a stranger may have made: names are those that a backup has, every file is a plain one, and no byte
more is unpacked than the manifest says.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from isthmus.base.errors import ConfigError, LocalError
from isthmus.store.folder import PARTY_PATTERN

RESULTS = ("job.json", "half.json", "report.json", "report.en.html", "report.zh.html", "scores.csv")
"""What of a job that is done goes into a backup; its records of progress, keys and sockets never do."""

_MANIFEST = "manifest.json"
_MANIFEST_MAX_BYTES = 64 * 2**20
_NEEDED = {"config.yaml", "node.db"}
_RESULT = "|".join(re.escape(name) for name in RESULTS)
_NAME = re.compile(
    rf"config\.yaml|node\.db|lines\.json|tls/(cert|relay)\.pem|jobs/j-[a-z0-9-]{{1,64}}/({_RESULT})"
)
_PIECE_BYTES = 2**20
_HEX = r"^[0-9a-f]{64}$"
SECRET_PATTERN = r"^(keys/[a-z0-9][a-z0-9.-]{0,63}|tls/key\.pem)$"


class PackedFile(BaseModel):
    """One file of a backup."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, StringConstraints(pattern=_HEX)]


class Manifest(BaseModel):
    """What a backup holds, whose it is and when it was made. `secrets` are the names of what stayed behind, to be put back."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal["isthmus-backup/1"] = "isthmus-backup/1"
    version: str
    party: Annotated[str, StringConstraints(pattern=PARTY_PATTERN)]
    public_key: Annotated[str, StringConstraints(pattern=_HEX)]
    made_at: str
    secrets: list[Annotated[str, StringConstraints(pattern=SECRET_PATTERN)]]
    files: list[PackedFile]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def measured(name: str, path: Path) -> PackedFile:
    """The file as it will be packed under this name."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return PackedFile(name=name, size_bytes=stream.tell(), sha256=digest)


def pack(manifest: Manifest, paths: Mapping[str, Path], out: Path) -> None:
    """Writes the archive; `paths` holds the files of the manifest by name."""
    with zipfile.ZipFile(out, "x", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_MANIFEST, manifest.model_dump_json(indent=1))
        for file in manifest.files:
            archive.write(paths[file.name], file.name)


def unpack(path: Path, into: Path | None = None) -> Manifest:
    """Reads and checks every byte, and writes the files below `into`, where one is given; it has the folders tls and jobs.

    Raises ConfigError `backup_damaged` for anything but a backup as it was made, LocalError `disk_full` before it writes more
    than there is room for.
    """
    if not path.is_file():
        raise ConfigError("not_found", what=str(path), list_command=f"ls {path.parent}")
    try:
        with zipfile.ZipFile(path) as archive:
            manifest, entries = _listed(archive)
            needed = sum(file.size_bytes for file in manifest.files)
            if into is not None and needed > shutil.disk_usage(into).free:
                raise LocalError("disk_full", path=str(into))
            for file in manifest.files:
                _unpack_one(archive, entries[file.name], file, into)
    except _Unfit as unfit:
        raise ConfigError("backup_damaged", path=str(path), why=str(unfit)) from None
    except pydantic.ValidationError:
        raise ConfigError("backup_damaged", path=str(path), why="its manifest cannot be read") from None
    # What zipfile raises for bytes that are no archive, are cut, are enciphered or packed in a way that it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ConfigError("backup_damaged", path=str(path), why=str(error)[:200] or "it is cut") from None
    return manifest


class _Unfit(Exception):
    """Why the file is no backup."""


def _listed(archive: zipfile.ZipFile) -> tuple[Manifest, dict[str, zipfile.ZipInfo]]:
    entries = {info.filename: info for info in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise _Unfit("a name in it is given twice")
    for name, info in entries.items():
        plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG) and not info.is_dir()
        if not plain or not (name == _MANIFEST or _NAME.fullmatch(name)):
            raise _Unfit(f"{name[:80]!r} does not belong in a backup")
    first = entries.pop(_MANIFEST, None)
    if first is None:
        raise _Unfit("it has no manifest")
    manifest = Manifest.model_validate_json(b"".join(_pieces(archive, first, _MANIFEST_MAX_BYTES)))
    names = [file.name for file in manifest.files]
    if sorted(names) != sorted(entries) or not set(names) >= _NEEDED:
        raise _Unfit("its files are not those of its manifest")
    return manifest, entries


def _unpack_one(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, file: PackedFile, into: Path | None
) -> None:
    place = Path(os.devnull)
    if into is not None:
        place = into / file.name
        place.parent.mkdir(mode=0o700, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with open(place, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
        for piece in _pieces(archive, entry, file.size_bytes):
            digest.update(piece)
            size += out.write(piece)
        out.flush()
        if into is not None:
            os.fsync(out.fileno())
    if (size, digest.hexdigest()) != (file.size_bytes, file.sha256):
        raise _Unfit(f"{file.name} is not as it was")


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit_bytes: int) -> Iterator[bytes]:
    """The content, up to one byte beyond the limit, where it stops to be what was said."""
    left = limit_bytes + 1
    with archive.open(entry) as stream:
        while left and (piece := stream.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            if not left:
                raise _Unfit(f"{entry.filename} is longer than it may be")
            yield piece
