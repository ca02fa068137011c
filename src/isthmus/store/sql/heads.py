"""Heads of audit logs that crossed between partners."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select

from isthmus.store import records
from isthmus.store.audit import Head, KeptHead, Note
from isthmus.store.sql.lines import Lines
from isthmus.store.sql.tables import BYTES, NUMBER, TEXT, noun

HEAD = noun(
    "head",
    row=NUMBER,
    partner=TEXT,
    whose=TEXT,
    number=NUMBER,
    digest=BYTES,
    signature=BYTES,
    at=TEXT,
)


class Heads(Lines):
    def put_head(self, kept: KeptHead, notes: Sequence[Note] = ()) -> bool:
        head = kept.head
        fields = {
            "partner": kept.partner,
            "whose": kept.whose,
            "number": head.number,
            "digest": head.digest,
            "signature": head.signature,
            "at": kept.at.isoformat(),
        }
        same = select(HEAD.c.row).where(HEAD.c.partner == kept.partner, HEAD.c.whose == kept.whose)
        stay = same.order_by(HEAD.c.number.desc(), HEAD.c.digest.desc()).limit(records.HEADS_MAX)
        with self._write():
            added = self._count(self._insert(HEAD).values(**fields).on_conflict_do_nothing())
            if added:
                self._execute(delete(HEAD).where(HEAD.c.row.in_(same), HEAD.c.row.not_in(stay)))
                self._add_lines(notes)
        return bool(added)

    def heads(self) -> list[KeptHead]:
        return [
            KeptHead(
                row.partner,
                row.whose,
                Head(row.number, row.digest, row.signature),
                datetime.fromisoformat(row.at),
            )
            for row in self._all(select(HEAD).order_by(HEAD.c.row))
        ]
