"""A relay: passes requests and answers between parties that only call out. It cannot read what it passes on.

    caller                        relay                        the party called
      |                             |  POST take, held back      |
      |  POST ask: to, path, body   |<---------------------------|
      |---------------------------->|  ask: number, from, path, body
      |                             |--------------------------->|
      |                             |  POST answer: number, status, body
      |  status, body               |<---------------------------|
      |<----------------------------|

A party shows with a signature over a challenge that a key is its own, and gets a token that lives in memory. The relay knows
fingerprints, paths, sizes and times. Bodies are envelopes, sealed from end to end; they are held in memory until they are
passed on, within bounds for every party and for all together, and are written nowhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import PeerError
from isthmus.crypto.seal import fingerprint, verify
from isthmus.wire.envelope import ENVELOPE_MAX_BYTES
from isthmus.wire.https import TlsServer
from isthmus.wire.listener import LIMITS, Guard
from isthmus.wire.peer import Refused
from isthmus.wire.signal import Signal

CHALLENGE: Final = "/relay/v1/challenge"
REGISTER: Final = "/relay/v1/register"
ASK: Final = "/relay/v1/ask"
TAKE: Final = "/relay/v1/take"
ANSWER: Final = "/relay/v1/answer"

TO: Final = "Isthmus-To"
FROM: Final = "Isthmus-From"
PATH: Final = "Isthmus-Path"
NUMBER: Final = "Isthmus-Number"
STATUS: Final = "Isthmus-Status"

TAKE_S: Final = 20.0
"""How long a request for work is held back; below the idle cut of gateways."""

_LIMITS: Final = {CHALLENGE: 0, REGISTER: 128, ASK: ENVELOPE_MAX_BYTES, TAKE: 0, ANSWER: ENVELOPE_MAX_BYTES}
_ANSWER_S: Final = 90.0
_CHALLENGE_S: Final = 60.0
_CHALLENGES_MAX: Final = 1000
_STRANGERS_A_MINUTE: Final = 60
_MEMBERS_MAX: Final = 1000
_TOKENS_KEPT: Final = 8
_REGISTER = b"isthmus/relay/register/v1\0"


def register_text(certificate_der: bytes, nonce: bytes) -> bytes:
    """What a party signs: for this relay, and no other."""
    return _REGISTER + hashlib.sha256(certificate_der).digest() + nonce


@dataclass(frozen=True, slots=True)
class Quota:
    """What is held at most: requests and bytes of one party, on either side, and bytes of all."""

    requests: int = 256
    party_bytes: int = 64 * 2**20
    all_bytes: int = 512 * 2**20


@dataclass(slots=True)
class Ask:
    """One request on its way; the answer is a status and a body."""

    number: int
    sender: bytes
    receiver: bytes
    path: str
    body: bytes = field(repr=False)
    answer: asyncio.Future[tuple[int, bytes]] = field(repr=False)


@dataclass(slots=True)
class _Member:
    """A party that has registered."""

    queue: deque[Ask] = field(default_factory=deque)
    signal: Signal = field(default_factory=Signal)
    passes: list[bytes] = field(default_factory=list)
    taking: int = 0
    taken_s: float = float("-inf")
    requests: int = 0
    held_bytes: int = 0


class Relay(TlsServer):
    """Listens with the certificate `certificate_der`; `parties` are the fingerprints that may register, None: any."""

    def __init__(
        self,
        certificate_der: bytes,
        parties: Collection[bytes] | None = None,
        quota: Quota | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(_LIMITS)
        self._certificate = certificate_der
        self._parties = parties
        self._quota = quota or Quota()
        self._clock = clock or SystemClock()
        self._guard = Guard(self._clock, _STRANGERS_A_MINUTE)
        self._challenges: OrderedDict[bytes, float] = OrderedDict()
        self._members: OrderedDict[bytes, _Member] = OrderedDict()
        self._tokens: dict[bytes, bytes] = {}
        self._asks: dict[int, Ask] = {}
        self._held_bytes = 0
        self._closing = False

    async def close(self) -> None:
        self._closing = True
        for member in self._members.values():
            member.signal.notify()
        for ask in list(self._asks.values()):
            self._answered(ask, 503, b"")
        await super().close()

    async def _reply(self, request: web.BaseRequest) -> web.Response:
        size = self._size(request)
        if request.path == CHALLENGE:
            return web.Response(body=self._challenge(request.remote or ""))
        if request.path == REGISTER:
            return web.Response(body=self._register(await self._body(request), request.remote or ""))
        own = self._member_of(request)
        if request.path == TAKE:
            return await self._take(own)
        if request.path == ANSWER:
            return await self._take_answer(own, request)
        return await self._ask(own, request, size)

    # --- who is who ---

    def _challenge(self, address: str) -> bytes:
        self._guard.check(address)
        self._guard.blame(address)
        nonce = secrets.token_bytes(32)
        self._challenges[nonce] = self._clock.monotonic_s()
        while len(self._challenges) > _CHALLENGES_MAX:
            self._challenges.popitem(last=False)
        return nonce

    def _register(self, body: bytes, address: str) -> bytes:
        """A token for the key that answers a challenge."""
        self._guard.check(address)
        public, nonce, signature = body[:32], body[32:64], body[64:]
        made_s = self._challenges.pop(nonce, None)
        try:
            if made_s is None or self._clock.monotonic_s() - made_s > _CHALLENGE_S:
                raise PeerError("bad_signature", partner="a stranger")
            verify(public, signature, register_text(self._certificate, nonce), "a stranger")
        except PeerError as error:
            self._guard.blame(address)
            raise Refused(401) from error
        name = fingerprint(public)
        if self._parties is not None and name not in self._parties:
            raise Refused(403)
        if (member := self._members.get(name)) is None:
            if len(self._members) >= _MEMBERS_MAX:
                self._forget_one()
            member = self._members[name] = _Member()
        self._members.move_to_end(name)
        token = secrets.token_bytes(32)
        kept = hashlib.sha256(token).digest()
        self._tokens[kept] = name
        member.passes.append(kept)
        for old in member.passes[:-_TOKENS_KEPT]:
            del self._tokens[old]
        del member.passes[:-_TOKENS_KEPT]
        return token

    def _forget_one(self) -> None:
        """Makes room for a new member, if one is idle."""
        idle = next((n for n, m in self._members.items() if not (m.taking or m.requests or m.queue)), None)
        if idle is None:
            raise Refused(503)
        for token in self._members.pop(idle).passes:
            del self._tokens[token]

    def _member_of(self, request: web.BaseRequest) -> bytes:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            name = self._tokens.get(hashlib.sha256(bytes.fromhex(token)).digest())
        except ValueError:
            name = None
        if scheme != "Bearer" or name is None:
            raise Refused(401)
        return name

    # --- requests and answers ---

    async def _ask(self, own: bytes, request: web.BaseRequest, size: int) -> web.Response:
        path = request.headers.get(PATH, "")
        try:
            receiver = bytes.fromhex(request.headers.get(TO, ""))
        except ValueError:
            raise Refused(400) from None
        if path not in LIMITS or size > LIMITS[path]:
            raise Refused(400)
        there, here = self._members.get(receiver), self._members[own]
        if there is None or not (there.taking or self._clock.monotonic_s() - there.taken_s < TAKE_S):
            raise Refused(503)
        quota = self._quota
        for member in (here, there):
            if member.requests >= quota.requests or member.held_bytes + size > quota.party_bytes:
                raise Refused(429)
        if self._held_bytes + size > quota.all_bytes:
            raise Refused(429)
        self._hold(here, there, 1, size)
        try:
            body = await self._body(request)
            answer = asyncio.get_running_loop().create_future()
            ask = Ask(secrets.randbits(63), own, receiver, path, body, answer)
            self._asks[ask.number] = ask
            try:
                self._pass_on(ask)
                async with asyncio.timeout(_ANSWER_S):
                    status, reply = await answer
            except TimeoutError:
                raise Refused(504) from None
            finally:
                self._asks.pop(ask.number, None)
                if ask in there.queue:
                    there.queue.remove(ask)
        finally:
            self._hold(here, there, -1, -size)
        if status == 503 and self._closing:
            raise Refused(503)
        return web.Response(body=reply, headers={STATUS: str(status)})

    def _hold(self, here: _Member, there: _Member, requests: int, size: int) -> None:
        for member in {id(here): here, id(there): there}.values():
            member.requests += requests
            member.held_bytes += size
        self._held_bytes += size

    def _pass_on(self, ask: Ask) -> None:
        there = self._members[ask.receiver]
        there.queue.append(ask)
        there.signal.notify()

    async def _take(self, own: bytes) -> web.Response:
        member = self._members[own]
        member.taking += 1
        try:
            await member.signal.until(lambda: member.queue or self._closing, self._clock, TAKE_S)
        finally:
            member.taking -= 1
            member.taken_s = self._clock.monotonic_s()
        if not member.queue:
            return web.Response(body=b"")
        ask = member.queue.popleft()
        headers = {NUMBER: str(ask.number), PATH: ask.path, FROM: ask.sender.hex()}
        return web.Response(body=ask.body, headers=headers)

    async def _take_answer(self, own: bytes, request: web.BaseRequest) -> web.Response:
        number, status = request.headers.get(NUMBER, ""), request.headers.get(STATUS, "")
        ask = self._asks.get(int(number)) if number.isdecimal() and len(number) < 20 else None
        if ask is None or ask.receiver != own or ask.answer.done():
            raise Refused(404)
        if status not in _STATUSES:
            raise Refused(400)
        self._answered(ask, int(status), await self._body(request))
        return web.Response(body=b"")

    def _answered(self, ask: Ask, status: int, body: bytes) -> None:
        if not ask.answer.done():
            ask.answer.set_result((status, body))


_STATUSES: Final = frozenset(str(status) for status in (200, 400, 403, 404, 409, 410, 413, 426, 429, 503))
