"""The link: the line between the node processes of two institutions.

    dialer                                          listener
      |  POST /link/v1/hello     signed, ephemeral key  |
      |------------------------------------------------>|    one HTTPS port is enough: every request
      |<------------------------------------------------|    goes from the dialer to the listener
      |                          signed, ephemeral key  |
      |  POST /link/v1/exchange  PING (confirms keys)   |
      |------------------------------------------------>|
      |                          PUSH frame n           |
      |------------------------------------------------>|    frames there
      |<------------------------------------- ACK n ----|
      |                          PULL n, ack of n - 1   |
      |------------------------------------------------>|    frames back: the answer waits until frame n
      |<---------------------- FRAME n | EMPTY ---------|    exists or `poll_s` is over

Every request and answer is an envelope (envelope.py): signed with the party's key and sealed under the keys of this
session. Frames stay in the outbox until the partner has acknowledged them. When anything goes wrong, the dialer shakes
hands again and sends what is missing, so the roles above never notice a broken line.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from isthmus.base.clock import Clock
from isthmus.base.errors import IsthmusError
from isthmus.crypto.seal import PartyKey

CONTROL = bytes(32)
"""Job digest of the channel on which two nodes talk about jobs."""

Join = Callable[[bytes, str], Awaitable[bytes]]
"""Answers `POST /link/v1/join`: body (at most 16 KiB) and the caller's address in, at most 16 KiB out. An IsthmusError
becomes a 403 that carries its code and nothing else."""


@dataclass(frozen=True)
class Partner:
    """The other institution: its pinned key, where it listens (None: it dials us), and its pinned certificate (DER)."""

    name: str
    public_key: bytes
    address: str | None = None
    certificate_der: bytes | None = None


@dataclass(frozen=True)
class LinkState:
    """How the line to one partner stands, for status pages.

    `since` is the time of the last change of `connected`. Bytes are HTTP bodies and headers, without TLS. Positive
    `clock_offset_s`: the partner's clock is ahead. `problem` is the last thing that went wrong while not connected.
    """

    connected: bool
    since: datetime
    dials: bool
    round_trip_s: float | None
    version: int | None
    clock_offset_s: float | None
    sent_bytes: int
    received_bytes: int
    problem: IsthmusError | None


@dataclass(frozen=True)
class Probe:
    """What `isthmus doctor --partner` measured. Sizes and rates are None on the side that listens: it cannot ask."""

    round_trip_s: float | None
    largest_body_bytes: int | None
    up_bytes_per_s: float | None
    down_bytes_per_s: float | None
    version: int | None
    clock_offset_s: float | None


class LinkLine:
    """One end of a channel of the link; a `Line`.

    `put` waits while more than eight frames are unacknowledged and otherwise for nothing: it waits as long as the partner
    is away. `get` waits for the next body. Both raise LineError("closed") once either side has closed and everything
    sent before has been taken, LineError("partner_restarted") when the partner's process is another one, and
    PeerError("step_changed") when the partner changed what it had sent before.

    The control channel outlives a restart of the partner: `get` raises LineError("partner_restarted") once, both
    directions start anew (what was not taken is gone), and the same line goes on.
    """

    async def put(self, body: bytes) -> None:
        raise NotImplementedError

    async def get(self) -> bytes:
        raise NotImplementedError

    async def close(self) -> None:
        """Say that nothing follows. What was put before is still delivered, in the background."""
        raise NotImplementedError

    async def drained(self) -> None:
        """Wait until the partner has acknowledged everything."""
        raise NotImplementedError


class Link:
    """One per node process: all lines to all partners.

    A channel, named by partner, job digest and number, can be opened once on each side while both processes live; give
    every run of a job a digest of its own.
    """

    def __init__(
        self,
        own: PartyKey,
        own_name: str,
        clock: Clock | None = None,
        *,
        poll_s: float = 20.0,
        retry_s: float = 0.2,
        give_up_s: float | None = None,
        join: Join | None = None,
    ) -> None:
        raise NotImplementedError

    def add_partner(self, partner: Partner) -> None:
        """Know a partner from now on; replaces what was known under that name (same key: its channels stay)."""
        raise NotImplementedError

    def remove_partner(self, name: str) -> None:
        """Forget a partner; its open channels fail with LineError("closed")."""
        raise NotImplementedError

    async def listen(self, host: str, port: int, ssl_context: ssl.SSLContext) -> int:
        """Listen for partners that dial us; returns the port. Make the context with `server_context`."""
        raise NotImplementedError

    async def start(self) -> None:
        """Begin to dial the partners that have an address."""
        raise NotImplementedError

    async def close(self, drain_s: float = 1.0) -> None:
        """Wait up to `drain_s` for acknowledgements, then stop: every open channel fails with LineError("closed")."""
        raise NotImplementedError

    def open(self, partner_name: str, job_digest: bytes, number: int = 0) -> LinkLine:
        """One end of a channel. Both sides call this on their own; what arrives earlier is held back by the sender."""
        raise NotImplementedError

    def state(self, partner_name: str) -> LinkState:
        raise NotImplementedError

    async def probe(self, partner_name: str) -> Probe:
        """Measure the path to a partner; raises the LineError that stands in the way."""
        raise NotImplementedError

    async def post_join(self, address: str, certificate_der: bytes | None, body: bytes) -> bytes:
        """Hand `body` to the join callback of a node that is not a partner yet; used to accept an invitation."""
        raise NotImplementedError


def make_certificate(common_name: str, hosts: list[str]) -> tuple[bytes, bytes]:
    """(certificate, private key) in PEM: EC P-256, self-signed, ten years, for DNS names and IP addresses."""
    raise NotImplementedError


def certificate_der(certificate_pem: bytes) -> bytes:
    """The bytes to pin."""
    raise NotImplementedError


def server_context(certificate_path: str, key_path: str) -> ssl.SSLContext:
    """TLS 1.3 only."""
    raise NotImplementedError
