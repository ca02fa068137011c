"""What a node writes into its audit log, and the heads that it and its partners keep of each other's logs."""

from __future__ import annotations

import logging

from isthmus.base.clock import Clock
from isthmus.base.errors import IsthmusError, PeerError, PolicyError
from isthmus.crypto.seal import PartyKey
from isthmus.jobs.control import HeadKept, HeadTold
from isthmus.store.audit import AuditKind, Head, KeptHead, Note
from isthmus.store.records import Store

_log = logging.getLogger(__name__)

HEAD_EVERY = 100
"""After so many lines a partner is told the head along with another, even if nothing was agreed with it in between."""

HEADS_TOLD = 16
"""How many heads a partner is shown again when a line to it begins."""

_DECIDED = frozenset({"refused", "partner_failed"})


class Audit:
    """The audit log of one node. `person` is the actor behind whatever came with the token of the node."""

    def __init__(self, own: str, key: PartyKey, store: Store, clock: Clock) -> None:
        self.person = f"{own}/token"
        self._own = own
        self._key = key
        self._store = store
        self._clock = clock
        self._told: dict[str, int] = {}
        self._noted: set[tuple[str, ...]] = set()

    def note(
        self, kind: AuditKind, subject: str = "", *, by: str = "", digest: str = "", code: str = ""
    ) -> Note:
        """For the store to write with a change; by this node itself unless somebody is named."""
        return Note(self._own, self._key, self._clock.now(), by or self._own, kind, subject, digest, code)

    def write(
        self, kind: AuditKind, subject: str = "", *, by: str = "", digest: str = "", code: str = ""
    ) -> None:
        """For what changes nothing else."""
        self._store.add_lines([self.note(kind, subject, by=by, digest=digest, code=code)])

    def write_once(self, kind: AuditKind, subject: str, by: str, code: str) -> None:
        """As `write`, but once while this node runs: nobody outside can fill the log by repeating itself."""
        if (kind, subject, by, code) not in self._noted:
            self._noted.add((kind, subject, by, code))
            self.write(kind, subject, by=by, code=code)

    # --- heads ---

    def head(self, partner: str) -> HeadTold | None:
        """What to tell a partner now; None while the log is empty."""
        last = self._store.last_line()
        if last is None:
            return None
        head = last.head()
        self._told[partner] = head.number
        return HeadTold(head.number, head.digest, head.signature)

    def due(self, partner: str) -> bool:
        last = self._store.last_line()
        return last is not None and last.number - self._told.get(partner, 0) >= HEAD_EVERY

    def held(self, partner: str) -> list[HeadKept]:
        """The newest heads of the partner's log that are held here, to be shown to it."""
        heads = [kept.head for kept in self._heads(partner, "partner")]
        newest = sorted(heads, key=lambda head: head.number)[-HEADS_TOLD:]
        return [HeadKept(head.number, head.digest, head.signature) for head in newest]

    def on_told(self, partner: str, public_key: bytes, told: HeadTold) -> list[HeadKept]:
        """Keeps the head of a partner's log. The answer shows what is held of it: this head, or also a higher one.

        Raises PeerError `bad_signature`. A head under a number that was passed, with another digest, goes on record.
        """
        head = Head(told.number, told.digest, told.signature)
        head.check(partner, public_key)
        known = [kept.head for kept in self._heads(partner, "partner")]
        newest = max(known, key=lambda found: found.number, default=head)
        same = any((found.number, found.digest) == (head.number, head.digest) for found in known)
        differs = not same and head.number <= newest.number and bool(known)
        self._keep(partner, "partner", head, differs)
        shown = [head, newest] if newest.number > head.number or differs else [head]
        return [HeadKept(found.number, found.digest, found.signature) for found in shown]

    def on_kept(self, partner: str, kept: HeadKept) -> None:
        """Keeps the proof that a partner holds this head of the own log; what does not fit the log goes on record.

        Raises PeerError `bad_signature` where it is not the own signature.
        """
        head = Head(kept.number, kept.digest, kept.signature)
        head.check(self._own, self._key.public)
        found = self._store.audit(after=head.number - 1, limit=1)
        fits = bool(found) and found[0].number == head.number and found[0].own_digest() == head.digest
        self._keep(partner, "own", head, not fits)

    def _keep(self, partner: str, whose: str, head: Head, differs: bool) -> None:
        notes = []
        log = partner if whose == "partner" else self._own
        if differs:
            _log.error("the audit log of %s does not fit a head with number %d", log, head.number)
            if (log, partner) not in self._noted:
                self._noted.add((log, partner))
                notes.append(self.note(AuditKind.HEAD_DIFFERS, log, by=partner, code="step_changed"))
        kept = KeptHead(partner, "partner" if whose == "partner" else "own", head, self._clock.now())
        self._store.put_head(kept, notes)

    def _heads(self, partner: str, whose: str) -> list[KeptHead]:
        return [kept for kept in self._store.heads() if (kept.partner, kept.whose) == (partner, whose)]


def broken_rule(error: IsthmusError) -> bool:
    """Whether an error says that somebody broke a rule: one of the agreement, or one of the protocol."""
    return isinstance(error, (PolicyError, PeerError)) and error.code not in _DECIDED
