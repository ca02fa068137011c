"""What a node writes into its audit log, and the heads that it and its partners keep of each other's logs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from isthmus.base.clock import Clock
from isthmus.base.errors import IsthmusError, PeerError, PolicyError
from isthmus.crypto.seal import PartyKey, Publics
from isthmus.jobs.control import HeadKept, HeadTold
from isthmus.store.audit import AuditKind, Head, KeptHead, Note
from isthmus.store.records import Store

_log = logging.getLogger(__name__)

HEAD_EVERY = 100
"""After so many lines a partner is told the head along with another, even if nothing was agreed with it in between."""

HEADS_TOLD = 16
"""How many heads a partner is shown again when a line to it begins."""

LOCAL = "local"
"""Who acts with the token of the folder, and within the node where no request has come in."""

REFUSALS_OF_ONE = 20
REFUSALS = 200
"""Lines an hour that tell of refusals: of one person, and of all."""

_DECIDED = frozenset({"refused", "partner_failed", "grant_revoked", "approval_pending", "approval_refused"})


class Audit:
    """The audit log of one node."""

    def __init__(self, own: str, key: PartyKey, store: Store, clock: Clock) -> None:
        self._name: ContextVar[str] = ContextVar("name", default=LOCAL)
        self._own = own
        self._key = key
        self._store = store
        self._clock = clock
        self._told: dict[str, int] = {}
        self._noted: set[tuple[str, ...]] = set()
        self._hour = 0
        self._refused: set[tuple[str, ...]] = set()
        self._refusals: Counter[str] = Counter()

    @property
    def person(self) -> str:
        """The actor behind the request that is being answered."""
        return self.actor(self._name.get())

    def actor(self, name: str) -> str:
        return f"{self._own}/{name}"

    @contextmanager
    def acting(self, name: str) -> Iterator[None]:
        """Whatever is written inside was done by this person."""
        before = self._name.set(name)
        try:
            yield
        finally:
            self._name.reset(before)

    def note(
        self,
        kind: AuditKind,
        subject: str = "",
        *,
        by: str = "",
        digest: str = "",
        code: str = "",
        key: PartyKey | None = None,
    ) -> Note:
        """For the store to write with a change; by this node itself unless somebody is named, under its key unless another
        one is named."""
        return Note(
            self._own, key or self._key, self._clock.now(), by or self._own, kind, subject, digest, code
        )

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

    def write_refusal(self, kind: AuditKind, subject: str, by: str, code: str) -> bool:
        """As `write`, but the same once an hour, and no more than so many an hour: a flood cannot fill the disk. Says whether
        it was written."""
        hour = int(self._clock.monotonic_s() // 3600)
        if hour != self._hour:
            self._hour, self._refused, self._refusals = hour, set(), Counter()
        told = (kind, subject, by, code)
        full = self._refusals[by] >= REFUSALS_OF_ONE or self._refusals.total() >= REFUSALS
        if told in self._refused or full:
            return False
        self._refused.add(told)
        self._refusals[by] += 1
        self.write(kind, subject, by=by, code=code)
        return True

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

    def on_told(self, partner: str, public_key: Publics, told: HeadTold) -> list[HeadKept]:
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
        earlier = (row.public_key for row in self._store.known_keys(self._own) if row.state == "retired")
        head.check(self._own, (self._key.public, *earlier))
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
