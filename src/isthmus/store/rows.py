"""One SQLite file with rows of its own, for what lives outside the node's database: every write is one durable transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isthmus.base import files
from isthmus.base.errors import LocalError


class RowFile:
    """The file at `path`, made by `schema` (statements that end with ";" and a new line) if it is not there.

    `what` names it to the crash lab. Other processes may write too. Raises LocalError `database_damaged`, `disk_full`,
    `disk_error`.
    """

    def __init__(self, path: Path, schema: str, what: str) -> None:
        self.path = path
        self._what = what
        self._lock = threading.RLock()
        path.touch(mode=0o600)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA trusted_schema = OFF")
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                with self.write():
                    for statement in schema.split(";\n"):
                        self._db.execute(statement)
        except sqlite3.DatabaseError as error:
            raise self._trouble(error) from None

    def close(self) -> None:
        """After what another thread is at: a connection that is closed under a statement takes the process with it."""
        with self._lock:
            self._db.close()

    def all(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._db.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._trouble(error) from None

    def one(self, query: str, *values: Any) -> tuple[Any, ...] | None:
        found = self.all(query, *values)
        return found[0] if found else None

    def version(self) -> int:
        """A number that changes whenever another connection has written."""
        (version,) = self.all("PRAGMA data_version")[0]
        return int(version)

    def put(self, statement: str, *values: Any) -> int:
        """Within `write`; how many rows it changed. IntegrityError is the caller's to expect."""
        return self._db.execute(statement, values).rowcount

    def put_many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        self._db.executemany(statement, rows)

    @contextmanager
    def write(self) -> Iterator[None]:
        """One transaction: durable when the block is left, undone when it raises."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    files.committed(f"before {self._what}")
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
                raise
            except sqlite3.DatabaseError as error:
                raise self._trouble(error) from None
        files.committed(f"after {self._what}")

    def _trouble(self, error: sqlite3.DatabaseError) -> LocalError:
        if isinstance(error, sqlite3.OperationalError):
            return files.disk_trouble(self.path, str(error))
        return LocalError("database_damaged", path=str(self.path), why=str(error)[:160])
