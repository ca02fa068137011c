"""A store in one SQLite file: one connection for everything, WAL, synchronous=FULL, BEGIN IMMEDIATE."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from isthmus.base.errors import LocalError
from isthmus.store.audit import AuditLine, Head, KeptHead, Note
from isthmus.store.records import (
    HEADS_MAX,
    Answer,
    Event,
    Invitation,
    JobState,
    KeptReply,
    StoredDataset,
    StoredJob,
    StoredPartner,
)

_SCHEMA_VERSION = 3
_SCHEMA_1 = """
CREATE TABLE partner (
  name TEXT PRIMARY KEY, public_key BLOB NOT NULL, address TEXT, certificate_der BLOB, words TEXT NOT NULL,
  confirmed INTEGER NOT NULL, joined_at TEXT NOT NULL
) STRICT;
CREATE TABLE invitation (id TEXT PRIMARY KEY, secret BLOB NOT NULL, expires_at TEXT NOT NULL) STRICT;
CREATE TABLE dataset (
  name TEXT NOT NULL, version INTEGER NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL, options TEXT NOT NULL,
  profile TEXT NOT NULL, added_at TEXT NOT NULL, PRIMARY KEY (name, version)
) STRICT;
CREATE TABLE job (
  row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, number INTEGER NOT NULL,
  document BLOB NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL, label_owner TEXT NOT NULL, state TEXT NOT NULL,
  test_ids_path TEXT, created_at TEXT NOT NULL, changed_at TEXT NOT NULL, error TEXT, result TEXT,
  UNIQUE (digest, number)
) STRICT;
CREATE TABLE answer (
  job TEXT NOT NULL REFERENCES job (id), party TEXT NOT NULL, state TEXT NOT NULL, signature BLOB, code TEXT,
  PRIMARY KEY (job, party)
) STRICT;
CREATE TABLE event (
  id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL REFERENCES job (id), at TEXT NOT NULL,
  kind TEXT NOT NULL, party TEXT NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX event_of_job ON event (job, id);
"""
_SCHEMA_2 = """
CREATE TABLE audit (
  number INTEGER PRIMARY KEY, party TEXT NOT NULL, at TEXT NOT NULL, actor TEXT NOT NULL, kind TEXT NOT NULL,
  object TEXT NOT NULL, digest TEXT NOT NULL, code TEXT NOT NULL, before TEXT NOT NULL, signature TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
CREATE TRIGGER audit_remains BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
CREATE TABLE head (
  partner TEXT NOT NULL, whose TEXT NOT NULL, number INTEGER NOT NULL, digest BLOB NOT NULL, signature BLOB NOT NULL,
  at TEXT NOT NULL, PRIMARY KEY (partner, whose, number, digest)
) STRICT;
"""
_SCHEMA_3 = """
CREATE TABLE kept_reply (
  key TEXT PRIMARY KEY, request BLOB NOT NULL, at TEXT NOT NULL, status INTEGER, body BLOB NOT NULL
) STRICT;
CREATE INDEX kept_reply_by_age ON kept_reply (at);
"""
_LINE = ("party", "number", "at", "actor", "kind", "object", "digest", "code", "before", "signature")
# As bytes, so that a line whose text is damaged can still be read and named.
_LINE_BYTES = ", ".join(name if name == "number" else f"CAST({name} AS BLOB)" for name in _LINE)
_JOB = "id, digest, number, document, name, role, label_owner, state, test_ids_path, created_at, changed_at, error, result"


class SqlStore:
    """Opens the file, or makes it. Raises LocalError `database_damaged` if it is not such a store."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA trusted_schema = OFF")
            with self._write():
                (version,) = self._db.execute("PRAGMA user_version").fetchone()
                if version in range(_SCHEMA_VERSION):
                    for schema in (_SCHEMA_1, _SCHEMA_2, _SCHEMA_3)[version:]:
                        for statement in schema.split(";\n"):
                            self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            (check,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError:
            raise LocalError("database_damaged", path=str(path)) from None
        if check != "ok" or version not in range(_SCHEMA_VERSION + 1):
            raise LocalError("database_damaged", path=str(path))

    def put_partner(self, partner: StoredPartner, notes: Sequence[Note] = ()) -> None:
        with self._write():
            self._put_partner(partner)
            self._add_lines(notes)

    def _put_partner(self, partner: StoredPartner) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO partner VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                partner.name,
                partner.public_key,
                partner.address,
                partner.certificate_der,
                " ".join(partner.words),
                int(partner.confirmed),
                partner.joined_at.isoformat(),
            ),
        )

    def partner(self, name: str) -> StoredPartner | None:
        row = self._db.execute("SELECT * FROM partner WHERE name = ?", (name,)).fetchone()
        return _partner(row) if row else None

    def partners(self, after: str = "", limit: int = -1) -> list[StoredPartner]:
        rows = self._db.execute("SELECT * FROM partner WHERE name > ? ORDER BY name LIMIT ?", (after, limit))
        return [_partner(row) for row in rows]

    def put_invitation(self, invitation: Invitation, notes: Sequence[Note] = ()) -> None:
        with self._write():
            self._db.execute(
                "INSERT INTO invitation VALUES (?, ?, ?)",
                (invitation.id, invitation.secret, invitation.expires_at.isoformat()),
            )
            self._add_lines(notes)

    def invitation(self, invitation_id: str) -> Invitation | None:
        row = self._db.execute("SELECT * FROM invitation WHERE id = ?", (invitation_id,)).fetchone()
        return Invitation(row[0], row[1], datetime.fromisoformat(row[2])) if row else None

    def spend_invitation(
        self, invitation_id: str, partner: StoredPartner, notes: Sequence[Note] = ()
    ) -> bool:
        with self._write():
            spent = self._db.execute("DELETE FROM invitation WHERE id = ?", (invitation_id,)).rowcount == 1
            if spent:
                self._put_partner(partner)
                self._add_lines(notes)
        return spent

    def add_dataset(
        self,
        name: str,
        path: str,
        sha256: str,
        options: dict[str, Any],
        profile: dict[str, Any],
        at: datetime,
        notes: Sequence[Note] = (),
    ) -> StoredDataset:
        with self._write():
            (last,) = self._db.execute(
                "SELECT coalesce(max(version), 0) FROM dataset WHERE name = ?", (name,)
            ).fetchone()
            dataset = StoredDataset(name, last + 1, path, sha256, options, profile, at)
            self._db.execute(
                "INSERT INTO dataset VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name, last + 1, path, sha256, _text(options), _text(profile), at.isoformat()),
            )
            self._add_lines(notes)
        return dataset

    def dataset(self, name: str, version: int) -> StoredDataset | None:
        row = self._db.execute(
            "SELECT * FROM dataset WHERE name = ? AND version = ?", (name, version)
        ).fetchone()
        return _dataset(row) if row else None

    def datasets(self, after: tuple[str, int] = ("", 0), limit: int = -1) -> list[StoredDataset]:
        rows = self._db.execute(
            "SELECT * FROM dataset WHERE (name, version) > (?, ?) ORDER BY name, version LIMIT ?",
            (*after, limit),
        )
        return [_dataset(row) for row in rows]

    def add_job(self, job: StoredJob, answers: Collection[Answer], notes: Sequence[Note] = ()) -> bool:
        with self._write():
            added = self._db.execute(
                f"INSERT OR IGNORE INTO job ({_JOB}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job.id,
                    job.digest,
                    job.number,
                    job.document,
                    job.name,
                    job.role,
                    job.label_owner,
                    job.state,
                    job.test_ids_path,
                    job.created_at.isoformat(),
                    job.changed_at.isoformat(),
                    _text(job.error),
                    _text(job.result),
                ),
            ).rowcount
            if added:
                for answer in answers:
                    self._put_answer(job.id, answer)
                self._add_event(job.id, job.created_at, "job.state", "", {"state": job.state})
                self._add_lines(notes)
        return bool(added)

    def job(self, job_id: str) -> StoredJob | None:
        row = self._db.execute(f"SELECT {_JOB} FROM job WHERE id = ?", (job_id,)).fetchone()
        return _job(row) if row else None

    def jobs(self, limit: int = 50, before: str | None = None) -> list[StoredJob]:
        where = "" if before is None else "WHERE row < (SELECT row FROM job WHERE id = :before)"
        rows = self._db.execute(
            f"SELECT {_JOB} FROM job {where} ORDER BY row DESC LIMIT :limit",
            {"limit": limit, "before": before},
        )
        return [_job(row) for row in rows]

    def jobs_in(self, states: Collection[JobState]) -> list[StoredJob]:
        marks = ", ".join("?" for _ in states)
        rows = self._db.execute(
            f"SELECT {_JOB} FROM job WHERE state IN ({marks}) ORDER BY row", tuple(states)
        )
        return [_job(row) for row in rows]

    def count_jobs(self) -> dict[JobState, int]:
        return dict(self._db.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall())

    def runs_of(self, digest: bytes) -> int:
        (number,) = self._db.execute(
            "SELECT coalesce(max(number), 0) FROM job WHERE digest = ?", (digest,)
        ).fetchone()
        return int(number)

    def move_job(
        self,
        job_id: str,
        since: Collection[JobState],
        to: JobState,
        at: datetime,
        *,
        error: dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
        notes: Sequence[Note] = (),
    ) -> bool:
        marks = ", ".join("?" for _ in since)
        with self._write():
            moved = self._db.execute(
                f"UPDATE job SET state = ?, changed_at = ?, error = ?, result = ? WHERE id = ? AND state IN ({marks})",
                (to, at.isoformat(), _text(error), _text(result), job_id, *since),
            ).rowcount
            if moved:
                self._add_event(job_id, at, "job.state", "", {"state": to})
                self._add_lines(notes)
        return bool(moved)

    def put_answer(self, job_id: str, answer: Answer, notes: Sequence[Note] = ()) -> None:
        with self._write():
            self._put_answer(job_id, answer)
            self._add_lines(notes)

    def _put_answer(self, job_id: str, answer: Answer) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?)",
            (job_id, answer.party, answer.state, answer.signature, answer.code),
        )

    def answers(self, job_id: str) -> list[Answer]:
        rows = self._db.execute(
            "SELECT party, state, signature, code FROM answer WHERE job = ? ORDER BY party", (job_id,)
        )
        return [Answer(*row) for row in rows]

    def add_event(self, job_id: str, at: datetime, kind: str, party: str, data: dict[str, Any]) -> Event:
        with self._write():
            return self._add_event(job_id, at, kind, party, data)

    def _add_event(self, job_id: str, at: datetime, kind: str, party: str, data: dict[str, Any]) -> Event:
        number = self._db.execute(
            "INSERT INTO event (job, at, kind, party, data) VALUES (?, ?, ?, ?, ?)",
            (job_id, at.isoformat(), kind, party, _text(data)),
        ).lastrowid
        return Event(number or 0, job_id, at, kind, party, data)

    def events(self, job_id: str, after: int = 0, limit: int = 500) -> list[Event]:
        rows = self._db.execute(
            "SELECT id, job, at, kind, party, data FROM event WHERE job = ? AND id > ? ORDER BY id LIMIT ?",
            (job_id, after, limit),
        )
        return [Event(r[0], r[1], datetime.fromisoformat(r[2]), r[3], r[4], json.loads(r[5])) for r in rows]

    def add_lines(self, notes: Sequence[Note]) -> None:
        with self._write():
            self._add_lines(notes)

    def _add_lines(self, notes: Sequence[Note]) -> None:
        for note in notes:
            try:
                line = note.after(self.last_line())
            except ValueError:  # the last line has a number that no log of ours reaches
                raise LocalError("database_damaged", path=str(self._path)) from None
            marks = ", ".join("?" for _ in _LINE)
            self._db.execute(
                f"INSERT INTO audit ({', '.join(_LINE)}) VALUES ({marks})",
                tuple(getattr(line, name) for name in _LINE),
            )

    def audit(self, after: int = 0, limit: int = 500, since: datetime | None = None) -> list[AuditLine]:
        rows = self._db.execute(
            f"SELECT {_LINE_BYTES} FROM audit WHERE number > ? AND at >= ? ORDER BY number LIMIT ?",
            (after, since.isoformat() if since else "", limit),
        )
        return [_line(row) for row in rows]

    def last_line(self) -> AuditLine | None:
        row = self._db.execute(f"SELECT {_LINE_BYTES} FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        return _line(row) if row else None

    def put_head(self, kept: KeptHead, notes: Sequence[Note] = ()) -> bool:
        head, log = kept.head, (kept.partner, kept.whose)
        with self._write():
            added = self._db.execute(
                "INSERT OR IGNORE INTO head VALUES (?, ?, ?, ?, ?, ?)",
                (*log, head.number, head.digest, head.signature, kept.at.isoformat()),
            ).rowcount
            if added:
                self._db.execute(
                    "DELETE FROM head WHERE rowid IN (SELECT rowid FROM head WHERE partner = ? AND whose = ? "
                    "ORDER BY number DESC, digest DESC LIMIT -1 OFFSET ?)",
                    (*log, HEADS_MAX),
                )
                self._add_lines(notes)
        return bool(added)

    def heads(self) -> list[KeptHead]:
        rows = self._db.execute("SELECT * FROM head ORDER BY rowid")
        return [
            KeptHead(row[0], row[1], Head(row[2], row[3], row[4]), datetime.fromisoformat(row[5]))
            for row in rows
        ]

    def claim_key(self, claim: KeptReply, since: datetime) -> KeptReply | None:
        with self._write():
            self._db.execute("DELETE FROM kept_reply WHERE at < ?", (since.isoformat(),))
            claimed = self._db.execute(
                "INSERT OR IGNORE INTO kept_reply VALUES (?, ?, ?, ?, ?)",
                (claim.key, claim.request, claim.at.isoformat(), claim.status, claim.body),
            ).rowcount
            row = self._db.execute("SELECT * FROM kept_reply WHERE key = ?", (claim.key,)).fetchone()
        return None if claimed else KeptReply(row[0], row[1], datetime.fromisoformat(row[2]), row[3], row[4])

    def keep_reply(self, key: str, status: int, body: bytes) -> None:
        with self._write():
            self._db.execute("UPDATE kept_reply SET status = ?, body = ? WHERE key = ?", (status, body, key))

    def free_key(self, key: str) -> None:
        with self._write():
            self._db.execute("DELETE FROM kept_reply WHERE key = ?", (key,))

    def answers_now(self) -> bool:
        try:
            self._db.execute("SELECT count(*) FROM partner").fetchone()
        except sqlite3.Error:
            return False
        return True

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _write(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            raise LocalError("disk_error", path=str(self._path), why=str(error)) from None
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _text(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _line(row: tuple[Any, ...]) -> AuditLine:
    party, number, *texts = row
    return AuditLine(party.decode(errors="replace"), number, *(t.decode(errors="replace") for t in texts))


def _partner(row: tuple[Any, ...]) -> StoredPartner:
    return StoredPartner(
        row[0], row[1], row[2], row[3], tuple(row[4].split()), bool(row[5]), datetime.fromisoformat(row[6])
    )


def _dataset(row: tuple[Any, ...]) -> StoredDataset:
    return StoredDataset(
        row[0], row[1], row[2], row[3], json.loads(row[4]), json.loads(row[5]), datetime.fromisoformat(row[6])
    )


def _job(row: Any) -> StoredJob:
    return StoredJob(
        id=row[0],
        digest=row[1],
        number=row[2],
        document=row[3],
        name=row[4],
        role=row[5],
        label_owner=row[6],
        state=row[7],
        test_ids_path=row[8],
        created_at=datetime.fromisoformat(row[9]),
        changed_at=datetime.fromisoformat(row[10]),
        error=json.loads(row[11]) if row[11] else None,
        result=json.loads(row[12]) if row[12] else None,
    )
