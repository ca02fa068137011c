"""Changing the key of this party, and following a partner that changes its own. Two pins while it lasts.

    this node                                                       partner
      writes keys/party.next, notes the change
      KeyOffered, signed with old and new   ------------------->    pins the new key beside the old one
      calls, and answers, with either key   <------------------>    whichever the other side has heard of
                                                                    hears the new key: it counts, the old one is dropped
      has been heard by all with the new key, or time is up:
      notes the change of keys, party.next becomes party.key

Whatever is interrupted goes on from what is on disk: until the last step the old key is there, from the first step on the new
one is, and both sides try the newer key first and then the older. This party signs its audit log and its consents with the old
key until the last step; by then every partner that took part knows the new one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigError, LocalError, PeerError
from isthmus.crypto.seal import PartyKey, TurningKey, verify
from isthmus.crypto.seal import shown as shown
from isthmus.service.audit import Audit
from isthmus.service.partner_line import KeyOffered, KeyPinned
from isthmus.store.audit import AuditKind
from isthmus.store.folder import NodeFolder
from isthmus.store.records import KnownKey, Store, StoredPartner
from isthmus.wire.link import Partner

OVERLAP = timedelta(days=7)
OVERLAP_MAX = timedelta(days=90)
_OFFER = b"isthmus/key-offer/v1\0"

_log = logging.getLogger(__name__)


class Turns(Protocol):
    """What changing keys needs of the link."""

    def offer_key(self, key: PartyKey) -> None: ...

    def turn_key(self) -> None: ...

    def renew(self, name: str) -> None: ...

    def add_partner(self, partner: Partner) -> None: ...


class Keys:
    """The keys of this party and the second pins of its partners. `say` speaks to every partner anew."""

    def __init__(
        self,
        party: str,
        folder: NodeFolder,
        key: TurningKey,
        store: Store,
        link: Turns,
        audit: Audit,
        clock: Clock,
    ) -> None:
        self._party = party
        self._folder = folder
        self._key = key
        self._store = store
        self._link = link
        self._audit = audit
        self._clock = clock
        self._next: PartyKey | None = None
        self._heard: set[str] = set()
        """Partners with whom a session under the next key stands or stood."""
        self.say: Callable[[KeyOffered], None] = lambda offer: None

    def begin(self) -> None:
        """Puts right what an earlier process left behind. Call it before anything is signed."""
        waiting = self._folder.next_key()
        states = {row.public_key: row.state for row in self._store.known_keys(self._party)}
        if states.get(self._key.public) == "retired":
            if waiting is None:
                raise ConfigError("key_missing", path=str(self._folder.next_key_file))
            self._folder.take_next_key()
            self._key.turn(waiting)
            self._link.offer_key(waiting)
            self._link.turn_key()
        elif waiting is not None and states.get(waiting.public) != "next":
            self._folder.drop_next_key()  # written, but never noted or shown to anybody
        elif waiting is not None:
            self._next = waiting
            self._link.offer_key(waiting)
        elif "next" in states.values():
            raise ConfigError("key_missing", path=str(self._folder.next_key_file))

    # --- the own key ---

    @property
    def row(self) -> KnownKey | None:
        """The change that is under way."""
        return next((row for row in self._store.known_keys(self._party) if row.state == "next"), None)

    def waits_for(self) -> list[str]:
        """Partners that have not been heard with the next key."""
        if self._next is None:
            return []
        return [p.name for p in self._store.partners() if p.name not in self._heard]

    def rotate(self, overlap: timedelta = OVERLAP) -> KnownKey:
        """Makes the next key and tells every partner. Raises ConfigError `rotating` while a change is under way."""
        if (row := self.row) is not None:
            names = ", ".join(self.waits_for()) or self._party
            raise ConfigError("rotating", until=row.until.date().isoformat(), partners=names)
        unconfirmed = [p.name for p in self._store.partners() if not p.confirmed]
        if unconfirmed:
            raise ConfigError("not_confirmed", partner=unconfirmed[0])
        new, now = PartyKey.generate(), self._clock.now()
        self._folder.put_next_key(new)
        row = KnownKey(self._party, new.public, "next", now, now + overlap)
        note = self._audit.note(
            AuditKind.KEY_OFFERED, self._party, by=self._audit.person, digest=new.public.hex()
        )
        self._store.change_keys([note], put=[row])
        self._next = new
        self._link.offer_key(new)
        if (offer := self.offer()) is not None:
            self.say(offer)
        self.tend()
        return row

    def offer(self) -> KeyOffered | None:
        """What to tell a partner now."""
        if self._next is None or (row := self.row) is None:
            return None
        overlap_s = int((row.until - row.at).total_seconds())
        text = offer_text(self._party, self._key.public, self._next.public, overlap_s)
        return KeyOffered(self._next.public, overlap_s, self._key.sign(text), self._next.sign(text))

    def on_pinned(self, partner: str, message: KeyPinned) -> None:
        if self._next is not None and message.new_key == self._next.public and partner not in self._heard:
            self._link.renew(partner)

    # --- the keys of partners ---

    def on_offered(self, partner: str, message: KeyOffered) -> KeyPinned | None:
        """Pins a partner's next key. Raises PeerError `bad_signature` unless both its keys have signed the offer."""
        known = self._store.partner(partner)
        if known is None or not known.confirmed:
            return None
        new = message.new_key
        if new == known.public_key:
            return KeyPinned(new)
        text = offer_text(partner, known.public_key, new, message.overlap_s)
        verify(known.public_key, message.by_old, text, partner)
        verify(new, message.by_new, text, partner)
        rows = self._store.known_keys(partner)
        pinned = [row for row in rows if row.state == "next"]
        taken = {self._key.public} | {row.public_key for row in self._store.known_keys() if row not in pinned}
        taken |= {p.public_key for p in self._store.partners()}
        if new in taken or any(row.public_key != new for row in pinned):
            raise PeerError("bad_key", why="it is not a new one, or another one is pinned already")
        if not pinned:
            now = self._clock.now()
            overlap = min(timedelta(seconds=message.overlap_s), OVERLAP_MAX)
            row = KnownKey(partner, new, "next", now, now + overlap)
            note = self._audit.note(AuditKind.PARTNER_KEY_OFFERED, partner, by=partner, digest=new.hex())
            self._store.change_keys([note], put=[row])
        self._link.add_partner(as_partner(known, new))
        return KeyPinned(new)

    # --- both ---

    def met_with(self, partner: str, own: bytes, theirs: bytes) -> None:
        """A session stands: what it was made with is what both sides have."""
        try:
            known = self._store.partner(partner)
            if known is not None and theirs != known.public_key:
                self._promote(known, theirs)
            if self._next is not None and own == self._next.public:
                self._heard.add(partner)
                self.tend()
        except LocalError as error:
            _log.error("the change of a key waits: %s", error)

    def tend(self) -> None:
        """Ends what is due: the own change when all partners have followed or time is up, a partner's when time is up."""
        now = self._clock.now()
        if (row := self.row) is not None and (now >= row.until or not self.waits_for()):
            self._finish(row)
        for row in self._store.known_keys():
            known = self._store.partner(row.party)
            if row.state == "next" and now >= row.until and known is not None:
                self._promote(known, row.public_key)

    def _finish(self, row: KnownKey) -> None:
        new, now = self._next, self._clock.now()
        assert new is not None
        old = self._key.public
        notes = [
            self._audit.note(AuditKind.KEY_ROTATED, old.hex(), digest=new.public.hex()),
            self._audit.note(AuditKind.KEY_TAKEN, self._party, digest=new.public.hex(), key=new),
        ]
        retired = KnownKey(self._party, old, "retired", now, now)
        self._store.change_keys(
            notes,
            put=[retired],
            drop=[(self._party, row.public_key)],
            gone=[p.name for p in self._store.partners() if not p.confirmed],
            void_invitations=True,
        )
        self._folder.take_next_key()
        self._key.turn(new)
        self._next = None
        self._heard.clear()
        self._link.turn_key()

    def _promote(self, known: StoredPartner, new: bytes) -> None:
        row = next(
            (r for r in self._store.known_keys(known.name) if (r.public_key, r.state) == (new, "next")), None
        )
        if row is None:
            return
        now = self._clock.now()
        retired = KnownKey(known.name, known.public_key, "retired", now, now + (row.until - row.at))
        changed = replace(known, public_key=new)
        note = self._audit.note(AuditKind.PARTNER_KEY_CHANGED, known.name, by=known.name, digest=new.hex())
        self._store.change_keys([note], put=[retired], drop=[(known.name, new)], partner=changed)
        self._link.add_partner(as_partner(changed))


def offer_text(party: str, old: bytes, new: bytes, overlap_s: int) -> bytes:
    """What the old and the new key sign."""
    return _OFFER + old + new + overlap_s.to_bytes(4, "big") + party.encode()


def as_partner(stored: StoredPartner, next_key: bytes | None = None) -> Partner:
    """A partner as the link knows it."""
    return Partner(stored.name, stored.public_key, stored.address, stored.certificate_der, next_key)


def signing_keys(store: Store, partner: StoredPartner, clock: Clock) -> tuple[bytes, ...]:
    """Keys whose signatures of this partner are taken now: its key, the next one, and one that was given up lately."""
    now = clock.now()
    rows = [
        r
        for r in store.known_keys(partner.name)
        if r.state != "revoked" and (r.state == "next" or now < r.until)
    ]
    return (partner.public_key, *(row.public_key for row in rows))


def check_signed(store: Store, partner: str, clock: Clock, check: Callable[[bytes], None]) -> None:
    """Raises PeerError unless the check passes with a key whose signatures of this confirmed partner are taken now."""
    known = store.partner(partner)
    for key in signing_keys(store, known, clock) if known is not None and known.confirmed else ():
        with suppress(PeerError):
            check(key)
            return
    raise PeerError("bad_signature", partner=partner)


def lineage(store: Store, party: str, public_key: bytes | None) -> tuple[bytes, ...]:
    """Every key that a party has had here, the oldest first; `public_key` is the one it has now."""
    earlier = tuple(row.public_key for row in store.known_keys(party) if row.state != "next")
    return earlier if public_key is None else (*earlier, public_key)
