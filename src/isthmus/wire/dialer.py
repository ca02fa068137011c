"""The side that dials: keeps a session, pushes its frames and pulls the partner's, for each channel by itself.

One task keeps the session. Per channel a few workers push and a few pull; one that fails halts the session and waits,
with all others, until a PING has come through. A broken connection costs that PING; only a listener that does not know the
session any more costs a handshake. A channel without traffic has one PULL under way and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final

from isthmus.base.errors import IsthmusError, LineError, LocalError, PeerError
from isthmus.crypto.seal import Dialing, PartyKey, check_version, fingerprint, names
from isthmus.wire.envelope import BODY_MAX_BYTES, IDLE_MAX_S, Header, Kind
from isthmus.wire.lane import Lane
from isthmus.wire.peer import CONTROL, EXCHANGE, HELLO, Here, Partner, Peer, Refused, said
from isthmus.wire.session import Session

Transport = Callable[[Partner, str, bytes], Awaitable[bytes]]
"""Carries one request to a partner: path and body in, body of the answer out. Raises Refused or LineError."""

Pace = Callable[[], tuple[float, float] | None]

WIDTH: Final = 4
_SESSION_S: Final = 3600.0
_OLDER_KEYS_S: Final = 15.0  # then the newer ones are tried again
_TRIP = struct.Struct("<dd")
_STAND_BY_S: Final = 1.0
_PROBE_SIZES: Final = (1, 64 * 2**10, 256 * 2**10, 512 * 2**10, BODY_MAX_BYTES)

_log = logging.getLogger(__name__)

Answer = tuple[Header, bytes, bytes]


@dataclass(frozen=True)
class Probe:
    """What `isthmus doctor --partner` measured. Sizes and rates are None on the side that listens: it cannot ask."""

    round_trip_s: float | None
    largest_body_bytes: int | None
    up_bytes_per_s: float | None
    down_bytes_per_s: float | None
    version: int | None
    clock_offset_s: float | None
    held_s: float | None = None
    """For how long an answer was held back and still came."""
    cut_s: float | None = None
    """After how long the path gave up an answer that was held back."""
    begins_s: float | None = None
    """Of a large answer: how long until it began,"""
    comes_s: float | None = None
    """and then until it was there."""


class Dialer:
    """Dials one partner."""

    def __init__(self, here: Here, peer: Peer, transport: Transport) -> None:
        self._here = here
        self._peer = peer
        self._transport = transport
        self._session: Session | None = None
        """The session in use; None while it is not known whether anything comes through."""
        self._kept: Session | None = None
        """The newest session that the listener has not disowned."""
        self._kept_until_s = 0.0
        self._renewals = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._peer.began = self._serve_soon
        for lane in self._peer.lanes.values():
            self._serve_soon(lane)
        self._spawn(self._keep(), None)

    def cancel(self) -> None:
        """Stop dialing; `stopped` waits until everything has come to its end."""
        self._peer.began = lambda lane: None
        self._session = None
        for task in self._tasks:
            task.cancel()

    async def stopped(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def probe(self, idle_s: float = 0.0, pace: Pace = lambda: None) -> Probe:
        """`idle_s`: for how long to ask for silence, at most a minute; `pace` is that of the newest large answer. Raises
        the LineError or PeerError that stands in the way."""
        await self._peer.signal.until(
            lambda: self._session or self._peer.gone, self._here.clock, self._peer.patience_s()
        )
        if (session := self._session) is None:
            raise self._peer.problem()
        silence = asyncio.ensure_future(self._silence(session, min(idle_s, IDLE_MAX_S)))
        try:
            found = await self._measure(session, pace)
            held_s, cut_s = await silence
            return replace(found, held_s=held_s, cut_s=cut_s)
        finally:
            silence.cancel()

    async def _silence(self, session: Session, idle_s: float) -> tuple[float | None, float | None]:
        """For how long an answer was held back and came, or after how long it was given up."""
        if idle_s <= 0:
            return None, None
        began_s = self._here.clock.monotonic_s()
        try:
            await self._ask(session, Kind.PROBE, ack=int(idle_s * 1000))
        except LineError:
            return None, self._here.clock.monotonic_s() - began_s
        return idle_s, None

    async def _measure(self, session: Session, pace: Pace) -> Probe:
        clock = self._here.clock
        trips = []
        for _ in range(5):
            began_s = clock.monotonic_s()
            await self._ask(session, Kind.PROBE)
            trips.append(clock.monotonic_s() - began_s)
        trip_s = min(trips)
        largest = 0
        for size in _PROBE_SIZES:
            try:
                await self._ask(session, Kind.PROBE, os.urandom(size))
            except LineError:
                break
            largest = size
        up = down = None
        if largest:
            body = os.urandom(largest)
            up = await self._rate(lambda: self._ask(session, Kind.PROBE, body), largest, trip_s)
            down = await self._rate(lambda: self._ask(session, Kind.PROBE, number=largest), largest, trip_s)
        self._peer.round_trip_s = trip_s
        begins, comes = pace() or (None, None)
        return Probe(
            trip_s,
            largest,
            up,
            down,
            self._peer.version,
            self._peer.clock_offset_s,
            begins_s=begins,
            comes_s=comes,
        )

    async def _rate(self, ask: Callable[[], Awaitable[Answer]], size_bytes: int, trip_s: float) -> float:
        """Bytes a second with several exchanges under way."""
        began_s = self._here.clock.monotonic_s()
        await asyncio.gather(*(ask() for _ in range(2 * WIDTH)))
        return 2 * WIDTH * size_bytes / max(self._here.clock.monotonic_s() - began_s - trip_s, 1e-6)

    # The session.

    async def _keep(self) -> None:
        """Bring the session up, wait until it is halted or old, again.

        Failures in a row are those without a PING between them: a frame that never comes through, where PINGs do, slows
        down its own worker and nobody else.
        """
        clock, peer = self._here.clock, self._peer
        tries = 0
        while True:
            if not peer.first and peer.carried_by_partner:
                self._session = None
                await clock.sleep(_STAND_BY_S)
                continue
            renewals = self._renewals
            try:
                session = await self._resume()
            except (LineError, PeerError) as error:
                tries += 1
                peer.lost(error)
                await clock.sleep(self._here.pause_s(tries))
                continue
            if self._renewals != renewals:  # keys have changed while hands were shaken with the ones before
                self._kept = None
                continue
            self._session, tries = session, 0
            peer.heard()
            peer.signal.notify()

            def over(session: Session = session) -> bool:
                return self._session is not session or (not peer.first and peer.carried_by_partner)

            await peer.signal.until(over, clock, self._kept_until_s - clock.monotonic_s())

    async def _resume(self) -> Session:
        """A session through which a PING has just come: the one before, if that will do."""
        clock = self._here.clock
        if (session := self._kept) is not None and clock.monotonic_s() < self._kept_until_s:
            try:
                await self._ping(session)
            except PeerError:
                self._kept = None
                raise
            return session
        self._kept = session = await self._shake()
        newest = self.uses([self._here.own_keys[0].public], self.partner_keys[:1])
        self._kept_until_s = clock.monotonic_s() + (_SESSION_S if newest else _OLDER_KEYS_S)
        return session

    @property
    def partner_keys(self) -> tuple[bytes, ...]:
        return self._peer.partner.keys

    def renew(self) -> None:
        """Shake hands anew: keys have changed."""
        self._renewals += 1
        self._kept = self._session = None
        self._peer.signal.notify()

    def uses(self, own: Collection[bytes], theirs: Collection[bytes]) -> bool:
        """Whether there is a session that was made with these keys."""
        session = self._kept
        return session is not None and session.own_public in own and session.partner_public in theirs

    async def _shake(self) -> Session:
        """With the newest keys of both; while a key is being changed, where those are not accepted, with the older ones."""
        pairs = [(own, public) for own in self._here.own_keys for public in self._peer.partner.keys]
        for own, public in pairs:
            try:
                return await self._greet(own, public)
            except Refused as refusal:
                if refusal.status != 403 or (own, public) == pairs[-1]:
                    raise self._why(refusal, own, public) from None
            except LineError as error:
                # A relay knows a party by its key, and may not have heard of the newest.
                if error.code != "unreachable" or (own, public) == pairs[-1]:
                    raise
        raise AssertionError("there is a key on each side")

    async def _greet(self, own: PartyKey, public: bytes) -> Session:
        here, peer = self._here, self._peer
        dialing = Dialing(
            own,
            public,
            here.boot,
            here.time_ms(),
            int(here.poll_s * 1000),
            partner=peer.name,
            version=here.version,
        )
        began_s = here.clock.monotonic_s()
        reply = await self._send(HELLO, dialing.hello)
        trip_s = here.clock.monotonic_s() - began_s
        keys = dialing.finish(reply)
        session = Session(own, public, keys, peer.name)
        peer.round_trip_s, peer.version = trip_s, here.version
        peer.clock_offset_s = (keys.theirs.time_ms - here.time_ms()) / 1000 + trip_s / 2
        await self._ping(session)
        peer.met(session.boot)
        self._kept = session
        here.met_with(peer.name, session.own_public, session.partner_public)
        return session

    async def _ping(self, session: Session) -> None:
        peer = self._peer
        await self._ask(session, Kind.PING, _TRIP.pack(peer.round_trip_s or 0.0, peer.clock_offset_s or 0.0))

    def _why(self, refusal: Refused, own: PartyKey, public: bytes) -> IsthmusError:
        """The error behind an HTTP answer other than 200."""
        peer = self._peer
        if refusal.status == 426 and names(refusal.body) == (fingerprint(public), own.fingerprint):
            check_version(refusal.body, self._here.version, peer.name)
        why = f"it answers with HTTP {refusal.status}"
        if refusal.status == 403:
            why = "it does not accept the key of this node"
        return LineError("unreachable", partner=peer.name, why=why)

    async def _send(self, path: str, body: bytes) -> bytes:
        self._peer.sent_bytes += len(body)
        reply = await self._transport(self._peer.partner, path, body)
        self._peer.received_bytes += len(reply)
        return reply

    async def _ask(
        self,
        session: Session,
        kind: Kind,
        body: bytes | memoryview = b"",
        digest: bytes | None = None,
        **fields: Any,
    ) -> Answer:
        """One exchange. Raises LineError, or PeerError when the answer is not the partner's to this request."""
        counter, envelope = session.seal(kind, body, digest, **fields)
        try:
            reply = await self._send(EXCHANGE, envelope)
        except Refused as refusal:
            if session is self._kept and (refusal.status == 410 or kind == Kind.PING):
                self._kept = None
            why = f"it answers with HTTP {refusal.status}"
            raise LineError("unreachable", partner=self._peer.name, why=why) from None
        header, content, content_digest = session.open(reply)
        place = (counter, fields.get("job", CONTROL), fields.get("channel", 0))
        if (header.answers, header.job, header.channel) != place:
            raise PeerError("wrong_channel")
        return header, content, content_digest

    async def _exchange(
        self,
        lane: Lane,
        kind: Kind,
        body: bytes | memoryview = b"",
        digest: bytes | None = None,
        **fields: Any,
    ) -> Answer | None:
        """One exchange for a channel as soon as there is a session; None when it or the channel failed."""
        await self._peer.signal.until(lambda: self._session)
        if (session := self._session) is None or (lane.error is not None and kind != Kind.FAIL):
            return None
        try:
            answer = await self._ask(session, kind, body, digest, job=lane.job, channel=lane.number, **fields)
        except (LineError, PeerError) as error:
            if self._session is session:
                self._session = None
                self._peer.lost(error)
            return None
        if session.boot != self._peer.boot:
            return None
        self._peer.heard()
        if answer[0].kind == Kind.REFUSED:
            lane.fail(said(answer[1]))
        return answer

    # The channels.

    def _serve_soon(self, lane: Lane) -> None:
        self._spawn(self._serve(lane), lane)

    def _spawn(self, work: Coroutine[Any, Any, None], lane: Lane | None) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or (error := task.exception()) is None:
                return
            _log.error("a task of the link ended", exc_info=error)
            for failed in self._peer.lanes.values() if lane is None else (lane,):
                failed.fail(LocalError("bug", why=type(error).__name__))

        task.add_done_callback(done)

    async def _serve(self, lane: Lane) -> None:
        """Everything for one channel, until both sides have closed it or it has failed."""
        width = 1 if lane.job == CONTROL else WIDTH
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(self._push(lane))
                group.create_task(self._pull(lane))
        if isinstance(lane.error, PeerError):
            await self._insist(lane, Kind.FAIL, lane.error.code.encode())
        elif lane.error is None:
            await self._insist(lane, Kind.TOLD)

    async def _push(self, lane: Lane) -> None:
        tries = 0
        while True:
            await lane.signal.until(lambda: lane.sent or lane.outbox.claimable())
            if lane.sent or (frame := lane.outbox.claim()) is None:
                return
            began_s = self._here.clock.monotonic_s()
            try:
                answer = await self._exchange(
                    lane,
                    Kind.PUSH,
                    frame.body,
                    frame.digest,
                    number=frame.number,
                    ends=frame.ends,
                    previous=frame.previous,
                )
            finally:
                frame.claimed = False
            if answer is not None and lane.error is None:
                self._acknowledged(lane, answer[0])
            tries = await self._pace(lane, tries, answer, began_s, lane.outbox.acked >= frame.number)

    async def _pull(self, lane: Lane) -> None:
        tries = 0
        while True:
            await lane.signal.until(lambda: lane.received or lane.inbox.wanted())
            if lane.received or (number := lane.inbox.wanted()) is None:
                return
            began_s = self._here.clock.monotonic_s()
            lane.inbox.pulling.add(number)
            ack = lane.inbox.accepted
            try:
                answer = await self._exchange(lane, Kind.PULL, number=number, ack=ack)
            finally:
                lane.inbox.pulling.discard(number)
            if answer is not None and lane.error is None:
                lane.told = max(lane.told, ack)
                self._arrived(lane, number, answer)
            progress = lane.inbox.accepted >= number or (answer is not None and answer[0].kind == Kind.FRAME)
            tries = await self._pace(lane, tries, answer, began_s, progress)

    async def _pace(
        self, lane: Lane, tries: int, answer: Answer | None, began_s: float, progress: bool
    ) -> int:
        """Failures in a row; waits after a failure, and when the partner says "not yet" too soon."""
        if answer is None:
            lane.signal.notify()
            await self._here.clock.sleep(self._here.pause_s(tries + 1))
            return tries + 1
        if not progress and self._here.clock.monotonic_s() - began_s < self._here.poll_s / 2:
            await self._here.clock.sleep(self._here.retry_s)
        return 0

    async def _insist(self, lane: Lane, kind: Kind, body: bytes = b"") -> None:
        """Tell the partner until it has heard."""
        tries = 0
        while not (kind == Kind.TOLD and lane.told >= lane.inbox.accepted):
            ack = lane.inbox.accepted
            if await self._exchange(lane, kind, body, ack=ack) is not None:
                lane.told = max(lane.told, ack)
                return
            tries += 1
            await self._here.clock.sleep(self._here.pause_s(tries))

    def _acknowledged(self, lane: Lane, header: Header) -> None:
        try:
            if header.kind != Kind.ACK:
                raise PeerError("bad_message", why="it is no acknowledgement")
            lane.acknowledged(header.ack)
        except PeerError as error:
            lane.fail(error)

    def _arrived(self, lane: Lane, number: int, answer: Answer) -> None:
        header, body, digest = answer
        if header.kind == Kind.EMPTY:
            return
        try:
            if header.kind != Kind.FRAME or header.number != number:
                raise PeerError("bad_message", why="it is not the frame that was asked for")
            lane.inbox.known = max(lane.inbox.known, header.highest)
            lane.offer(header, body, digest)
        except PeerError as error:
            lane.fail(error)
