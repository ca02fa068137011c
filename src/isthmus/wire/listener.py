"""The side that listens: answers greetings and envelopes, and holds its answer back while there is nothing to say.

Bytes from outside end in an answer or in Refused; whatever is refused has changed nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from isthmus.base.clock import Clock
from isthmus.base.errors import IsthmusError, LineError, PeerError
from isthmus.crypto.seal import GREETING_BYTES, answer, fingerprint, names, prefix
from isthmus.wire.envelope import (
    BODY_MAX_BYTES,
    ENVELOPE_MAX_BYTES,
    IDLE_MAX_S,
    REQUESTS,
    Header,
    Kind,
    read_header,
)
from isthmus.wire.lane import Lane
from isthmus.wire.peer import EXCHANGE, HELLO, JOIN, Here, Peer, Refused, said
from isthmus.wire.session import Session

Join = Callable[[bytes, str], Awaitable[bytes]]
"""Answers `POST /link/v1/join`: body (at most 16 KiB) and the caller's address in, at most 16 KiB out. An IsthmusError
becomes a 403 that carries its code and nothing else."""

LIMITS: Final = {HELLO: GREETING_BYTES, EXCHANGE: ENVELOPE_MAX_BYTES, JOIN: 16 * 2**10}
"""Bytes that each path accepts."""

_POLL_MAX_S: Final = 60.0
_IN_FLIGHT_MAX: Final = 256
_SESSIONS_KEPT: Final = 4
_PENDING_MAX: Final = 8
_HELLOS_A_MINUTE: Final = 120  # refused ones; several nodes may share an address
_JOINS_A_MINUTE: Final = 30
_TRIP = struct.Struct("<dd")
_TRIP_MAX_S: Final = 3600.0
_AHEAD_MAX_S: Final = 1e11

_log = logging.getLogger(__name__)


@dataclass
class Caller:
    """Where a request came from; `peer` is filled in once it is known."""

    address: str
    peer: Peer | None = None


@dataclass
class _Entry:
    peer: Peer
    session: Session
    live: bool = False


class Guard:
    """Strangers get a few tries a minute from one address."""

    def __init__(self, clock: Clock, tries: int, window_s: float = 60.0) -> None:
        self._clock = clock
        self._tries = tries
        self._window_s = window_s
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raises Refused(429) when this address has used up its tries."""
        if self._count(address)[1] >= self._tries:
            raise Refused(429)

    def blame(self, address: str) -> None:
        began_s, count = self._count(address)
        self._counts[address] = (began_s, count + 1)
        self._counts.move_to_end(address)
        while len(self._counts) > 1024:
            self._counts.popitem(last=False)

    def _count(self, address: str) -> tuple[float, int]:
        now_s = self._clock.monotonic_s()
        began_s, count = self._counts.get(address, (now_s, 0))
        return (now_s, 0) if now_s - began_s > self._window_s else (began_s, count)


class Listener:
    """Answers what partners ask, whatever carried it here."""

    def __init__(self, here: Here, join: Join | None) -> None:
        self._here = here
        self._join = join
        self._peers: dict[bytes, Peer] = {}
        self._sessions: OrderedDict[bytes, _Entry] = OrderedDict()
        self._guard = Guard(here.clock, _HELLOS_A_MINUTE)
        self._join_guard = Guard(here.clock, _JOINS_A_MINUTE)

    def know(self, peer: Peer) -> None:
        """Know a partner by the keys that are pinned now; sessions made with other keys end."""
        self._peers = {name: known for name, known in self._peers.items() if known is not peer}
        self._peers |= {fingerprint(key): peer for key in peer.partner.keys}
        self._drop(peer, lambda session: session.partner_public not in peer.partner.keys)

    def forget(self, peer: Peer) -> None:
        self._peers = {name: known for name, known in self._peers.items() if known is not peer}
        self._drop(peer, lambda session: True)

    def turned(self) -> None:
        """The own key is another one: sessions made with the old one end."""
        for peer in set(self._peers.values()):
            self._drop(peer, lambda session: session.own_public != self._here.own.public)

    def _drop(self, peer: Peer, over: Callable[[Session], bool]) -> None:
        for key in [k for k, e in self._sessions.items() if e.peer is peer and over(e.session)]:
            del self._sessions[key]
        peer.signal.notify()
        for lane in peer.lanes.values():
            lane.signal.notify()

    def expect(self, front: bytes, size_bytes: int) -> None:
        """Refuse an envelope by its header, before its body is read."""
        try:
            header = read_header(front, size_bytes)
        except PeerError:
            raise Refused(400) from None
        if header.session not in self._sessions:
            raise Refused(410)

    async def handle(self, path: str, body: bytes, caller: Caller) -> bytes:
        """The answer to one request. Raises Refused, with the PeerError as its cause."""
        if path not in LIMITS:
            raise Refused(404)
        if len(body) > LIMITS[path]:
            raise Refused(413)
        if path == HELLO:
            return self._hello(body, caller)
        if path == EXCHANGE:
            return await self._exchange(body, caller)
        return await self._joined(body, caller)

    def _hello(self, body: bytes, caller: Caller) -> bytes:
        self._guard.check(caller.address)
        here = self._here
        try:
            sender, receiver = names(body)
            peer = self._peers.get(sender)
            own = next((key for key in here.own_keys if key.fingerprint == receiver), None)
            if peer is None or own is None:
                raise PeerError("bad_signature", partner="a stranger")
            public = next(key for key in peer.partner.keys if fingerprint(key) == sender)
            try:
                reply, keys = answer(
                    own, public, body, here.boot, here.time_ms(), partner=peer.name, version=here.version
                )
            except LineError as gap:
                if peer.boot is None:
                    peer.lost(gap)
                raise Refused(426, prefix(own, public, here.version)) from gap
        except PeerError as error:
            self._guard.blame(caller.address)
            raise Refused(403) from error
        if peer.dials and peer.first and peer.away_s() is None and not peer.carried_by_partner:
            raise Refused(409)
        caller.peer = peer
        pending = [k for k, entry in self._sessions.items() if entry.peer is peer and not entry.live]
        for key in pending[: -_PENDING_MAX + 1]:
            del self._sessions[key]
        self._sessions[keys.id] = _Entry(peer, Session(own, public, keys, peer.name))
        return reply

    async def _joined(self, body: bytes, caller: Caller) -> bytes:
        if self._join is None:
            raise Refused(404)
        self._join_guard.check(caller.address)
        self._join_guard.blame(caller.address)
        try:
            return await self._join(body, caller.address)
        except IsthmusError as error:
            raise Refused(403, error.code.encode()) from error

    async def _exchange(self, envelope: bytes, caller: Caller) -> bytes:
        try:
            header = read_header(envelope)
        except PeerError as error:
            raise Refused(400) from error
        if (entry := self._sessions.get(header.session)) is None:
            raise Refused(410)
        peer, session = entry.peer, entry.session
        try:
            header, body, digest = session.open(envelope)
            if header.kind not in REQUESTS:
                raise PeerError("bad_message", why="it is not a request")
            stored = session.replies.admit(header.counter, envelope)
        except PeerError as error:
            peer.refused += 1
            raise Refused(400) from error
        caller.peer = peer
        if stored is not None:
            if reply := await asyncio.shield(stored):
                return reply
            raise Refused(409)
        reply = b""
        try:
            if peer.in_flight >= _IN_FLIGHT_MAX:
                raise Refused(429)
            peer.in_flight += 1
            try:
                self._promote(entry)
                peer.heard(inbound=True)
                reply = await self._answer(entry, header, body, digest)
            finally:
                peer.in_flight -= 1
        finally:
            session.replies.store(header.counter, reply)
        return reply

    def _promote(self, entry: _Entry) -> None:
        """The dialer has shown that it holds the keys: only now does the session count."""
        if entry.live:
            return
        entry.live = True
        peer, session = entry.peer, entry.session
        peer.polled_s, peer.version = session.poll_s, self._here.version
        live = [k for k, e in self._sessions.items() if e.peer is peer and e.live]
        for key in live:
            if self._sessions[key].session.boot != session.boot:
                del self._sessions[key]
        for key in live[:-_SESSIONS_KEPT]:
            self._sessions.pop(key, None)
        peer.met(session.boot)
        self._here.met_with(peer.name, session.own_public, session.partner_public)

    async def _answer(self, entry: _Entry, header: Header, body: bytes, digest: bytes) -> bytes:
        peer, session = entry.peer, entry.session

        def reply(
            kind: Kind, body: bytes | memoryview = b"", digest: bytes | None = None, **fields: Any
        ) -> bytes:
            where = {"job": header.job, "channel": header.channel, "answers": header.counter}
            return session.seal(kind, body, digest, **where, **fields)[1]

        if header.kind == Kind.PING:
            trip_s, ahead_s = _TRIP.unpack(body) if len(body) == _TRIP.size else (-1.0, 0.0)
            if not (0 <= trip_s < _TRIP_MAX_S and abs(ahead_s) < _AHEAD_MAX_S):  # no number is neither
                raise Refused(400)
            peer.round_trip_s, peer.clock_offset_s = trip_s, -ahead_s
            return reply(Kind.PONG)
        if header.kind == Kind.PROBE:
            hold_s = min(header.ack / 1000, IDLE_MAX_S)
            await peer.signal.until(lambda: peer.gone, self._here.clock, hold_s)
            return reply(Kind.PONG, os.urandom(min(header.number, BODY_MAX_BYTES)))

        wait = _Wait(self, entry)
        key = (header.job, header.channel)
        if header.kind in (Kind.PUSH, Kind.PULL):
            await wait.until(peer, lambda: key in peer.lanes)
        lane = peer.lanes.get(key)
        if lane is None:
            return reply(Kind.EMPTY if header.kind == Kind.PULL else Kind.ACK)
        try:
            if header.kind == Kind.PUSH:
                return await self._pushed(lane, header, body, digest, wait, reply)
            if header.kind == Kind.FAIL:
                lane.fail(said(body))
                return reply(Kind.ACK)
            lane.check()
            lane.acknowledged(header.ack)
            if header.kind == Kind.PULL:
                return await self._pulled(lane, header, wait, reply)
            return reply(Kind.ACK, ack=lane.inbox.accepted)
        except PeerError as error:
            _log.warning("%s: refused frame %d: %s", peer.name, header.number, error)
            return reply(Kind.REFUSED, error.code.encode())
        except IsthmusError as error:
            return reply(Kind.REFUSED, error.code.encode())

    async def _pushed(
        self,
        lane: Lane,
        header: Header,
        body: bytes,
        digest: bytes,
        wait: _Wait,
        reply: Callable[..., bytes],
    ) -> bytes:
        number = header.number
        with lane.asking(Kind.PUSH, number) as again:
            await wait.until(lane, lambda: lane.error or lane.inbox.fits(number) or again())
            lane.check()
            if lane.inbox.fits(number):
                lane.offer(header, body, digest)
                await wait.until(lane, lambda: lane.error or lane.inbox.accepted >= number or again())
        lane.check()
        return reply(Kind.ACK, ack=lane.inbox.accepted)

    async def _pulled(self, lane: Lane, header: Header, wait: _Wait, reply: Callable[..., bytes]) -> bytes:
        number, outbox = header.number, lane.outbox
        with lane.asking(Kind.PULL, number) as again:
            await wait.until(
                lane, lambda: lane.error or number <= outbox.acked or outbox.frame(number) or again()
            )
        lane.check()
        if again() or (frame := outbox.frame(number)) is None:
            return reply(Kind.EMPTY)
        return reply(
            Kind.FRAME,
            frame.body,
            frame.digest,
            number=number,
            ends=frame.ends,
            previous=frame.previous,
            highest=outbox.newest,
        )

    def holds(self, session: Session) -> bool:
        """Whether a session still counts."""
        return session.id in self._sessions


class _Wait:
    """The waiting of one request: all of it together lasts as long as the dialer waits, and ends with the session."""

    def __init__(self, listener: Listener, entry: _Entry) -> None:
        self._listener = listener
        self._entry = entry
        self._clock = entry.peer.here.clock
        self._end_s = self._clock.monotonic_s() + min(entry.session.poll_s, _POLL_MAX_S)

    async def until(self, on: Peer | Lane, ready: Callable[[], object]) -> bool:
        """False when the time is over. Raises Refused when the session or this node has ended meanwhile."""
        peer = self._entry.peer
        left_s = self._end_s - self._clock.monotonic_s()
        held = await on.signal.until(lambda: peer.gone or ready(), self._clock, left_s)
        if peer.gone:
            raise Refused(503)
        if not self._listener.holds(self._entry.session):
            raise Refused(410)
        return held
