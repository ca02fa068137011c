"""Idempotency keys: a request that is sent again under the same key gets the stored reply, and acts once.

The key is claimed in the store before the request acts and the reply is stored after it, so a process that dies between the
two leaves a claim without a reply: that key is answered `key_unfinished`, never acted on a second time.

A key belongs to the person who sent it. A reply that holds a secret is kept sealed; what `rights` marks as `never` is not kept,
and a key with it means nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from datetime import timedelta

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigError
from isthmus.service.problems import answer, language_of
from isthmus.service.rights import Right
from isthmus.service.vault import Vault
from isthmus.store.records import KeptReply, Store

HEADER = "idempotency-key"
KEPT = timedelta(hours=24)
KEY_MAX = 128
_MAKES_NOTHING = re.compile(r"/api/v1/(jobs|fleets/[^/]+/tasks)/plan")


class Once:
    """Stands between the gate, which has checked the token and read the body, and the routes."""

    def __init__(self, app: ASGIApp, store: Store, vault: Vault, clock: Clock, party: str) -> None:
        self._app = app
        self._store = store
        self._vault = vault
        self._clock = clock
        self._party = party
        self._under_way: dict[str, asyncio.Event] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        key = headers.get(HEADER)
        right: Right | None = scope.get("right")
        makes = right is not None and right.reply != "never" and not _MAKES_NOTHING.fullmatch(scope["path"])
        if key is None or right is None or scope["method"] != "POST" or not makes:
            await self._app(scope, receive, send)
            return
        if not (0 < len(key) <= KEY_MAX and all("!" <= sign <= "~" for sign in key)):
            allowed = f"1 to {KEY_MAX} visible ASCII characters"
            error = ConfigError(
                "out_of_bounds", field="Idempotency-Key", value="of another form", allowed=allowed
            )
            await answer(error, language_of(headers), self._party)(scope, receive, send)
            return
        message = await receive()
        digest = _digest(scope, message.get("body", b""))
        place = f"{scope['person'].name} {key}"
        while place in self._under_way:
            await self._under_way[place].wait()
        now = self._clock.now()
        kept = self._store.claim_key(KeptReply(place, digest, now), now - KEPT)
        if kept is None:
            await self._act(place, right, scope, message, receive, send)
        elif kept.request != digest:
            error = ConfigError("key_reused", key=key)
            await answer(error, language_of(headers), self._party)(scope, receive, send)
        elif kept.status is None:
            error = ConfigError("key_unfinished", key=key)
            await answer(error, language_of(headers), self._party)(scope, receive, send)
        else:
            body = self._vault.open(kept.body, place) if right.reply == "sealed" else kept.body
            await _replay(kept.status, body, send)

    async def _act(
        self, place: str, right: Right, scope: Scope, body: Message, receive: Receive, send: Send
    ) -> None:
        """Holds the reply back until it is stored. A refusal made nothing and frees the key; after a failure of ours
        nobody knows, and the claim stays."""
        said: list[Message] = []
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return body

        async def hold(message: Message) -> None:
            said.append(message)

        self._under_way[place] = asyncio.Event()
        try:
            await self._app(scope, again, hold)
            status = int(said[0]["status"])
            if status < 400:
                reply = b"".join(m.get("body", b"") for m in said[1:])
                if right.reply == "sealed":
                    reply = self._vault.seal(reply, place)
                self._store.keep_reply(place, status, reply)
            elif status < 500:
                self._store.free_key(place)
        finally:
            self._under_way.pop(place).set()
        for message in said:
            await send(message)


def _digest(scope: Scope, body: bytes) -> bytes:
    head = f"{scope['method']} {scope['path']}?".encode() + scope["query_string"] + b"\n"
    return hashlib.sha256(head + body).digest()


async def _replay(status: int, body: bytes, send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"idempotency-replayed", b"true"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
