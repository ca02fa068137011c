"""Keys of parties beside those that count, and what is changed along with them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import delete, select

from isthmus.store.audit import Note
from isthmus.store.records import KnownKey, StoredPartner
from isthmus.store.sql.partners import INVITATION, PARTNER, Partners
from isthmus.store.sql.tables import BYTES, TEXT, noun

KNOWN_KEY = noun("known_key", party=TEXT, public_key=BYTES, state=TEXT, at=TEXT, until=TEXT)


class Keys(Partners):
    def known_keys(self, party: str | None = None) -> list[KnownKey]:
        found = select(KNOWN_KEY).order_by(KNOWN_KEY.c.at, KNOWN_KEY.c.party)
        if party is not None:
            found = found.where(KNOWN_KEY.c.party == party)
        return [
            KnownKey(
                row.party,
                row.public_key,
                row.state,
                datetime.fromisoformat(row.at),
                datetime.fromisoformat(row.until),
            )
            for row in self._all(found)
        ]

    def change_keys(
        self,
        notes: Sequence[Note],
        *,
        put: Sequence[KnownKey] = (),
        drop: Sequence[tuple[str, bytes]] = (),
        partner: StoredPartner | None = None,
        gone: Collection[str] = (),
        void_invitations: bool = False,
    ) -> None:
        with self._write():
            for party, public_key in drop:
                same = (KNOWN_KEY.c.party == party) & (KNOWN_KEY.c.public_key == public_key)
                self._execute(delete(KNOWN_KEY).where(same))
            for key in put:
                self._put_key(key)
            for name in gone:
                self._execute(delete(PARTNER).where(PARTNER.c.name == name))
            if partner is not None:
                self._put_partner(partner)
            if void_invitations:
                self._execute(delete(INVITATION))
            self._add_lines(notes)

    def _put_key(self, key: KnownKey) -> None:
        fields = {"state": key.state, "at": key.at.isoformat(), "until": key.until.isoformat()}
        put = self._insert(KNOWN_KEY).values(party=key.party, public_key=key.public_key, **fields)
        self._execute(put.on_conflict_do_update(index_elements=["party", "public_key"], set_=fields))
