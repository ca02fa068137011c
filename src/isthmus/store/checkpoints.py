"""The record of one run of a job: barriers, what was put by at them, and numbers that only rise; one SQLite file.

Attempts are numbered. A new one is begun by the node before it starts a worker, and every write of a worker checks, in its own
transaction, that its attempt is still the last one begun: a worker that was thought dead and wakes up can change nothing.
Bodies are sealed with ChaCha20-Poly1305 under a key of the node that is not in this file, each with a nonce of its own.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from isthmus.base import files
from isthmus.base.errors import LocalError
from isthmus.base.record import BINNED

_NONCE_BYTES = 12
_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
  one INTEGER PRIMARY KEY CHECK (one = 1), attempt INTEGER NOT NULL, barrier INTEGER NOT NULL, spent BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS part (
  id INTEGER PRIMARY KEY AUTOINCREMENT, barrier INTEGER NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS number (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO run VALUES (1, 0, 0, x'');
"""


class Checkpoints:
    """The record at `path`, made if it is not there. `attempt` is that of the worker which writes; a node only reads and
    begins attempts. Use it in a `with`. Raises LocalError `checkpoint_damaged`."""

    def __init__(self, path: Path, key: bytes, attempt: int = 0) -> None:
        self._path = path
        self._seal = ChaCha20Poly1305(key)
        self._attempt = attempt
        self._lock = threading.RLock()  # secrets are drawn in a thread of their own
        path.touch(mode=0o600)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA trusted_schema = OFF")
            known = self._db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'number'").fetchone()
            if known == (0,):
                with self._write():
                    for statement in _SCHEMA.split(";\n"):
                        self._db.execute(statement)
        except sqlite3.DatabaseError as error:
            raise self._trouble(error) from None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *ended: object) -> None:
        with self._lock:
            self._db.close()

    @property
    def attempt(self) -> int:
        """The last attempt that was begun, 0 before the first."""
        return int(self._row("SELECT attempt FROM run"))

    @property
    def barrier(self) -> int:
        return int(self._row("SELECT barrier FROM run"))

    @property
    def spent(self) -> bytes:
        """What the last `keep_spent` holds."""
        return bytes(self._row("SELECT spent FROM run"))

    def begin(self, attempt: int, barrier: int, burned: int = 0) -> None:
        """Begin an attempt at a barrier that is on record; what was put by after it is dropped, and the worker of every
        earlier attempt is shut out. Every secret below `burned` counts as burned from then on. Raises LocalError `superseded`
        unless the attempt is a new one."""
        with self._write():
            if attempt <= self.attempt:
                raise LocalError("superseded")
            self._db.execute("DELETE FROM part WHERE barrier > ?", (barrier,))
            self._db.execute("UPDATE run SET attempt = ?, barrier = min(barrier, ?)", (attempt, barrier))
            if burned > self.count("burned"):
                self._db.execute("INSERT OR REPLACE INTO number VALUES ('burned', ?)", (burned,))
        self._attempt = attempt

    def keep(self, barrier: int, **parts: bytes) -> None:
        self.keep_spent(barrier, None, **parts)

    def keep_spent(self, barrier: int, spent: bytes | None, **parts: bytes) -> None:
        """As `keep`, together with a new word on what was spent so far."""
        with self._write(own=True):
            for name, body in parts.items():
                nonce = os.urandom(_NONCE_BYTES)
                sealed = nonce + self._seal.encrypt(nonce, body, _label(barrier, name))
                self._db.execute(
                    "INSERT INTO part (barrier, name, body) VALUES (?, ?, ?)", (barrier, name, sealed)
                )
            if barrier == BINNED:
                # Every party is past its alignment: blinding scalars and points have done their work.
                self._db.execute("DELETE FROM part WHERE barrier = 0")
            self._db.execute(
                "UPDATE run SET barrier = max(barrier, ?), spent = coalesce(?, spent)", (barrier, spent)
            )

    def found(self, name: str) -> list[bytes]:
        try:
            with self._lock:
                rows = self._db.execute(
                    "SELECT barrier, body FROM part WHERE name = ? ORDER BY id", (name,)
                ).fetchall()
            return [
                self._seal.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], _label(barrier, name))
                for barrier, body in rows
            ]
        except (InvalidTag, ValueError):
            raise LocalError("checkpoint_damaged", path=str(self._path)) from None
        except sqlite3.DatabaseError as error:
            raise self._trouble(error) from None

    def count(self, name: str) -> int:
        return int(self._row("SELECT coalesce(max(value), 0) FROM number WHERE name = ?", name))

    def raise_to(self, name: str, value: int) -> None:
        if value > self.count(name):
            with self._write(own=True):
                self._db.execute("INSERT OR REPLACE INTO number VALUES (?, ?)", (name, value))

    def _row(self, query: str, *values: object) -> int | bytes:
        try:
            with self._lock:
                (value,) = self._db.execute(query, values).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._trouble(error) from None
        found: int | bytes = value
        return found

    @contextmanager
    def _write(self, own: bool = False) -> Iterator[None]:
        """One transaction. `own`: as the worker of an attempt, which must be the last one begun."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    if own and self._db.execute("SELECT attempt FROM run").fetchone() != (self._attempt,):
                        raise LocalError("superseded")
                    yield
                    files.committed("before checkpoint")
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.DatabaseError as error:
                raise self._trouble(error) from None
        files.committed("after checkpoint")

    def _trouble(self, error: sqlite3.DatabaseError) -> LocalError:
        if isinstance(error, sqlite3.OperationalError):
            return files.disk_trouble(self._path, str(error))
        return LocalError("checkpoint_damaged", path=str(self._path))


def _label(barrier: int, name: str) -> bytes:
    return f"{barrier}/{name}".encode()
