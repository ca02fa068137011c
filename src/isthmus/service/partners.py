"""Partners of a node: invite, accept, compare words, confirm. Nothing but a confirmed partner is known to the link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigError, PolicyError
from isthmus.base.workers import in_thread
from isthmus.crypto.seal import PartyKey
from isthmus.service.audit import Audit
from isthmus.service.joining import (
    TOKEN_MAX_BYTES,
    VALID_FOR,
    Invite,
    JoinReply,
    Side,
    check_reply,
    make_invite,
    make_reply,
    open_reply,
    read_token,
    seal_reply,
    transcript,
    words,
)
from isthmus.service.keys import as_partner
from isthmus.store.audit import AuditKind
from isthmus.store.records import KnownKey, Store, StoredPartner
from isthmus.wire.link import Partner

FAREWELL_S = 3.0
"""A partner that is trusted no more still hears that its jobs have ended, if the line carries it so soon."""


class Known(Protocol):
    """What partners need of the link."""

    def add_partner(self, partner: Partner) -> None: ...

    def remove_partner(self, name: str, farewell_s: float = 0.0) -> None: ...

    async def post_join(
        self, address: str, certificate_der: bytes | None, body: bytes, public_key: bytes = ...
    ) -> bytes: ...


class Partners:
    """Joins, confirms and revokes partners. `on_confirmed` begins to talk to one, `on_revoked` halts what runs with one."""

    def __init__(
        self,
        store: Store,
        own: Side,
        key: PartyKey,
        link: Known,
        audit: Audit,
        clock: Clock,
        on_confirmed: Callable[[str], None],
        on_revoked: Callable[[str], None],
    ) -> None:
        self._store = store
        self._side = own
        self._key = key
        self._link = link
        self._audit = audit
        self._clock = clock
        self._on_confirmed = on_confirmed
        self._on_revoked = on_revoked

    @property
    def _own(self) -> Side:
        return replace(self._side, public_key=self._key.public)

    def begin(self) -> None:
        """Makes every confirmed partner known to the link."""
        for partner in self._store.partners():
            if partner.confirmed:
                self._know(partner)

    def invite(self) -> str:
        """One line to hand to the other side."""
        line, kept = make_invite(self._own, self._key, self._clock.now())
        note = self._audit.note(AuditKind.PARTNER_INVITED, kept.id, by=self._audit.person)
        self._store.put_invitation(kept, [note])
        return line

    async def accept(self, line: str) -> tuple[StoredPartner, str | None]:
        """Takes an invitation, or the reply to one of ours. The second part is a reply that a person must carry back."""
        token = read_token(line)
        self._check_name(token.side)
        if isinstance(token, JoinReply):
            return await self._take_reply(token, self._audit.person), None
        return await self._take_invite(token)

    async def join(self, body: bytes, caller: str) -> bytes:
        """What the link calls when somebody out there accepts an invitation of ours. Answers with an empty body."""
        del caller
        if len(body) > TOKEN_MAX_BYTES:
            raise ConfigError("bad_invitation", why="it is too long")

        def secret_of(invitation_id: str) -> bytes | None:
            invitation = self._store.invitation(invitation_id)
            return None if invitation is None else invitation.secret

        token = read_token(open_reply(body, secret_of))
        if not isinstance(token, JoinReply):
            raise ConfigError("bad_invitation", why="it is not a reply")
        self._check_name(token.side)
        await self._take_reply(token, token.side.party)
        return b""

    def confirm(self, name: str, given: list[str]) -> StoredPartner:
        """Raises PolicyError `words_differ`, and confirms nothing, unless the four words are those of this join."""
        partner = self._store.partner(name)
        if partner is None:
            raise ConfigError("not_found", what=f"partner {name[:64]}", list_command="isthmus partner ls")
        if tuple(word.lower() for word in given) != partner.words:
            self._audit.write(AuditKind.PARTNER_REFUSED, name, by=self._audit.person, code="words_differ")
            raise PolicyError("words_differ", partner=name)
        confirmed = replace(partner, confirmed=True)
        note = self._audit.note(AuditKind.PARTNER_CONFIRMED, name, by=self._audit.person)
        self._store.put_partner(confirmed, [note])
        self._know(confirmed)
        return confirmed

    def revoke(self, name: str) -> StoredPartner:
        """Trusts a partner no more, from now on. It comes back by a new invitation and new words, or not at all."""
        partner = self._store.partner(name)
        if partner is None:
            raise ConfigError("not_found", what=f"partner {name[:64]}", list_command="isthmus partner ls")
        now = self._clock.now()
        pinned = [row for row in self._store.known_keys(name) if row.state == "next"]
        keys = [partner.public_key, *(row.public_key for row in pinned)]
        ended = [
            replace(r, until=now)
            for r in self._store.known_keys(name)
            if r.state == "retired" and r.until > now
        ]
        note = self._audit.note(AuditKind.PARTNER_REVOKED, name, by=self._audit.person)
        self._store.change_keys(
            [note], put=[*ended, *(KnownKey(name, key, "revoked", now, now) for key in keys)], gone=[name]
        )
        if partner.confirmed:
            self._on_revoked(name)
            self._link.remove_partner(name, FAREWELL_S)
        return partner

    async def _take_invite(self, invite: Invite) -> tuple[StoredPartner, str | None]:
        if self._clock.now() > invite.expires_at:
            raise ConfigError("bad_invitation", why="it has expired")
        if invite.side.address is None and self._own.address is None:
            raise ConfigError("no_listener", partner=invite.side.party)
        reply = make_reply(invite, self._own, self._key)
        partner = await self._joined(invite.side, invite.id, invite.secret, reply)
        note = self._audit.note(AuditKind.PARTNER_JOINED, partner.name, by=self._audit.person)
        if invite.side.address is None:
            self._store.put_partner(partner, [note])
            return partner, reply
        side = invite.side
        sealed = seal_reply(invite, reply)
        await self._link.post_join(invite.side.address, side.certificate_der, sealed, side.public_key)
        self._store.put_partner(partner, [note])
        return partner, None

    async def _take_reply(self, reply: JoinReply, by: str) -> StoredPartner:
        invitation = self._store.invitation(reply.invitation_id)
        try:
            check_reply(reply, invitation, self._clock.now())
        except ConfigError as error:
            if invitation is not None:  # who does not even know an invitation of ours writes nothing here
                self._audit.write_once(AuditKind.PARTNER_REFUSED, invitation.id, by, error.code)
            raise
        assert invitation is not None
        for row in self._store.known_keys():
            same = (row.public_key, row.state) == (reply.side.public_key, "revoked")
            if same and row.at >= invitation.expires_at - VALID_FOR:
                raise ConfigError("bad_invitation", why="it is older than the end of this partnership")
        # Where this side listens, the other one dials: it needs no address here.
        side = replace(reply.side, address=None) if self._own.address else reply.side
        partner = await self._joined(side, invitation.id, invitation.secret, reply.line)
        note = self._audit.note(AuditKind.PARTNER_JOINED, partner.name, by=by)
        if not self._store.spend_invitation(invitation.id, partner, [note]):
            raise ConfigError("bad_invitation", why="it was used before")
        return partner

    async def _joined(self, side: Side, invite_id: str, secret: bytes, reply: str) -> StoredPartner:
        joined = transcript(invite_id, secret, reply)
        four = await in_thread(words, self._own.public_key, side.public_key, joined)
        return StoredPartner(
            name=side.party,
            public_key=side.public_key,
            address=side.address,
            certificate_der=side.certificate_der,
            words=four,
            confirmed=False,
            joined_at=self._clock.now(),
        )

    def _check_name(self, side: Side) -> None:
        if side.party == self._own.party or side.public_key == self._own.public_key:
            raise ConfigError("bad_invitation", why="it names this party itself")
        known = self._store.partner(side.party)
        if known is not None and known.confirmed:
            raise ConfigError("already_there", what=f"a confirmed partner {side.party}")

    def _know(self, partner: StoredPartner) -> None:
        pinned = [row.public_key for row in self._store.known_keys(partner.name) if row.state == "next"]
        self._link.add_partner(as_partner(partner, pinned[0] if pinned else None))
        self._on_confirmed(partner.name)
