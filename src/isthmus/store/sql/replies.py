"""Replies that are kept under idempotency keys."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select, update

from isthmus.store.records import KeptReply
from isthmus.store.sql.database import Database
from isthmus.store.sql.tables import BYTES, NUMBER, TEXT, noun

REPLY = noun("kept_reply", key=TEXT, request=BYTES, at=TEXT, status=NUMBER, body=BYTES)


class Replies(Database):
    one_time = ("kept_reply",)  # a reply may hold an invitation

    def claim_key(self, claim: KeptReply, since: datetime) -> KeptReply | None:
        fields = {
            "key": claim.key,
            "request": claim.request,
            "at": claim.at.isoformat(),
            "status": claim.status,
            "body": claim.body,
        }
        with self._write():
            self._execute(delete(REPLY).where(REPLY.c.at < since.isoformat()))
            claimed = self._count(self._insert(REPLY).values(**fields).on_conflict_do_nothing())
            row = self._execute(select(REPLY).where(REPLY.c.key == claim.key)).one()
        if claimed:
            return None
        return KeptReply(row.key, row.request, datetime.fromisoformat(row.at), row.status, row.body)

    def keep_reply(self, key: str, status: int, body: bytes) -> None:
        with self._write():
            self._execute(update(REPLY).where(REPLY.c.key == key).values(status=status, body=body))

    def free_key(self, key: str) -> None:
        with self._write():
            self._execute(delete(REPLY).where(REPLY.c.key == key))
