"""The lines of the audit log: every other noun stands on these, since its changes bring lines along."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, cast, select

from isthmus.base.errors import LocalError
from isthmus.store.audit import AuditLine, Note
from isthmus.store.sql.database import Database
from isthmus.store.sql.tables import BYTES, NUMBER, TEXT, noun

_FIELDS = tuple(field.name for field in dataclasses.fields(AuditLine))
AUDIT = noun("audit", **{name: NUMBER if name == "number" else TEXT for name in _FIELDS})


class Lines(Database):
    def add_lines(self, notes: Sequence[Note]) -> None:
        with self._write():
            self._add_lines(notes)

    def _add_lines(self, notes: Sequence[Note]) -> None:
        for note in notes:
            try:
                line = note.after(self.last_line())
            except ValueError:  # the last line has a number that no log of ours reaches
                raise LocalError("database_damaged", path=self.place) from None
            self._execute(self._insert(AUDIT).values({name: getattr(line, name) for name in _FIELDS}))

    def audit(self, after: int = 0, limit: int = 500, since: datetime | None = None) -> list[AuditLine]:
        found = self._lines().where(
            AUDIT.c.number > after, AUDIT.c.at >= (since.isoformat() if since else "")
        )
        return [_line(row) for row in self._all(found.order_by(AUDIT.c.number).limit(limit))]

    def last_line(self) -> AuditLine | None:
        row = self._first(self._lines().order_by(AUDIT.c.number.desc()).limit(1))
        return _line(row) if row else None

    def _lines(self) -> Select[Any]:
        if not self._is_file():
            return select(AUDIT)
        # SQLite holds whatever bytes are written there: as bytes, a line whose text is damaged can still be named.
        return select(*(c if c.name == "number" else cast(c, BYTES) for c in AUDIT.c))


def _line(row: Row[Any]) -> AuditLine:
    values = (v.decode(errors="replace") if isinstance(v, bytes) else v for v in row)
    fields: dict[str, Any] = dict(zip(_FIELDS, values, strict=True))
    return AuditLine(**fields)
