"""A node's side of a relay: calls partners through it, and takes and answers what partners send through it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from isthmus.base.errors import LineError, PeerError
from isthmus.crypto.seal import PartyKey, fingerprint, names
from isthmus.wire.envelope import read_header
from isthmus.wire.https import HttpTransport, Reply
from isthmus.wire.listener import Caller
from isthmus.wire.peer import EXCHANGE, HELLO, Here, Partner, Refused
from isthmus.wire.relay import (
    ANSWER,
    ASK,
    CHALLENGE,
    FROM,
    NUMBER,
    PATH,
    REGISTER,
    STATUS,
    TAKE,
    TO,
    register_text,
)

SCHEME: Final = "relay+"
"""What the address of a partner begins with that is reached through a relay."""

_TAKERS: Final = 4

Handle = Callable[[str, bytes, Caller], Awaitable[bytes]]

_log = logging.getLogger(__name__)


class Relayed:
    """One relay as this node uses it. `address` is that of the relay, with or without the `relay+` in front."""

    def __init__(self, here: Here, http: HttpTransport, address: str, certificate_der: bytes) -> None:
        self._here = here
        self._http = http
        self._certificate = certificate_der
        self._place = Partner("the relay", bytes(32), address.removeprefix(SCHEME), certificate_der)
        self._tokens: dict[bytes, bytes] = {}
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self.problem: LineError | None = None
        """Why nothing can be taken from the relay; None while it answers, or before it was asked."""

    async def ask(self, partner: Partner, path: str, body: bytes) -> bytes:
        """Carries one request to a partner. Raises Refused as it was said there, or LineError."""
        headers = {TO: _receiver(partner, path, body).hex(), PATH: path}
        reply = await self._post(self._keys(), ASK, body, headers)
        if reply.status == 200:
            status = reply.headers.get(STATUS, "")
            if status == "200":
                return reply.body
            raise Refused(int(status) if status.isdecimal() and len(status) == 3 else 502, reply.body[:256])
        why = _WHY.get(reply.status, f"the relay answers with HTTP {reply.status}")
        raise LineError("unreachable", partner=partner.name, why=why)

    def keys_changed(self) -> None:
        """Take what comes for the keys that this node has now."""
        self._changed.set()

    async def serve(self, handle: Handle) -> None:
        """Takes requests and answers them, for every key of this node, until it is cancelled."""
        takers: dict[bytes, list[asyncio.Task[None]]] = {}
        try:
            while True:
                keys = {key.public: key for key in self._here.own_keys}
                for public in set(takers) - set(keys):
                    _cancel(takers.pop(public))
                for public in set(keys) - set(takers):
                    work = [self._take_all(keys[public], handle) for _ in range(_TAKERS)]
                    takers[public] = [asyncio.create_task(one) for one in work]
                await self._changed.wait()
                self._changed.clear()
        finally:
            left = [task for some in takers.values() for task in some]
            _cancel(left)
            await asyncio.gather(*left, return_exceptions=True)

    async def _take_all(self, key: PartyKey, handle: Handle) -> None:
        tries = 0
        answering: set[asyncio.Task[None]] = set()
        try:
            while True:
                try:
                    reply = await self._post([key], TAKE, b"")
                    if reply.status != 200:
                        raise LineError(
                            "unreachable",
                            partner="the relay",
                            why=_WHY.get(reply.status, f"HTTP {reply.status}"),
                        )
                except LineError as error:
                    tries += 1
                    if key is self._here.own:
                        self.problem = error
                    await self._here.clock.sleep(self._here.pause_s(tries))
                    continue
                tries = 0
                if key is self._here.own:
                    self.problem = None
                if NUMBER in reply.headers:
                    task = asyncio.create_task(self._answer(key, reply, handle))
                    answering.add(task)
                    task.add_done_callback(answering.discard)
        finally:
            _cancel(list(answering))
            await asyncio.gather(*answering, return_exceptions=True)

    async def _answer(self, key: PartyKey, asked: Reply, handle: Handle) -> None:
        caller = Caller(f"relay/{asked.headers.get(FROM, '')[:32]}")
        try:
            status, body = 200, await handle(asked.headers.get(PATH, "")[:64], asked.body, caller)
        except Refused as refusal:
            status, body = refusal.status, refusal.body
        if caller.peer is not None:
            caller.peer.received_bytes += len(asked.body)
            caller.peer.sent_bytes += len(body)
        headers = {NUMBER: asked.headers[NUMBER][:20], STATUS: str(status)}
        try:
            await self._post([key], ANSWER, body, headers)
        except LineError as error:
            _log.debug("an answer did not reach the relay: %s", error)  # the caller asks again

    # --- who this node is ---

    def _keys(self) -> list[PartyKey]:
        """A key that has registered already is as good as any."""
        return sorted(self._here.own_keys, key=lambda key: key.public not in self._tokens)

    async def _post(
        self, keys: list[PartyKey], path: str, body: bytes, headers: dict[str, str] | None = None
    ) -> Reply:
        """As one of these parties; registers where that is needed."""
        reply = None
        for again in (False, True):
            async with self._lock:
                token = await self._token(keys)
            bearer = {"Authorization": f"Bearer {token.hex()}"}
            try:
                reply = await self._http.post(self._place, path, body, {**bearer, **(headers or {})})
            except Refused as refusal:
                raise LineError(
                    "unreachable", partner="the relay", why=f"it answers with HTTP {refusal.status}"
                ) from None
            if reply.status != 401 or again:
                break
            self._tokens = {public: kept for public, kept in self._tokens.items() if kept != token}
        assert reply is not None
        return reply

    async def _token(self, keys: list[PartyKey]) -> bytes:
        for key in keys:
            if (token := self._tokens.get(key.public)) is None:
                token = await self._register(key)
            if token is not None:
                return token
        raise LineError("unreachable", partner="the relay", why="it does not accept the key of this node")

    async def _register(self, key: PartyKey) -> bytes | None:
        """A token, or None where the relay does not take this key."""
        try:
            nonce = (await self._http.post(self._place, CHALLENGE, b"")).body
            text = register_text(self._certificate, nonce)
            reply = await self._http.post(self._place, REGISTER, key.public + nonce + key.sign(text))
        except Refused as refusal:
            raise LineError(
                "unreachable", partner="the relay", why=f"it answers with HTTP {refusal.status}"
            ) from None
        if reply.status == 403:
            return None
        if reply.status != 200 or len(reply.body) != 32:
            why = _WHY.get(reply.status, f"it answers with HTTP {reply.status}")
            raise LineError("unreachable", partner="the relay", why=why)
        self._tokens[key.public] = reply.body
        return reply.body


_WHY: Final = {
    429: "the relay holds as much for these parties as it may",
    503: "the relay does not hear from it",
    504: "no answer came through the relay in time",
}


def _receiver(partner: Partner, path: str, body: bytes) -> bytes:
    """Whom a request is for; while a key is being changed, the envelope knows better than the partner's record."""
    try:
        if path == HELLO:
            return names(body)[1]
        if path == EXCHANGE:
            return read_header(body).receiver
    except PeerError:
        pass
    return fingerprint(partner.public_key)


def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
