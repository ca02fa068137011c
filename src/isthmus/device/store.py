"""The private storage of a device: events, items, papers, models, and rounds; one SQLite file that only this app may read.

A round is a row. What must be true after a crash is written in one transaction before anything leaves: that this round was
shown this model and no other, how far the training has come, and then the report, under an id that never changes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from isthmus.base import files
from isthmus.base.errors import ConfigError, LocalError

WORKING: Final = "working"
SEALED: Final = "sealed"
SENT: Final = "sent"
OVER: Final = "over"

ITEMS_MOST: Final = 20_000
EVENTS_MOST: Final = 200_000
_BLOBS_KEPT: Final = 6

_SCHEMA = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE item (id BLOB PRIMARY KEY, shape TEXT NOT NULL, features BLOB NOT NULL) STRICT;
CREATE TABLE event (id INTEGER PRIMARY KEY, item BLOB NOT NULL, name TEXT NOT NULL, seconds REAL, position INTEGER,
  at_ms INTEGER NOT NULL) STRICT;
CREATE INDEX event_item ON event (item);
CREATE INDEX event_at ON event (at_ms);
CREATE TABLE blob (name BLOB PRIMARY KEY, body BLOB NOT NULL, used INTEGER NOT NULL) STRICT;
CREATE TABLE round (task BLOB NOT NULL, number INTEGER NOT NULL, shown BLOB NOT NULL, offer TEXT NOT NULL, state TEXT NOT NULL,
  seed BLOB NOT NULL, examples BLOB, course BLOB, control BLOB, report BLOB, sealed_ms INTEGER, bytes INTEGER, receipt TEXT,
  PRIMARY KEY (task, number)) STRICT;
CREATE TABLE control (task BLOB PRIMARY KEY, own BLOB NOT NULL) STRICT;
CREATE TABLE sent (id INTEGER PRIMARY KEY, task BLOB NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
  taken INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One round that this device was offered; `offer` and `receipt` are JSON, `report` is what leaves or has left."""

    task: bytes
    number: int
    shown: bytes
    offer: str
    state: str
    seed: bytes = field(repr=False)
    examples: bytes | None = field(repr=False)
    course: bytes | None = field(repr=False)
    control: bytes | None = field(repr=False)
    report: bytes | None = field(repr=False)
    sealed_ms: int | None
    bytes: int | None
    receipt: str | None


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item and what was done with it: name, seconds, position of each event. `shape`: names and sizes of its features."""

    id: bytes
    shape: str
    features: bytes
    events: list[tuple[str, float | None, int | None]]


class DeviceStore:
    """`folder` is made 0700 if it is not there. Raises ConfigError `file_mode`; LocalError `disk_full`, `disk_error`, and
    `database_damaged`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / "device.db"
        self._lock = threading.RLock()
        if not self._path.exists():
            self._path.touch(mode=0o600)
        if stat.S_IMODE(self._path.stat().st_mode) & 0o077:
            raise ConfigError("file_mode", path=str(self._path))
        try:
            self._db = sqlite3.connect(
                self._path, isolation_level=None, timeout=30.0, check_same_thread=False
            )
            for pragma in (
                "journal_mode = WAL",
                "synchronous = FULL",
                "trusted_schema = OFF",
                "secure_delete = ON",
            ):
                self._db.execute(f"PRAGMA {pragma}")
            if self._db.execute("PRAGMA user_version").fetchone() == (0,):
                with self.write() as db:
                    if db.execute("PRAGMA user_version").fetchone() == (0,):
                        for statement in _SCHEMA.split(";\n"):
                            db.execute(statement)
                        db.execute("INSERT INTO setting VALUES ('salt', ?)", (os.urandom(32),))
                        db.execute("PRAGMA user_version = 1")
        except sqlite3.Error as error:
            raise self._trouble(error) from None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # --- how it is written ---

    @contextmanager
    def write(self, at_once: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, on disk when it ends; without `at_once` soon after, and whole or not at all."""
        with self._lock:
            try:
                self._db.execute(f"PRAGMA synchronous = {'FULL' if at_once else 'NORMAL'}")
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    files.committed("before device")
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._trouble(error) from None
        files.committed("after device")

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._trouble(error) from None

    def _trouble(self, error: sqlite3.Error) -> LocalError:
        if isinstance(error, sqlite3.OperationalError):
            return files.disk_trouble(self._path, str(error))
        return LocalError("database_damaged", path=str(self._path), why=str(error)[:200])

    # --- settings ---

    def get(self, name: str) -> bytes | None:
        found = self._rows("SELECT value FROM setting WHERE name = ?", name)
        return bytes(found[0][0]) if found else None

    def put(self, **values: bytes | None) -> None:
        """None takes a setting away."""
        with self.write() as db:
            _put(db, values)

    # --- what a person did ---

    def item_id(self, name: str) -> bytes:
        """Items are kept under names that only this store can make."""
        return hmac.digest(self.get("salt") or b"", name.encode(), hashlib.sha256)[:16]

    def observe(
        self,
        item: str,
        shape: str | None,
        features: bytes,
        event: tuple[str, float | None, int | None],
        now_ms: int,
    ) -> bool:
        """Keeps one event; False for an item that came without features and was never seen with them."""
        id = self.item_id(item)
        with self.write(at_once=False) as db:
            if shape is not None:
                db.execute("INSERT OR REPLACE INTO item VALUES (?, ?, ?)", (id, shape, features))
            elif not db.execute("SELECT 1 FROM item WHERE id = ?", (id,)).fetchone():
                return False
            db.execute(
                "INSERT INTO event (item, name, seconds, position, at_ms) VALUES (?, ?, ?, ?, ?)",
                (id, *event, now_ms),
            )
        return True

    def age(self, before_ms: int) -> None:
        """Drops events from before, the oldest beyond what is kept, and items that have no event left."""
        gone = self._rows("SELECT count(*) FROM event WHERE at_ms < ?", before_ms)[0][0]
        events, items = self._rows("SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM item)")[0]
        if not gone and events <= EVENTS_MOST and items <= ITEMS_MOST:
            return
        with self.write() as db:
            db.execute("DELETE FROM event WHERE at_ms < ?", (before_ms,))
            db.execute(
                "DELETE FROM event WHERE id <= (SELECT id FROM event ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (EVENTS_MOST,),
            )
            db.execute(
                "DELETE FROM event WHERE item IN (SELECT item FROM event GROUP BY item"
                " ORDER BY max(id) DESC LIMIT -1 OFFSET ?)",
                (ITEMS_MOST,),
            )
            db.execute("DELETE FROM item WHERE id NOT IN (SELECT item FROM event)")

    def items(self) -> list[ItemRow]:
        """All items that fit nobody's order but their own: sorted by id."""
        found: list[ItemRow] = []
        for id, shape, features, *event in self._rows(
            "SELECT i.id, i.shape, i.features, e.name, e.seconds, e.position FROM item i JOIN event e ON e.item = i.id"
            " ORDER BY i.id, e.id"
        ):
            if not found or found[-1].id != id:
                found.append(ItemRow(bytes(id), shape, bytes(features), []))
            found[-1].events.append((event[0], event[1], event[2]))
        return found

    # --- blobs ---

    def blob(self, name: bytes) -> bytes | None:
        found = self._rows("SELECT body FROM blob WHERE name = ?", name)
        return bytes(found[0][0]) if found else None

    def keep_blob(self, name: bytes, body: bytes, pinned: frozenset[bytes]) -> None:
        """Keeps a blob, and of all others the newest few and those in use."""
        with self.write() as db:
            (newest,) = db.execute("SELECT coalesce(max(used), 0) + 1 FROM blob").fetchone()
            db.execute("INSERT OR REPLACE INTO blob VALUES (?, ?, ?)", (name, body, newest))
            old = db.execute(
                "SELECT name FROM blob ORDER BY used DESC LIMIT -1 OFFSET ?", (_BLOBS_KEPT,)
            ).fetchall()
            db.executemany(
                "DELETE FROM blob WHERE name = ?", [row for row in old if bytes(row[0]) not in pinned]
            )

    def bases(self, size: int) -> list[bytes]:
        """Names of kept blobs of this length, newest first."""
        return [
            bytes(row[0])
            for row in self._rows("SELECT name FROM blob WHERE length(body) = ? ORDER BY used DESC", size)
        ]

    # --- rounds ---

    def active(self) -> RoundRow | None:
        found = self._rows("SELECT * FROM round WHERE state IN (?, ?)", WORKING, SEALED)
        return RoundRow(*found[0]) if found else None

    def round(self, task: bytes, number: int) -> RoundRow | None:
        found = self._rows("SELECT * FROM round WHERE task = ? AND number = ?", task, number)
        return RoundRow(*found[0]) if found else None

    def part_in(self, task: bytes) -> tuple[int, int]:
        """How many reports this device has sealed in a task, and when the last one (0: never)."""
        times, last_ms = self._rows(
            "SELECT count(sealed_ms), coalesce(max(sealed_ms), 0) FROM round WHERE task = ?", task
        )[0]
        return times, last_ms

    def begin(self, task: bytes, number: int, shown: bytes, offer: str) -> None:
        with self.write() as db:
            db.execute(
                "INSERT INTO round (task, number, shown, offer, state, seed) VALUES (?, ?, ?, ?, ?, ?)",
                (task, number, shown, offer, WORKING, os.urandom(32)),
            )

    def keep_course(self, row: RoundRow, examples: bytes | None, course: bytes | None) -> None:
        """How far the training is; None leaves what there is."""
        with self.write() as db:
            db.execute(
                "UPDATE round SET examples = coalesce(?, examples), course = coalesce(?, course)"
                " WHERE task = ? AND number = ? AND state = ?",
                (examples, course, row.task, row.number, WORKING),
            )

    def keep_report(
        self, row: RoundRow, report: bytes, control: bytes | None, now_ms: int, told: str
    ) -> bytes:
        """The report of a round: this one, or the one that was kept before it. `told` is for the person's own list."""
        with self.write() as db:
            done = db.execute(
                "UPDATE round SET state = ?, report = ?, control = ?, sealed_ms = ?, bytes = ?, examples = NULL, course = NULL"
                " WHERE task = ? AND number = ? AND state = ?",
                (SEALED, report, control, now_ms, len(report), row.task, row.number, WORKING),
            )
            if done.rowcount:
                db.execute(
                    "INSERT INTO sent (task, number, body, taken) VALUES (?, ?, ?, 0)",
                    (row.task, row.number, told),
                )
            (kept,) = db.execute(
                "SELECT report FROM round WHERE task = ? AND number = ?", (row.task, row.number)
            ).fetchone()
        return bytes(kept)

    def sent(self, row: RoundRow, receipt: str, outcome: bytes) -> None:
        """The leader has the report."""
        with self.write() as db:
            if row.control is not None:
                db.execute("INSERT OR REPLACE INTO control VALUES (?, ?)", (row.task, row.control))
            db.execute("UPDATE sent SET taken = 1 WHERE task = ? AND number = ?", (row.task, row.number))
            self._end(db, row, SENT, receipt)
            _put(db, {"outcome": outcome})

    def over(self, row: RoundRow, outcome: bytes | None) -> None:
        """The round goes on without this device."""
        with self.write() as db:
            self._end(db, row, OVER, None)
            _put(db, {"outcome": outcome})

    @staticmethod
    def _end(db: sqlite3.Connection, row: RoundRow, state: str, receipt: str | None) -> None:
        db.execute(
            "UPDATE round SET state = ?, receipt = ?, report = NULL, control = NULL, examples = NULL, course = NULL"
            " WHERE task = ? AND number = ?",
            (state, receipt, row.task, row.number),
        )

    def control(self, task: bytes) -> bytes | None:
        found = self._rows("SELECT own FROM control WHERE task = ?", task)
        return bytes(found[0][0]) if found else None

    def told_before(self, task: bytes) -> list[str]:
        """What was told of the last report in every other task."""
        return [
            row[0] for row in self._rows("SELECT body, max(id) FROM sent WHERE task != ? GROUP BY task", task)
        ]

    def receipts(self) -> list[tuple[str, bool]]:
        """What was told of every report, and whether the leader has taken it; newest first."""
        return [
            (body, bool(taken)) for body, taken in self._rows("SELECT body, taken FROM sent ORDER BY id DESC")
        ]

    # --- forgetting ---

    def forget(self, *names: str, tables: tuple[str, ...] = ()) -> None:
        """Takes settings and whole tables away, and overwrites the places where they were."""
        with self.write() as db:
            for table in tables:
                db.execute(f"DELETE FROM {table}")
            _put(db, dict.fromkeys(names))
        with self._lock:
            try:
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                raise self._trouble(error) from None


def _put(db: sqlite3.Connection, values: dict[str, bytes | None]) -> None:
    for name, value in values.items():
        if value is None:
            db.execute("DELETE FROM setting WHERE name = ?", (name,))
        else:
            db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))
