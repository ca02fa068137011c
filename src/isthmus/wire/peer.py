"""What this node knows of one partner: key, channels, process, and how the line stands."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from isthmus.base.clock import Clock
from isthmus.base.errors import PEER, IsthmusError, LineError, LocalError, PeerError
from isthmus.crypto.seal import PartyKey
from isthmus.wire.lane import Lane
from isthmus.wire.signal import Signal

HELLO: Final = "/link/v1/hello"
EXCHANGE: Final = "/link/v1/exchange"
JOIN: Final = "/link/v1/join"

CONTROL: Final = bytes(32)
"""Job digest of the channel on which two nodes talk about jobs."""

_PATIENCE_S: Final = 15.0
_KNOWN_DOWN_S: Final = 3.0
_CLOSED_KEPT: Final = 256
_RETRY_MAX_S: Final = 10.0


@dataclass(frozen=True)
class Partner:
    """The other institution: its pinned key, where it listens (None: it dials us), and its pinned certificate (DER).

    An address without a certificate is checked against the authorities that this machine trusts. An address that begins
    with `relay+` is that of a relay. `next_key` is a second pin: the key that the partner is about to change to.
    """

    name: str
    public_key: bytes
    address: str | None = None
    certificate_der: bytes | None = None
    next_key: bytes | None = None

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The pinned keys, the newest first."""
        return (self.public_key,) if self.next_key is None else (self.next_key, self.public_key)


@dataclass(frozen=True)
class LinkState:
    """How the line to one partner stands, for status pages.

    `since` is the time of the last change of `connected`. Bytes are HTTP bodies and headers, without TLS. Positive
    `clock_offset_s`: the partner's clock is ahead. `problem` is the last thing that went wrong while not connected,
    `refused` counts what came in this partner's name and was not its.
    """

    connected: bool
    since: datetime
    dials: bool
    round_trip_s: float | None
    version: int | None
    clock_offset_s: float | None
    sent_bytes: int
    received_bytes: int
    refused: int
    problem: IsthmusError | None


MetWith = Callable[[str, bytes, bytes], None]
"""Told of every session that stands: the partner's name, and the own and the partner's public key it was made with."""


@dataclass
class Here:
    """This node's side of every line. While its key is being changed there is a second one, `next_own`."""

    own: PartyKey
    name: str
    clock: Clock
    boot: bytes
    poll_s: float
    retry_s: float
    version: int
    next_own: PartyKey | None = None
    met_with: MetWith = lambda name, own, theirs: None

    @property
    def own_keys(self) -> tuple[PartyKey, ...]:
        """The newest first."""
        return (self.own,) if self.next_own is None else (self.next_own, self.own)

    def time_ms(self) -> int:
        return max(0, int(self.clock.now().timestamp() * 1000))

    def pause_s(self, tries: int) -> float:
        """How long to wait after that many failures in a row: doubling, up to ten seconds, never in step with others."""
        return min(self.retry_s * 2.0 ** min(tries - 1, 20), _RETRY_MAX_S) * random.uniform(0.5, 1.0)


class Refused(Exception):
    """An HTTP answer other than 200; `body` is short and tells a stranger nothing."""

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body


class Peer:
    """One partner, its channels, and the state of the line to it."""

    def __init__(self, here: Here, partner: Partner) -> None:
        self.here = here
        self.partner = partner
        self.lanes: dict[tuple[bytes, int], Lane] = {}
        self.signal = Signal()
        """Rings when a channel is opened and when the line comes or goes."""
        self.boot: bytes | None = None
        self.round_trip_s: float | None = None
        self.clock_offset_s: float | None = None
        self.version: int | None = None
        self.sent_bytes = 0
        self.received_bytes = 0
        self.refused = 0
        self.in_flight = 0
        self.gone = False
        self.began: Callable[[Lane], None] = lambda lane: None
        """Called with every channel that is opened."""
        self.polled_s = here.poll_s
        """Listener: how long the dialer waits, so how often it is heard at least."""
        self._connected = False
        self._problem: IsthmusError | None = None
        self._since = here.clock.now()
        self._since_s = self._heard_s = here.clock.monotonic_s()
        self._inbound_s: float | None = None

    @property
    def name(self) -> str:
        return self.partner.name

    @property
    def dials(self) -> bool:
        """Whether this node dials; the partner may do so as well."""
        return self.partner.address is not None

    @property
    def first(self) -> bool:
        """Of two that dial each other, whether this node's calls carry the line."""
        return self.here.name < self.name

    @property
    def carried_by_partner(self) -> bool:
        """Whether the partner's own calls came lately."""
        return self._inbound_s is not None and self._age_s(self._inbound_s) <= self.polled_s + _PATIENCE_S

    def open(self, job: bytes, number: int) -> Lane:
        if (job, number) in self.lanes:
            raise LocalError("bug", why="a channel of the link was opened twice")
        lane = self._begin(job, number)
        closed = [k for k, v in self.lanes.items() if v.closed and v.sent and v.received]
        for key in closed[:-_CLOSED_KEPT]:
            del self.lanes[key]
        return lane

    def drop(self, job: bytes, number: int) -> None:
        lane = self.lanes.pop((job, number), None)
        if lane is not None:
            lane.fail(LineError("closed"))

    def met(self, boot: bytes) -> None:
        """The partner's process is this one. When it was another one before, all that was under way with it fails."""
        before, self.boot = self.boot, boot
        if before is None or before == boot:
            return
        for key, lane in list(self.lanes.items()):
            if not lane.touched:
                continue
            del self.lanes[key]
            lane.fail(LineError("partner_restarted", partner=self.name))
            if lane.job == CONTROL and not lane.closed:
                self._begin(*key)

    def heard(self, *, inbound: bool = False) -> None:
        """Something verified came from the partner."""
        self._heard_s = self.here.clock.monotonic_s()
        if inbound:
            self._inbound_s = self._heard_s
        if not self._connected:
            self._connected, self._problem = True, None
            self._turn(0.0)
            self.signal.notify()

    def lost(self, problem: IsthmusError) -> None:
        """The line is down, or still down."""
        self._problem = problem
        if self._connected:
            self._connected = False
            self._turn(0.0)
        self.signal.notify()

    def away_s(self) -> float | None:
        """For how long the line has been down; None while it stands."""
        silent_s = self._age_s(self._heard_s)
        if self._connected and not self.dials and silent_s > self.polled_s + _PATIENCE_S:
            self._connected = False
            self._problem = LineError("unreachable", partner=self.name, why="it has stopped calling")
            self._turn(silent_s)
        return None if self._connected else self._age_s(self._since_s)

    def state(self) -> LinkState:
        away_s = self.away_s()
        return LinkState(
            away_s is None,
            self._since,
            self.dials,
            self.round_trip_s,
            self.version,
            self.clock_offset_s,
            self.sent_bytes,
            self.received_bytes,
            self.refused,
            None if away_s is None else self._problem,
        )

    def problem(self) -> IsthmusError:
        """Why the line is down."""
        return self._problem or LineError("unreachable", partner=self.name, why="it has not called yet")

    def patience_s(self) -> float:
        """How long to wait for the line before somebody is told that it is down: not long where that is known."""
        return self.here.poll_s if self._problem is None else min(self.here.poll_s, _KNOWN_DOWN_S)

    def leave(self) -> None:
        """This node stops, or forgets the partner."""
        self.gone = True
        for lane in self.lanes.values():
            lane.fail(LineError("closed"))
        self.signal.notify()

    def _begin(self, job: bytes, number: int) -> Lane:
        lane = self.lanes[job, number] = Lane(job, number, end_of(self.here.name), end_of(self.name))
        self.began(lane)
        self.signal.notify()
        return lane

    def _age_s(self, moment_s: float) -> float:
        return self.here.clock.monotonic_s() - moment_s

    def _turn(self, ago_s: float) -> None:
        self._since = self.here.clock.now() - timedelta(seconds=ago_s)
        self._since_s = self.here.clock.monotonic_s() - ago_s


def end_of(party: str) -> bytes:
    """16 bytes that stand for a party in the chains of frames. Of its name: a channel goes on when a key is changed."""
    return hashlib.sha256(b"isthmus/link/end/v1" + party.encode()).digest()[:16]


def said(code: bytes) -> PeerError:
    """The error that stands for a code the partner sent."""
    text = code[:64].decode("ascii", "replace")
    if not text.isprintable():
        text = "bad_message"
    return (
        PeerError(text)
        if text in PEER and text != "partner_failed"
        else PeerError("partner_failed", code=text)
    )
