"""The rows of a leader: populations, devices, helpers, tasks, rounds, reports, batches, releases. One SQLite file.

The leader's process writes rounds and reports; the node's process beside it writes what people ask for: tasks, stops, helpers.
Reports lie in a spool file for each round (`Spool`); a row counts only once what it points at is on the disk.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

from isthmus.base import files
from isthmus.base.errors import ConfigError
from isthmus.store.rows import RowFile

RUNNING: Final = "running"
STOPPED: Final = "stopped"
FINISHED: Final = "finished"
PAUSED: Final = "paused"

_SCHEMA = """
CREATE TABLE helper (name TEXT PRIMARY KEY, card TEXT NOT NULL, added_ms INTEGER NOT NULL) STRICT;
CREATE TABLE population (
  name TEXT PRIMARY KEY, authority BLOB NOT NULL, epsilon REAL NOT NULL, delta REAL NOT NULL,
  stopped INTEGER NOT NULL DEFAULT 0, created_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE device (
  population TEXT NOT NULL REFERENCES population (name), key BLOB NOT NULL, ticket BLOB NOT NULL, expires_ms INTEGER NOT NULL,
  app_version TEXT NOT NULL, enrolled_ms INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (population, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE task (
  digest BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, population TEXT NOT NULL REFERENCES population (name),
  document TEXT NOT NULL, manifest TEXT NOT NULL, signature BLOB NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
  model BLOB NOT NULL, strategy BLOB NOT NULL, kept REAL NOT NULL DEFAULT 1, created_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE round (
  task BLOB NOT NULL REFERENCES task (digest), number INTEGER NOT NULL, kind TEXT NOT NULL, shown TEXT NOT NULL,
  state TEXT NOT NULL, phase TEXT NOT NULL, opened_ms INTEGER NOT NULL, ended_ms INTEGER, figures TEXT NOT NULL DEFAULT '{}',
  PRIMARY KEY (task, number)
) STRICT;
CREATE INDEX round_phase ON round (phase);
CREATE TABLE report (
  id BLOB PRIMARY KEY, task BLOB NOT NULL, round INTEGER NOT NULL, device BLOB NOT NULL, weight INTEGER NOT NULL,
  head BLOB NOT NULL, digest BLOB NOT NULL,
  at INTEGER NOT NULL, size INTEGER NOT NULL, received_ms INTEGER NOT NULL, fate TEXT NOT NULL DEFAULT 'taken', batch BLOB,
  UNIQUE (task, round, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX report_round ON report (task, round);
CREATE TABLE batch (
  id BLOB PRIMARY KEY, task BLOB NOT NULL, round INTEGER NOT NULL, answer_0 BLOB, answer_1 BLOB
) STRICT;
CREATE TABLE blob (digest BLOB PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE release (
  population TEXT NOT NULL REFERENCES population (name), number INTEGER NOT NULL, task BLOB NOT NULL, model BLOB NOT NULL,
  signed TEXT NOT NULL, step INTEGER NOT NULL, since_ms INTEGER NOT NULL, state TEXT NOT NULL, figures TEXT NOT NULL DEFAULT '{}',
  PRIMARY KEY (population, number)
) STRICT;
CREATE TABLE lost (
  task BLOB NOT NULL, round INTEGER NOT NULL, what TEXT NOT NULL, devices INTEGER NOT NULL, PRIMARY KEY (task, round, what)
) STRICT, WITHOUT ROWID;
CREATE TABLE spent (population TEXT NOT NULL, task BLOB NOT NULL, entry TEXT NOT NULL, PRIMARY KEY (population, task)) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Population:
    """Devices of one app. `authority`: the public key of the app's sign-in. `epsilon`, `delta`: what all tasks together may
    cost a device. `stopped`: the kill switch."""

    name: str
    authority: bytes
    epsilon: float
    delta: float
    stopped: bool
    created_ms: int


@dataclass(frozen=True, slots=True)
class Device:
    population: str
    key: bytes
    ticket: bytes
    expires_ms: int
    app_version: str
    revoked: bool


@dataclass(frozen=True, slots=True)
class Task:
    """`manifest`, `signature`: the signed paper. `model`: digest of the newest model. `strategy`: its state as bytes.
    `kept`: the share of offers that ended in a report, as learned."""

    digest: bytes
    name: str
    population: str
    document: str
    manifest: str
    signature: bytes
    state: str
    reason: str
    model: bytes
    strategy: bytes
    kept: float
    created_ms: int


@dataclass(frozen=True, slots=True)
class RoundRow:
    """`shown`: the round as devices see it; `state`: of the phase machine; both JSON."""

    task: bytes
    number: int
    kind: str
    shown: str
    state: str
    phase: str
    opened_ms: int
    ended_ms: int | None
    figures: str


@dataclass(frozen=True, slots=True)
class ReportRow:
    """`head`: all of the report but the masked vector, which is in the spool, `at` .. `at + size`."""

    id: bytes
    task: bytes
    round: int
    device: bytes
    weight: int
    head: bytes
    digest: bytes
    at: int
    size: int
    received_ms: int
    fate: str
    batch: bytes | None


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    population: str
    number: int
    task: bytes
    model: bytes
    signed: str
    step: int
    since_ms: int
    state: str
    figures: str


_TASK = "digest, name, population, document, manifest, signature, state, reason, model, strategy, kept, created_ms"
_ROUND = "task, number, kind, shown, state, phase, opened_ms, ended_ms, figures"
_REPORT = "id, task, round, device, weight, head, digest, at, size, received_ms, fate, batch"
_RELEASE = "population, number, task, model, signed, step, since_ms, state, figures"


class FleetRows(RowFile):
    """fleet.db in `folder`. Raises LocalError as RowFile does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "fleet.db", _SCHEMA.rstrip().rstrip(";"), "fleet")

    # --- people's side ---

    def add_helper(self, name: str, card: str, now_ms: int) -> None:
        """A card that is given again takes the place of the old one."""
        with self.write():
            self.put("INSERT OR REPLACE INTO helper VALUES (?, ?, ?)", name, card, now_ms)

    def helpers(self) -> list[tuple[str, str]]:
        """Names and cards."""
        return [(name, card) for name, card in self.all("SELECT name, card FROM helper ORDER BY name")]

    def add_population(self, population: Population) -> None:
        """Raises ConfigError `already_there`."""
        p = population
        with self._new(f"fleet {p.name}"), self.write():
            self.put("INSERT INTO population VALUES (?, ?, ?, ?, ?, ?)",
                     p.name, p.authority, p.epsilon, p.delta, int(p.stopped), p.created_ms)  # fmt: skip

    def population(self, name: str) -> Population | None:
        return next((each for each in self.populations() if each.name == name), None)

    def populations(self) -> list[Population]:
        rows = self.all(
            "SELECT name, authority, epsilon, delta, stopped, created_ms FROM population ORDER BY name"
        )
        return [
            Population(name, authority, epsilon, delta, bool(stopped), ms)
            for name, authority, epsilon, delta, stopped, ms in rows
        ]

    def stop_population(self, name: str, stopped: bool) -> None:
        with self.write():
            self.put("UPDATE population SET stopped = ? WHERE name = ?", int(stopped), name)

    def count_devices(self, population: str) -> int:
        (count,) = self.one(
            "SELECT count(*) FROM device WHERE population = ? AND revoked = 0", population
        ) or (0,)
        return int(count)

    def add_task(self, task: Task, blobs: dict[bytes, bytes], spent: str | None) -> None:
        """Raises ConfigError `already_there`."""
        with self._new(f"task {task.name}"), self.write():
            self._keep_blobs(blobs)
            self.put(f"INSERT INTO task ({_TASK}) VALUES ({', '.join('?' * 12)})", *astuple(task))
            if spent is not None:
                self.put("INSERT INTO spent VALUES (?, ?, ?)", task.population, task.digest, spent)

    def end_task(self, digest: bytes, state: str, reason: str) -> None:
        """A task that has ended stays as it is."""
        with self.write():
            self.put(
                "UPDATE task SET state = ?, reason = ? WHERE digest = ? AND state IN ('running', 'paused')",
                state, reason, digest,
            )  # fmt: skip

    def tasks(self, population: str | None = None) -> list[Task]:
        """Newest first."""
        where, values = ("WHERE population = ?", (population,)) if population else ("", ())
        rows = self.all(f"SELECT {_TASK} FROM task {where} ORDER BY created_ms DESC, rowid DESC", *values)
        return [Task(*row) for row in rows]

    def task(self, name: str) -> Task | None:
        row = self.one(f"SELECT {_TASK} FROM task WHERE name = ?", name)
        return Task(*row) if row else None

    def task_of(self, digest: bytes) -> Task | None:
        row = self.one(f"SELECT {_TASK} FROM task WHERE digest = ?", digest)
        return Task(*row) if row else None

    def spent(self, population: str) -> list[str]:
        """The ledger's entries of all tasks of a population."""
        rows = self.all("SELECT entry FROM spent WHERE population = ? ORDER BY rowid", population)
        return [entry for (entry,) in rows]

    # --- devices ---

    def enrol(self, device: Device, now_ms: int) -> bool:
        """False for a key that was revoked. The same key again only brings its ticket and version up to date."""
        with self.write():
            self.put(
                "INSERT INTO device VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (population, key) DO UPDATE SET "
                "ticket = excluded.ticket, expires_ms = excluded.expires_ms, app_version = excluded.app_version",
                device.population, device.key, device.ticket, device.expires_ms, device.app_version, now_ms,
            )  # fmt: skip
            found = self.one(
                "SELECT revoked FROM device WHERE population = ? AND key = ?", device.population, device.key
            )
        return found == (0,)

    def devices(self, population: str) -> list[Device]:
        rows = self.all(
            "SELECT population, key, ticket, expires_ms, app_version, revoked FROM device WHERE population = ?",
            population,
        )
        return [
            Device(name, key, ticket, ms, version, bool(gone))
            for name, key, ticket, ms, version, gone in rows
        ]

    def device(self, population: str, key: bytes) -> Device | None:
        row = self.one(
            "SELECT population, key, ticket, expires_ms, app_version, revoked FROM device "
            "WHERE population = ? AND key = ?", population, key,
        )  # fmt: skip
        if row is None:
            return None
        name, own, ticket, ms, version, gone = row
        return Device(name, own, ticket, ms, version, bool(gone))

    def revoke(self, population: str, key: bytes) -> bool:
        with self.write():
            return bool(
                self.put("UPDATE device SET revoked = 1 WHERE population = ? AND key = ?", population, key)
            )

    # --- rounds ---

    def add_round(self, row: RoundRow, spent: str | None) -> None:
        """A new round, together with what the ledger says after it."""
        with self.write():
            self.put(f"INSERT INTO round ({_ROUND}) VALUES ({', '.join('?' * 9)})", *astuple(row))
            if spent is not None:
                self.put("UPDATE spent SET entry = ? WHERE task = ?", spent, row.task)

    def rounds(self, task: bytes) -> list[RoundRow]:
        rows = self.all(f"SELECT {_ROUND} FROM round WHERE task = ? ORDER BY number", task)
        return [RoundRow(*row) for row in rows]

    def round(self, task: bytes, number: int) -> RoundRow | None:
        row = self.one(f"SELECT {_ROUND} FROM round WHERE task = ? AND number = ?", task, number)
        return RoundRow(*row) if row else None

    def move_round(
        self, task: bytes, number: int, state: str, phase: str, ended_ms: int | None = None
    ) -> None:
        with self.write():
            self._move(task, number, state, phase, ended_ms)

    def _move(self, task: bytes, number: int, state: str, phase: str, ended_ms: int | None) -> None:
        self.put(
            "UPDATE round SET state = ?, phase = ?, ended_ms = ? WHERE task = ? AND number = ?",
            state, phase, ended_ms, task, number,
        )  # fmt: skip
        if ended_ms is not None:
            # Nobody asks for the seeds of an ended round; that a device took part, and its receipt, are kept.
            self.put("UPDATE report SET head = x'' WHERE task = ? AND round = ?", task, number)

    def form(self, task: bytes, number: int, state: str, phase: str, ended_ms: int | None,
             batches: dict[bytes, tuple[bytes, ...]]) -> None:  # fmt: skip
        """Fixes the batches of a round: ids of batches and of their reports."""
        with self.write():
            self._move(task, number, state, phase, ended_ms)
            self.put_many("INSERT OR IGNORE INTO batch (id, task, round) VALUES (?, ?, ?)",
                          [(batch, task, number) for batch in batches])  # fmt: skip
            self.put_many("UPDATE report SET batch = ? WHERE id = ?",
                          [(batch, id) for batch, ids in batches.items() for id in ids])  # fmt: skip

    def answered(
        self, task: bytes, number: int, state: str, phase: str, batch: bytes, helper: int, answer: bytes
    ) -> None:
        column = ("answer_0", "answer_1")[helper]
        with self.write():
            self.put(f"UPDATE batch SET {column} = ? WHERE id = ?", answer, batch)
            self._move(task, number, state, phase, None)

    def answers(self, batch: bytes) -> tuple[bytes, bytes]:
        found = self.one("SELECT answer_0, answer_1 FROM batch WHERE id = ?", batch)
        if found is None or None in found:
            raise KeyError(batch.hex())
        return found[0], found[1]

    def finish_round(
        self, row: RoundRow, task: Task, blobs: dict[bytes, bytes], release: ReleaseRow | None
    ) -> None:
        """A round that was opened: its last state and figures, the model and the strategy after it, perhaps a release."""
        with self.write():
            self._keep_blobs(blobs)
            self._move(row.task, row.number, row.state, row.phase, row.ended_ms)
            self.put(
                "UPDATE round SET figures = ? WHERE task = ? AND number = ?",
                row.figures,
                row.task,
                row.number,
            )
            self.put("UPDATE report SET fate = 'counted' WHERE task = ? AND round = ? AND batch IS NOT NULL",
                     row.task, row.number)  # fmt: skip
            self.put("UPDATE task SET model = ?, strategy = ?, kept = ? WHERE digest = ?",
                     task.model, task.strategy, task.kept, task.digest)  # fmt: skip
            if release is not None:
                self._insert_release(release)

    def learn_kept(self, task: bytes, kept: float) -> None:
        with self.write():
            self.put("UPDATE task SET kept = ? WHERE digest = ?", kept, task)

    def add_lost(self, task: bytes, number: int, counts: dict[str, int]) -> None:
        """Devices that a round has lost or asked, by what became of them."""
        with self.write():
            self.put_many(
                "INSERT INTO lost VALUES (?, ?, ?, ?) ON CONFLICT (task, round, what) DO UPDATE SET "
                "devices = devices + excluded.devices",
                [(task, number, what, devices) for what, devices in counts.items()],
            )

    def lost(self, task: bytes, number: int) -> dict[str, int]:
        return dict(self.all("SELECT what, devices FROM lost WHERE task = ? AND round = ?", task, number))

    # --- reports ---

    def take(self, reports: list[ReportRow], state: str, phase: str) -> None:
        """Reports of one round whose vectors are on the disk, with the state of the round after them."""
        with self.write():
            self.put_many(
                f"INSERT INTO report ({_REPORT}) VALUES ({', '.join('?' * 12)})",
                [astuple(r) for r in reports],
            )
            self._move(reports[0].task, reports[0].round, state, phase, None)

    def report(self, id: bytes) -> ReportRow | None:
        row = self.one(f"SELECT {_REPORT} FROM report WHERE id = ?", id)
        return ReportRow(*row) if row else None

    def reports(self, task: bytes, number: int, batch: bytes | None = None) -> list[ReportRow]:
        """Those of a round, or of one batch, in the order of their ids; the ones that were left out are not among them."""
        where = "AND batch = ?" if batch else "AND fate != 'left_out'"
        values = (task, number, batch) if batch else (task, number)
        query = f"SELECT {_REPORT} FROM report WHERE task = ? AND round = ? {where} ORDER BY id"
        return [ReportRow(*row) for row in self.all(query, *values)]

    def leave_out(self, task: bytes, number: int, ids: list[bytes], state: str, phase: str) -> None:
        """Reports that a helper would not count."""
        with self.write():
            self.put_many("UPDATE report SET fate = 'left_out' WHERE id = ?", [(id,) for id in ids])
            self._move(task, number, state, phase, None)

    def taken_part(self, task: bytes) -> list[tuple[bytes, int, int]]:
        """Device, how often it has reported in this task, and when last (Unix milliseconds)."""
        query = "SELECT device, count(*), max(received_ms) FROM report WHERE task = ? GROUP BY device"
        return [(device, int(count), int(last)) for device, count, last in self.all(query, task)]

    def reported(self, task: bytes, number: int) -> list[bytes]:
        rows = self.all("SELECT device FROM report WHERE task = ? AND round = ?", task, number)
        return [device for (device,) in rows]

    # --- blobs and releases ---

    def _keep_blobs(self, blobs: dict[bytes, bytes]) -> None:
        self.put_many("INSERT OR IGNORE INTO blob VALUES (?, ?)", list(blobs.items()))

    def blob(self, digest: bytes) -> bytes | None:
        found = self.one("SELECT body FROM blob WHERE digest = ?", digest)
        return bytes(found[0]) if found else None

    def releases(self, population: str) -> list[ReleaseRow]:
        """Newest first."""
        rows = self.all(
            f"SELECT {_RELEASE} FROM release WHERE population = ? ORDER BY number DESC", population
        )
        return [ReleaseRow(*row) for row in rows]

    def add_release(self, release: ReleaseRow) -> None:
        with self.write():
            self._insert_release(release)

    def _insert_release(self, release: ReleaseRow) -> None:
        self.put(f"INSERT INTO release ({_RELEASE}) VALUES ({', '.join('?' * 9)})", *astuple(release))

    def roll_back(self, population: str, number: int, instead: ReleaseRow) -> None:
        """Takes a release back; `instead` has a higher number and an older model."""
        with self.write():
            self.put(
                "UPDATE release SET state = 'rolled_back' WHERE population = ? AND number = ?",
                population,
                number,
            )
            self._insert_release(instead)

    def step_release(self, population: str, number: int, step: int, now_ms: int) -> None:
        with self.write():
            self.put("UPDATE release SET step = ?, since_ms = ? WHERE population = ? AND number = ?",
                     step, now_ms, population, number)  # fmt: skip

    def _new(self, what: str) -> _New:
        return _New(what)


class _New:
    """Turns a name that exists into an error of ours."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.IntegrityError):
            raise ConfigError("already_there", what=self._what) from None


class Spool:
    """The masked vectors of a round, one after another. What lies behind the last row is not there."""

    def __init__(self, path: Path, size: int) -> None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(handle, size)
        self._file = os.fdopen(handle, "r+b", buffering=0)
        self._path = path
        self.size = size

    def add(self, body: bytes) -> int:
        """Where it lies. It is not on the disk before `sync`. Raises LocalError `disk_full`, `disk_error`."""
        at = self.size
        try:
            written = os.pwrite(self._file.fileno(), body, at)
        except OSError as error:
            raise files.disk_trouble(self._path, error.strerror or "unknown") from None
        if written != len(body):
            raise files.disk_trouble(self._path, "the disk is full")
        self.size += written
        return at

    def sync(self) -> None:
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            raise files.disk_trouble(self._path, error.strerror or "unknown") from None

    def read(self, at: int, size: int) -> bytes:
        body = os.pread(self._file.fileno(), size, at)
        if len(body) != size:
            raise files.disk_trouble(self._path, "it is shorter than its rows say")
        return body

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        self.close()
        self._path.unlink(missing_ok=True)
