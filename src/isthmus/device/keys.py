"""Where the key of a device lives: the platform's keystore, or a file that only this user may read."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Protocol

from isthmus.base.errors import ConfigError, LocalError
from isthmus.base.files import write_file
from isthmus.crypto.seal import PartyKey


class KeyStore(Protocol):
    """32 secret bytes, kept by the platform; never part of a backup."""

    def load(self) -> bytes | None: ...

    def save(self, secret: bytes) -> None: ...

    def erase(self) -> None: ...


class FileKeyStore:
    """A file with mode 0600, for machines without a keystore."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes | None:
        """Raises ConfigError `file_mode`."""
        if not self._path.exists():
            return None
        if stat.S_IMODE(self._path.stat().st_mode) & 0o077:
            raise ConfigError("file_mode", path=str(self._path))
        return self._path.read_bytes()

    def save(self, secret: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self._path, secret)

    def erase(self) -> None:
        self._path.unlink(missing_ok=True)


def key_from(keystore: KeyStore) -> PartyKey:
    """The device's key, made the first time. Raises LocalError `checkpoint_damaged`."""
    secret = keystore.load()
    if secret is None:
        key = PartyKey.generate()
        keystore.save(key.to_bytes())
        return key
    if len(secret) != 32:
        raise LocalError("checkpoint_damaged", path="the key of this device")
    return PartyKey.from_bytes(secret)
