"""What every request passes first: who sends it, whether that person may, then the body whole and checked, and only then a route.

Nothing is open by default. A path that is not named in `OPEN`, and is not the door where people sign in, is answered 401 to a
stranger, whether it exists or not, and no byte of a body is read before. A route without a row in `rights` does not exist, and
whoever has a role too low hears which one is needed and who can give it. This is the only place that decides.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import re
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigError, DataError, IsthmusError, PolicyError
from isthmus.service.audit import LOCAL, Audit
from isthmus.service.problems import answer, language_of
from isthmus.service.rights import Right, Rights
from isthmus.service.users import Person, Users
from isthmus.store.audit import AuditKind
from isthmus.store.settings import Limits
from isthmus.store.users import USER_ROLES

BODY_MAX_BYTES = 4 * 2**20
DOOR_MAX_BYTES = 16 * 2**10
DEPTH_MAX = 32
OPEN = frozenset({"/health", "/ready"})
BUCKETS_MAX = 10_000
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?+', re.DOTALL)
_OTHER = re.compile(rb"[^][{}]+")


class Gate:
    """`token`: that of the folder, None where it opens nothing. What passes finds `person` (None at the door) and `right` in
    its scope.

    Each token and each person has a bucket of requests; strangers share one, so that no flood hides the node from its
    watchers. Sign-ins have stricter ones, by name and by address.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        users: Users,
        audit: Audit,
        party: str,
        clock: Clock,
        limits: Limits,
        rights: Rights | None = None,
    ) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._users = users
        self._audit = audit
        self._party = party
        self._limits = limits
        self._rights = rights or Rights()
        self._strangers = _Bucket(clock, limits.burst, limits.per_s)
        self._known = _Buckets(lambda: _Bucket(clock, limits.burst, limits.per_s))
        often = limits.sign_ins_per_min
        self._sign_ins = _Buckets(lambda: _Bucket(clock, often, often / 60))
        self._all_sign_ins = _Bucket(clock, 10 * often, 10 * often / 60)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        person: Person | None = None
        try:
            body = b""
            if scope["path"] not in OPEN:
                person, right = self._admit(scope, headers)
                body = await self._body(headers, receive, DOOR_MAX_BYTES if right.door else BODY_MAX_BYTES)
                if right.door:
                    self._check_name(body)
                scope["person"], scope["right"] = person, right
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

        with self._audit.acting(person.name if person else "stranger"):
            await self._app(scope, again, send)

    def _admit(self, scope: Scope, headers: Headers) -> tuple[Person | None, Right]:
        """Who it is, if that person may do this."""
        method, path = scope["method"], scope["path"]
        row = self._rights.row(method, path)
        if row is not None and row[1].door:
            self._all_sign_ins.take()
            self._sign_ins.of("address", (scope.get("client") or ("",))[0]).take()
            return None, row[1]
        person = self._who(headers)
        if person is None:
            self._strangers.take()
            raise _Refusal(PolicyError("sign_in"), 401)
        self._known.of("token", person.pass_id).take()
        self._known.of("person", person.name).take()
        if row is None:
            missing = ConfigError("not_found", what="such a route", list_command="isthmus --help")
            raise _Refusal(missing, 405 if self._rights.known(path) else 404)
        template, right = row
        error = self._objection(person, right)
        if error is not None:
            subject = f"{method}{template}".lower().replace("{", "").replace("}", "")
            by = self._audit.actor(person.name)
            self._audit.write_refusal(AuditKind.ACCESS_REFUSED, subject, by, error.code)
            raise _Refusal(error, 403)
        return person, right

    def _who(self, headers: Headers) -> Person | None:
        scheme, _, given = headers.get("authorization", "").encode("latin-1").partition(b" ")
        if scheme != b"Bearer":
            return None
        if self._token is not None and hmac.compare_digest(given, self._token):
            return Person(LOCAL, "local", frozenset(USER_ROLES) - {"service"}, LOCAL)
        return self._users.who(given)

    def _objection(self, person: Person, right: Right) -> PolicyError | None:
        if not person.roles & right.roles:
            needed = " or ".join(role for role in USER_ROLES if role in right.roles)
            return PolicyError("role", needed=needed, admins=self._users.admins()[:5] or [LOCAL])
        if person.enrolling and not right.own:
            return PolicyError("second_factor")
        return None

    def _check_name(self, body: bytes) -> None:
        """Takes from the bucket of the name, whether anybody has that name or not."""
        given = json.loads(body) if body else None
        name = given.get("name") if isinstance(given, dict) else None
        if isinstance(name, str):
            self._sign_ins.of("name", name[:64]).take()

    async def _body(self, headers: Headers, receive: Receive, most: int) -> bytes:
        try:
            async with asyncio.timeout(self._limits.body_s):
                return await _checked_body(headers, receive, most)
        except TimeoutError:
            raise _Refusal(ConfigError("body_late", limit=f"{self._limits.body_s:g}"), 408) from None


class _Bucket:
    """Holds `burst` requests and gains `per_s` of them a second."""

    def __init__(self, clock: Clock, burst: int, per_s: float) -> None:
        self._clock = clock
        self._burst = burst
        self._per_s = per_s
        self._left = float(burst)
        self._since_s = clock.monotonic_s()

    def take(self) -> None:
        self._fill()
        if self._left < 1:
            wait_s = math.ceil((1 - self._left) / self._per_s)
            often = f"{self._per_s:g} requests a second"
            if self._per_s < 1:
                often = f"{self._per_s * 60:g} requests a minute"
            raise _Refusal(PolicyError("rate", what=often, wait_s=wait_s), 429)
        self._left -= 1

    def full(self) -> bool:
        self._fill()
        return self._left >= self._burst

    def _fill(self) -> None:
        now_s = self._clock.monotonic_s()
        self._left = min(self._burst, self._left + (now_s - self._since_s) * self._per_s)
        self._since_s = now_s


class _Buckets:
    """A bucket a name. Full ones are forgotten when there are too many, and then the oldest."""

    def __init__(self, make: Callable[[], _Bucket]) -> None:
        self._make = make
        self._found: dict[tuple[str, str], _Bucket] = {}

    def of(self, kind: str, name: str) -> _Bucket:
        if len(self._found) >= BUCKETS_MAX and (kind, name) not in self._found:
            self._found = {key: bucket for key, bucket in self._found.items() if not bucket.full()}
            while len(self._found) >= BUCKETS_MAX:
                del self._found[next(iter(self._found))]
        return self._found.setdefault((kind, name), self._make())


class _Refusal(Exception):
    def __init__(self, error: IsthmusError, status: int) -> None:
        self.error = error
        self.status = status


async def _checked_body(headers: Headers, receive: Receive, most: int) -> bytes:
    body = await _read(headers, receive, most)
    if body:
        if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise _bad("its Content-Type is not application/json", 415)
        _check_json(body)
    return body


async def _read(headers: Headers, receive: Receive, most: int) -> bytes:
    """Refuses by the declared length before anything is read, and else by what was read so far."""
    declared = headers.get("content-length", "0")
    if not declared.isdecimal():
        raise _bad("its Content-Length is not a number")
    if len(declared) > 20 or int(declared) > most:
        raise _too_large(most)
    parts, size_bytes, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _bad("it was broken off")
        parts.append(message.get("body", b""))
        size_bytes += len(parts[-1])
        if size_bytes > most:
            raise _too_large(most)
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


def _too_large(most: int) -> _Refusal:
    limit = f"{most // 2**10} KiB"
    return _Refusal(DataError("too_large", what="the request", size="more", limit=limit), 413)
