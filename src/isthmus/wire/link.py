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
session. Frames stay in the outbox until the partner has acknowledged them. When anything goes wrong, the dialer pings, or
shakes hands again where the listener has forgotten the session, and sends what is missing: the roles above never notice
a broken line.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import (
    CLASSES,
    ConfigError,
    IsthmusError,
    LineError,
    LocalError,
    PolicyError,
    rebuild,
)
from isthmus.crypto.seal import VERSION, PartyKey
from isthmus.wire.dialer import Dialer, Probe, Transport
from isthmus.wire.https import (
    HttpServer,
    HttpTransport,
    Proxy,
    certificate_der,
    client_context,
    make_certificate,
    server_context,
)
from isthmus.wire.lane import Lane
from isthmus.wire.listener import LIMITS, Caller, Join, Listener
from isthmus.wire.message import MESSAGE_MAX_BYTES
from isthmus.wire.peer import CONTROL, JOIN, Here, LinkState, MetWith, Partner, Peer, Refused
from isthmus.wire.relayed import SCHEME, Relayed

__all__ = [
    "CONTROL",
    "Join",
    "Link",
    "LinkLine",
    "LinkState",
    "Partner",
    "Probe",
    "Proxy",
    "Relayed",
    "Transport",
    "certificate_der",
    "client_context",
    "make_certificate",
    "server_context",
]


class LinkLine:
    """One end of a channel of the link; a `Line`.

    `put` waits while more than eight frames are unacknowledged and otherwise for nothing: it waits as long as the partner
    is away. `get` waits for the next body. Both raise LineError("closed") once either side has closed and everything
    sent before has been taken, LineError("partner_restarted") when the partner's process is another one, and
    PeerError("step_changed") when the partner changed what it had sent before.

    The control channel outlives a restart of the partner: `get` raises LineError("partner_restarted") once, both
    directions start anew (what was not taken is gone), and the same line goes on.
    """

    def __init__(self, peer: Peer, lane: Lane, give_up_s: float | None) -> None:
        self._peer = peer
        self._lane = lane
        self._key = lane.key
        self._give_up_s = give_up_s

    async def put(self, body: bytes) -> None:
        if len(body) > MESSAGE_MAX_BYTES:
            raise ValueError("the message is too long; send it in chunks")
        while True:
            lane = self._newest()
            async with lane.put_lock:
                await self._wait(lane, lane.may_put)
                if lane.error is not None and self._newest() is not lane:
                    continue
                lane.check()
                if lane.inbox.ended or lane.closed:
                    raise LineError("closed")
                lane.outbox.add(body)
                lane.signal.notify()
                return

    async def get(self) -> bytes:
        while True:
            lane = self._lane
            async with lane.get_lock:
                await self._wait(lane, lane.may_get)
                if lane.error is not None:
                    self._lane = self._newest()
                    lane.check()
                if lane.closed:
                    raise LineError("closed")
                if (body := lane.inbox.take()) is not None:
                    lane.signal.notify()
                    return body
                if lane.inbox.ended:
                    raise LineError("closed")
                lane.signal.notify()

    async def close(self) -> None:
        """Say that nothing follows. What was put before is still delivered, in the background."""
        for lane in {id(v): v for v in (self._lane, self._newest())}.values():
            if not lane.closed:
                lane.closed = True
                if lane.error is None:
                    lane.outbox.add_end()
                    lane.inbox.discard()
                lane.signal.notify()

    async def drained(self) -> None:
        """Wait until the partner has acknowledged everything."""
        lane = self._newest()
        await self._wait(lane, lambda: lane.outbox.empty)
        lane.check()

    def _newest(self) -> Lane:
        """The channel as it stands now; only the control channel is ever replaced."""
        if self._key[0] != CONTROL:
            return self._lane
        return self._peer.lanes.get(self._key, self._lane)

    async def _wait(self, lane: Lane, ready: Callable[[], object]) -> None:
        """Until `ready`, or the channel has failed. With `give_up_s`: raises LineError once the line is away for longer."""
        limit_s = self._give_up_s
        while not await lane.signal.until(lambda: lane.error or ready(), self._peer.here.clock, limit_s):
            away_s = self._peer.away_s()
            if away_s is not None and self._give_up_s is not None:
                if away_s >= self._give_up_s:
                    raise self._peer.problem()
                limit_s = max(self._give_up_s - away_s, 0.001)


class Link:
    """One per node process: all lines to all partners.

    A channel, named by partner, job digest and number, can be opened once on each side while both processes live; give
    every run of a job a digest of its own.

    `poll_s`: how long an answer is held back when there is nothing to say; below the idle cut of gateways. `retry_s`: the
    first pause after a failure. `give_up_s`: for tools, after how long without the partner a wait ends with LineError.
    `transport`: carries requests instead of HTTPS.
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
        transport: Transport | None = None,
        proxy: Proxy | None = None,
        version: int = VERSION,
        met_with: MetWith = lambda name, own, theirs: None,
    ) -> None:
        boot = os.urandom(16)
        self._here = Here(own, own_name, clock or SystemClock(), boot, poll_s, retry_s, version)
        self._here.met_with = met_with
        self._give_up_s = give_up_s
        self._http = HttpTransport(poll_s, proxy, self._count)
        self._transport = transport or self._send
        self._relays: dict[tuple[str, bytes], Relayed] = {}
        self._taking: list[asyncio.Task[None]] = []
        self._listener = Listener(self._here, join)
        self._server: HttpServer | None = None
        self._peers: dict[str, Peer] = {}
        self._dialers: dict[str, Dialer] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._farewells: dict[str, asyncio.Task[None]] = {}
        self._started = False

    def add_partner(self, partner: Partner) -> None:
        """Know a partner from now on. Known already: the address, the certificate or the second pin changes, or the second
        pin has become the first; any other key needs a removal."""
        if (farewell := self._farewells.pop(partner.name, None)) is not None:
            farewell.cancel()
            self._forget(self._peer(partner.name))
        if (known := self._peers.get(partner.name)) is not None:
            self._change(known, partner)
            return
        if any(set(p.partner.keys) & set(partner.keys) for p in self._peers.values()):
            raise ConfigError("already_there", what="a partner with this key")
        peer = self._peers[partner.name] = Peer(self._here, partner)
        self._listener.know(peer)
        self._dial(peer)

    def _change(self, peer: Peer, partner: Partner) -> None:
        before, peer.partner = peer.partner, partner
        if before == partner:
            return
        if partner.public_key not in before.keys:
            peer.partner = before
            raise ConfigError("already_there", what=f"the partner {partner.name}, with another key")
        self._listener.know(peer)
        if (before.address, before.certificate_der) != (partner.address, partner.certificate_der):
            peer.partner = before
            self._undial(peer)
            peer.partner = partner
            self._dial(peer)
        elif (dialer := self._dialers.get(peer.name)) is not None and not dialer.uses(
            [key.public for key in self._here.own_keys], partner.keys[:1]
        ):
            dialer.renew()

    def offer_key(self, key: PartyKey) -> None:
        """From now on this node answers to a second key as well, and calls with it where that is accepted."""
        self._here.next_own = key
        self._tell_relays()

    def turn_key(self) -> None:
        """The second key is the only one from now on."""
        here = self._here
        if here.next_own is not None:
            here.own, here.next_own = here.next_own, None
            self._listener.turned()
            self._tell_relays()
            for dialer in self._dialers.values():
                if not dialer.uses([here.own.public], dialer.partner_keys):
                    dialer.renew()

    def _tell_relays(self) -> None:
        for relay in self._relays.values():
            relay.keys_changed()

    def renew(self, name: str) -> None:
        """Shake hands with a partner anew, where this node dials it."""
        if (dialer := self._dialers.get(name)) is not None:
            dialer.renew()

    def remove_partner(self, name: str, farewell_s: float = 0.0) -> None:
        """Forget a partner; its open channels fail with LineError("closed"). While the line stands, what is said on the control
        channel before that is closed may still arrive for `farewell_s`."""
        peer = self._peer(name)
        control = peer.lanes.get((CONTROL, 0))
        if farewell_s > 0 and control is not None and peer.away_s() is None:
            task = asyncio.get_running_loop().create_task(self._farewell(peer, control, farewell_s))
            self._farewells[name] = task
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        else:
            self._forget(peer)

    async def _farewell(self, peer: Peer, control: Lane, farewell_s: float) -> None:
        await control.signal.until(lambda: control.error or control.sent, self._here.clock, farewell_s)
        del self._farewells[peer.name]
        self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        self._peers.pop(peer.name, None)
        self._listener.forget(peer)
        peer.leave()
        self._undial(peer)

    async def listen(self, host: str, port: int, ssl_context: ssl.SSLContext) -> int:
        """Listen for partners that dial us; returns the port. Make the context with `server_context`."""
        if self._server is not None:
            raise LocalError("bug", why="the link listens already")
        self._server = HttpServer(self._listener)
        return await self._server.listen(host, port, ssl_context)

    def take_from(self, address: str, certificate_der: bytes) -> Relayed:
        """Take what partners send through this relay, from now on."""
        relay = self._relay(address, certificate_der)
        self._taking.append(asyncio.create_task(relay.serve(self._listener.handle)))
        return relay

    async def start(self) -> None:
        """Begin to dial the partners that have an address."""
        if not self._started:
            self._started = True
            for peer in self._peers.values():
                self._dial(peer)

    async def close(self, drain_s: float = 1.0) -> None:
        """Wait up to `drain_s` for acknowledgements, then stop: every open channel fails with LineError("closed")."""
        clock = self._here.clock
        end_s = clock.monotonic_s() + drain_s
        for peer in self._peers.values():
            for lane in [v for v in peer.lanes.values() if v.closed and peer.away_s() is None]:
                await lane.signal.until(lane.has_sent, clock, end_s - clock.monotonic_s())
        self._started = False
        for peer in self._peers.values():
            peer.leave()
            self._undial(peer)
        if self._leaving:
            await asyncio.gather(*self._leaving)
        for task in self._taking:
            task.cancel()
        await asyncio.gather(*self._taking, return_exceptions=True)
        if self._server is not None:
            await self._server.close()
            self._server = None
        await self._http.close()

    def open(self, partner_name: str, job_digest: bytes, number: int = 0) -> LinkLine:
        """One end of a channel. Both sides call this on their own; what arrives earlier is held back by the sender."""
        if len(job_digest) != 32 or not 0 <= number < 2**16:
            raise ValueError("a job digest has 32 bytes and a channel number 16 bits")
        peer = self._peer(partner_name)
        return LinkLine(peer, peer.open(job_digest, number), self._give_up_s)

    def drop(self, partner_name: str, job_digest: bytes, number: int = 0) -> None:
        """Forget a channel that the partner may never open or close: what was not delivered is gone."""
        if (peer := self._peers.get(partner_name)) is not None:
            peer.drop(job_digest, number)

    def away_s(self, partner_name: str) -> float | None:
        """For how long the line to a partner has been down; None while it stands."""
        peer = self._peers.get(partner_name)
        return None if peer is None else peer.away_s()

    def state(self, partner_name: str) -> LinkState:
        return self._peer(partner_name).state()

    async def probe(self, partner_name: str, idle_s: float = 0.0) -> Probe:
        """Measure the path to a partner, with a silence of `idle_s` in it; raises the LineError that stands in the way."""
        peer = self._peer(partner_name)
        if (dialer := self._dialers.get(partner_name)) is not None and not (
            peer.carried_by_partner and not peer.first
        ):
            return await dialer.probe(idle_s, lambda: self._http.pace.get(partner_name))
        await peer.signal.until(lambda: peer.away_s() is None, self._here.clock, peer.patience_s())
        if peer.away_s() is not None:
            raise peer.problem()
        return Probe(peer.round_trip_s, None, None, None, peer.version, peer.clock_offset_s)

    async def handle(self, path: str, body: bytes, address: str = "") -> bytes:
        """Answer one request that came by other means than `listen`. Raises Refused."""
        return await self._listener.handle(path, body, Caller(address))

    async def post_join(
        self, address: str, certificate_der: bytes | None, body: bytes, public_key: bytes = bytes(32)
    ) -> bytes:
        """Hand `body` to the join callback of a node that is not a partner yet; used to accept an invitation.
        `public_key` is its key, by which a relay finds it.

        Raises the error whose code the other node names, or LineError.
        """
        if len(body) > LIMITS[JOIN]:
            raise ValueError("a request to join is at most 16 KiB long")
        stranger = Partner(address, public_key, address, certificate_der)
        try:
            return await self._transport(stranger, JOIN, body)
        except Refused as refusal:
            raise _refusal(refusal, address) from None
        finally:
            await self._http.forget(stranger)

    async def _send(self, partner: Partner, path: str, body: bytes) -> bytes:
        """Over HTTPS, to where a partner listens or through its relay."""
        address = partner.address or ""
        if address.startswith(SCHEME) and partner.certificate_der is not None:
            return await self._relay(address, partner.certificate_der).ask(partner, path, body)
        return await self._http(partner, path, body)

    def _relay(self, address: str, certificate_der: bytes) -> Relayed:
        place = (address.removeprefix(SCHEME), certificate_der)
        if place not in self._relays:
            self._relays[place] = Relayed(self._here, self._http, *place)
        return self._relays[place]

    def _peer(self, name: str) -> Peer:
        if (peer := self._peers.get(name)) is None:
            raise ConfigError("not_found", what=f"partner {name}", list_command="isthmus partner list")
        return peer

    def _dial(self, peer: Peer) -> None:
        if self._started and peer.dials and peer.name not in self._dialers:
            dialer = self._dialers[peer.name] = Dialer(self._here, peer, self._transport)
            dialer.start()

    def _undial(self, peer: Peer) -> None:
        """Stop dialing a partner; the rest happens in the background."""
        if (dialer := self._dialers.pop(peer.name, None)) is not None:
            dialer.cancel()
            task = asyncio.get_running_loop().create_task(self._left(dialer, peer.partner))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _left(self, dialer: Dialer, partner: Partner) -> None:
        await dialer.stopped()
        await self._http.forget(partner)

    def _count(self, name: str, sent: int, received: int) -> None:
        if (peer := self._peers.get(name)) is not None:
            peer.sent_bytes += sent
            peer.received_bytes += received


def _refusal(refusal: Refused, address: str) -> IsthmusError:
    """The error that a 403 names by its code; none of its fields crossed."""
    code = refusal.body.decode("ascii", "replace")
    if refusal.status == 403:
        for cls in CLASSES:
            if cls is not LocalError and code in cls.entries:
                return rebuild(cls.__name__, code, {})
        return PolicyError("refused", party=address)
    return LineError("unreachable", partner=address, why=f"it answers with HTTP {refusal.status}")
