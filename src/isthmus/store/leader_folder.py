"""The folder `fleet` of a node: fleet.db, spool/, the leader's certificate and its key, where devices reach it, its lock.

The node's process and the leader's share it; one leader at a time holds it.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from isthmus.base.errors import ConfigError, LocalError
from isthmus.base.files import write_file
from isthmus.base.typed_json import read
from isthmus.store.folder import MakeCertificate

_TRIES = 10


@dataclass(frozen=True)
class Place:
    """Where the leader listens (HOST:PORT) and where devices find it (https)."""

    listen: str
    address: str


class LeaderFolder:
    """The paths of one leader."""

    def __init__(self, home: Path) -> None:
        self.home = home / "fleet"
        self.database = self.home / "fleet.db"
        self.certificate = self.home / "leader.pem"
        self.tls_key = self.home / "leader.key"
        self._place = self.home / "place.json"

    def make(self) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)

    def prepare(self, hosts: list[str], make_certificate: MakeCertificate) -> None:
        """Makes the certificate the first time: apps have it pinned. Raises ConfigError `file_mode` for a key that others can
        read."""
        if not self.certificate.exists() or not self.tls_key.exists():
            certificate, key = make_certificate("isthmus-leader", hosts)
            write_file(self.tls_key, key)
            write_file(self.certificate, certificate, 0o644)
        if self.tls_key.stat().st_mode & 0o077:
            raise ConfigError("file_mode", path=str(self.tls_key))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this leader. Raises LocalError `busy` while another one does."""
        with open(self.home / "lock", "w", encoding="ascii") as lock:
            for turn in range(_TRIES):  # who asks whether a leader runs holds it for a moment
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if turn == _TRIES - 1:
                        raise LocalError("busy", path=str(self.home)) from None
                    time.sleep(0.02)
            yield

    def running(self) -> bool:
        """Whether a leader holds the folder now."""
        try:
            with open(self.home / "lock", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def place(self) -> Place | None:
        """Where the leader was last started."""
        try:
            return read(Place, self._place.read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def keep_place(self, place: Place) -> None:
        write_file(self._place, json.dumps(asdict(place)).encode())
