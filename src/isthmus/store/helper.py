"""What a helper has on record: whom it serves, which reports are used up, how often a device took part, what it answered.

One transaction uses reports up and keeps the answer, before the answer leaves. The file is made together with the sealing key and
is of no use with another one: a helper whose record is gone or older than its key could answer twice for one report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from isthmus.base.errors import ConfigError
from isthmus.store.rows import RowFile

_SCHEMA = """
CREATE TABLE bound (one INTEGER PRIMARY KEY CHECK (one = 1), sealing BLOB NOT NULL) STRICT;
CREATE TABLE leader (
  name TEXT NOT NULL, leader BLOB NOT NULL, authority BLOB NOT NULL,
  reports_min INTEGER NOT NULL, plain_max INTEGER NOT NULL, PRIMARY KEY (name, authority)
) STRICT;
CREATE TABLE report (id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE device (
  task BLOB NOT NULL, device BLOB NOT NULL, times INTEGER NOT NULL, PRIMARY KEY (task, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE batch (
  id BLOB PRIMARY KEY, task BLOB NOT NULL, plain INTEGER NOT NULL, reports INTEGER NOT NULL,
  asked BLOB NOT NULL, answer BLOB NOT NULL
) STRICT;
CREATE INDEX batch_of_task ON batch (task, plain);
"""
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Served:
    """A leader with one of its enrolment authorities, and the bounds of what it may have."""

    name: str
    leader: bytes
    authority: bytes
    reports_min: int
    plain_max: int


class HelperRows(RowFile):
    """The record in `path`, bound to a sealing key. Raises ConfigError `helper_record` where it is that of another key."""

    def __init__(self, path: Path, sealing: bytes) -> None:
        super().__init__(path, _SCHEMA, "helper")
        if self.one("SELECT sealing FROM bound") is None:
            with self.write():
                self.put("INSERT INTO bound VALUES (1, ?)", sealing)
        if self.one("SELECT sealing FROM bound") != (sealing,):
            raise ConfigError("helper_record", path=str(path))

    @contextmanager
    def page(self) -> Iterator[HelperRows]:
        """Itself, in one transaction; see protocols/secure_sum.py."""
        with self.write():
            yield self

    # As a page of the ledger

    def answered(self, batch: bytes) -> tuple[bytes, bytes] | None:
        found = self.one("SELECT asked, answer FROM batch WHERE id = ?", batch)
        return None if found is None else (found[0], found[1])

    def seen(self, reports: Sequence[bytes]) -> set[bytes]:
        return {id for (id,) in self._among("SELECT id FROM report WHERE id IN (%s)", reports)}

    def taken_part(self, task: bytes, devices: Sequence[bytes]) -> dict[bytes, int]:
        query = "SELECT device, times FROM device WHERE task = ? AND device IN (%s)"
        return dict(self._among(query, devices, task))

    def plain(self, task: bytes) -> int:
        found = self.one("SELECT count(*) FROM batch WHERE task = ? AND plain = 1", task)
        return 0 if found is None else int(found[0])

    def burn(
        self,
        task: bytes,
        plain: bool,
        taken: Sequence[tuple[bytes, bytes]],
        batch: bytes,
        asked: bytes,
        answer: bytes,
    ) -> None:
        self.put_many("INSERT INTO report VALUES (?)", [(report,) for report, _ in taken])
        self.put_many(
            "INSERT INTO device VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
            [(task, device) for _, device in taken],
        )
        self.put(
            *("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)", batch, task, int(plain), len(taken)),
            *(asked, answer),
        )

    def _among(self, query: str, values: Sequence[bytes], *before: bytes) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            yield from self.all(query % ",".join("?" * len(some)), *before, *some)

    # Whom the helper serves

    def allow(self, name: str, served: Sequence[Served]) -> None:
        """What this leader may have from now on, in the place of what it might before; none ends it."""
        with self.write():
            self.put("DELETE FROM leader WHERE name = ?", name)
            for each in served:
                self.put(
                    *("INSERT INTO leader VALUES (?, ?, ?, ?, ?)", name, each.leader, each.authority),
                    *(each.reports_min, each.plain_max),
                )

    def allowed(self) -> list[Served]:
        query = "SELECT name, leader, authority, reports_min, plain_max FROM leader ORDER BY name, authority"
        return [Served(*row) for row in self.all(query)]

    def counts(self) -> tuple[int, int]:
        """How many batches were answered, and how many reports were used up."""
        found = self.one("SELECT count(*), coalesce(sum(reports), 0) FROM batch")
        return (0, 0) if found is None else (int(found[0]), int(found[1]))
