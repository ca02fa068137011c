"""Partners and the invitations that bring them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select

from isthmus.store.audit import Note
from isthmus.store.records import Invitation, StoredPartner
from isthmus.store.sql.lines import Lines
from isthmus.store.sql.tables import BYTES, NUMBER, TEXT, noun

PARTNER = noun(
    "partner",
    name=TEXT,
    public_key=BYTES,
    address=TEXT,
    certificate_der=BYTES,
    words=TEXT,
    confirmed=NUMBER,
    joined_at=TEXT,
)
INVITATION = noun("invitation", id=TEXT, secret=BYTES, expires_at=TEXT)


class Partners(Lines):
    one_time = ("invitation",)

    def put_partner(self, partner: StoredPartner, notes: Sequence[Note] = ()) -> None:
        with self._write():
            self._put_partner(partner)
            self._add_lines(notes)

    def _put_partner(self, partner: StoredPartner) -> None:
        fields = {
            "public_key": partner.public_key,
            "address": partner.address,
            "certificate_der": partner.certificate_der,
            "words": " ".join(partner.words),
            "confirmed": int(partner.confirmed),
            "joined_at": partner.joined_at.isoformat(),
        }
        put = self._insert(PARTNER).values(name=partner.name, **fields)
        self._execute(put.on_conflict_do_update(index_elements=["name"], set_=fields))

    def partner(self, name: str) -> StoredPartner | None:
        row = self._first(select(PARTNER).where(PARTNER.c.name == name))
        return _partner(row) if row else None

    def partners(self, after: str = "", limit: int = -1) -> list[StoredPartner]:
        found = select(PARTNER).where(PARTNER.c.name > after).order_by(PARTNER.c.name)
        return [_partner(row) for row in self._all(found.limit(limit if limit >= 0 else None))]

    def put_invitation(self, invitation: Invitation, notes: Sequence[Note] = ()) -> None:
        with self._write():
            self._execute(
                self._insert(INVITATION).values(
                    id=invitation.id, secret=invitation.secret, expires_at=invitation.expires_at.isoformat()
                )
            )
            self._add_lines(notes)

    def invitation(self, invitation_id: str) -> Invitation | None:
        row = self._first(select(INVITATION).where(INVITATION.c.id == invitation_id))
        return Invitation(row.id, row.secret, datetime.fromisoformat(row.expires_at)) if row else None

    def spend_invitation(
        self, invitation_id: str, partner: StoredPartner, notes: Sequence[Note] = ()
    ) -> bool:
        with self._write():
            spent = self._count(delete(INVITATION).where(INVITATION.c.id == invitation_id)) == 1
            if spent:
                self._put_partner(partner)
                self._add_lines(notes)
        return spent


def _partner(row: Row[Any]) -> StoredPartner:
    return StoredPartner(
        name=row.name,
        public_key=row.public_key,
        address=row.address,
        certificate_der=row.certificate_der,
        words=tuple(row.words.split()),
        confirmed=bool(row.confirmed),
        joined_at=datetime.fromisoformat(row.joined_at),
    )
