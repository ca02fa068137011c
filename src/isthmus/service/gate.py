"""What every request passes first: the token, then the body whole and checked, and only then a route.

Nothing is open by default: a path that is not named in `OPEN` is answered 401 without a token, whether it exists or not, and no
byte of a body is read before.
"""

from __future__ import annotations

import hmac
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigError, DataError, IsthmusError, PolicyError
from isthmus.service.problems import answer, language_of

BODY_MAX_BYTES = 4 * 2**20
DEPTH_MAX = 32
OPEN = frozenset({"/health", "/ready"})
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?+', re.DOTALL)
_OTHER = re.compile(rb"[^][{}]+")


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests of one token: so many at once, and so many a second in the long run."""

    burst: int = 1000
    per_s: float = 100.0


class Gate:
    """Requests without a valid token share one bucket; those without need of one have none, so that no flood hides the node
    from its watchers."""

    def __init__(self, app: ASGIApp, token: str, party: str, clock: Clock, limits: Limits) -> None:
        self._app = app
        self._wanted = f"Bearer {token}".encode()
        self._party = party
        self._signed_in = _Bucket(clock, limits)
        self._strangers = _Bucket(clock, limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            body = b""
            if scope["path"] not in OPEN:
                self._check_token(headers)
                body = await _checked_body(headers, receive)
        except _Refusal as refusal:
            response = answer(refusal.error, language_of(headers), self._party, refusal.status)
            # What is left of the body is never read, so the connection cannot be used again.
            response.headers["connection"] = "close"
            await response(scope, receive, send)
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    def _check_token(self, headers: Headers) -> None:
        given = headers.get("authorization", "").encode("latin-1")
        known = hmac.compare_digest(given, self._wanted)
        (self._signed_in if known else self._strangers).take()
        if not known:
            raise _Refusal(PolicyError("sign_in"), 401)


class _Bucket:
    """Holds `burst` requests and gains `per_s` of them a second."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._left = float(limits.burst)
        self._since_s = clock.monotonic_s()

    def take(self) -> None:
        now_s, limits = self._clock.monotonic_s(), self._limits
        self._left = min(limits.burst, self._left + (now_s - self._since_s) * limits.per_s)
        self._since_s = now_s
        if self._left < 1:
            wait_s = math.ceil((1 - self._left) / limits.per_s)
            raise _Refusal(
                PolicyError("rate", what=f"{limits.per_s:g} requests a second", wait_s=wait_s), 429
            )
        self._left -= 1


class _Refusal(Exception):
    def __init__(self, error: IsthmusError, status: int) -> None:
        self.error = error
        self.status = status


async def _checked_body(headers: Headers, receive: Receive) -> bytes:
    body = await _read(headers, receive)
    if body:
        if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise _bad("its Content-Type is not application/json", 415)
        _check_json(body)
    return body


async def _read(headers: Headers, receive: Receive) -> bytes:
    """Refuses by the declared length before anything is read, and else by what was read so far."""
    declared = headers.get("content-length", "0")
    if not declared.isdecimal():
        raise _bad("its Content-Length is not a number")
    if len(declared) > 20 or int(declared) > BODY_MAX_BYTES:
        raise _too_large()
    parts, size_bytes, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _bad("it was broken off")
        parts.append(message.get("body", b""))
        size_bytes += len(parts[-1])
        if size_bytes > BODY_MAX_BYTES:
            raise _too_large()
        more = message.get("more_body", False)
    return b"".join(parts)


def _check_json(body: bytes) -> None:
    """Strict JSON: UTF-8, depth bounded before it is parsed, no key twice, finite numbers, text that is text."""
    depth = 0
    for sign in _OTHER.sub(b"", _STRING.sub(b"", body)):
        depth += 1 if sign in b"[{" else -1
        if depth > DEPTH_MAX:
            raise _bad(f"it is nested more than {DEPTH_MAX} deep")
    try:
        json.loads(
            body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite
        )
    except ValueError:
        raise _bad("it is not JSON") from None
    if b"\\" in body:
        _check_escapes(body)


def _check_escapes(body: bytes) -> None:
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False)
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _bad("a text in it holds half a surrogate pair") from None
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        raise _bad("a text in it holds NUL")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _bad("a name in it is given twice")
    return found


def _constant(name: str) -> float:
    raise _bad(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _bad("a number in it is beyond what can be held")
    return number


def _bad(why: str, status: int = 400) -> _Refusal:
    return _Refusal(ConfigError("bad_document", where="the request", why=why), status)


def _too_large() -> _Refusal:
    limit = f"{BODY_MAX_BYTES // 2**20} MiB"
    return _Refusal(DataError("too_large", what="the request", size="more", limit=limit), 413)
