"""One session: seals with a counter that is never reset, opens what the partner sealed, and answers replays.

Sessions are bound to the two processes, not to a connection: after a broken connection the session goes on, and what was
under way in an older session is still understood for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from hmac import compare_digest
from typing import Any, Final

from isthmus.base.errors import PeerError
from isthmus.crypto.seal import PartyKey, SessionKeys, fingerprint, seal, unseal
from isthmus.wire.envelope import HEADER_BYTES, Header, Kind, read_header

_WINDOW: Final = 2048  # counters that are told apart; more than may be under way at once
_STORED_BYTES: Final = 2 * 2**20

_NOTHING = hashlib.sha256(b"").digest()


class Session:
    """Keys, counters and names of one session, seen from one side."""

    def __init__(self, own: PartyKey, partner_public: bytes, keys: SessionKeys, partner: str) -> None:
        self.id = keys.id
        self.boot = keys.theirs.boot
        self.poll_s = keys.theirs.poll_ms / 1000
        self.replies = Replies()
        self.own_public = own.public
        self.partner_public = partner_public
        self._own = own
        self._public = partner_public
        self._fingerprint = fingerprint(partner_public)
        self._keys = keys
        self._partner = partner
        self._counter = 0

    def __repr__(self) -> str:
        return f"Session({self.id.hex()})"

    def seal(
        self, kind: Kind, body: bytes | memoryview = b"", digest: bytes | None = None, **fields: Any
    ) -> tuple[int, bytes]:
        """(counter, envelope). `fields` are those of Header; `digest` saves hashing the body again."""
        self._counter += 1
        header = Header(
            kind,
            self.id,
            self._counter,
            self._own.fingerprint,
            self._fingerprint,
            body_bytes=len(body),
            **fields,
        ).pack()
        digest = digest or (hashlib.sha256(body).digest() if len(body) else _NOTHING)
        return self._counter, seal(self._keys.sending, self._own, self._counter, header, body, digest)

    def open(self, envelope: bytes) -> tuple[Header, bytes, bytes]:
        """(header, body, SHA-256 of the body), all verified. Raises PeerError."""
        header = read_header(envelope)
        body, digest = unseal(
            self._keys.receiving, self._public, header.counter, envelope, HEADER_BYTES, self._partner
        )
        if (header.session, header.sender, header.receiver) != (
            self.id,
            self._fingerprint,
            self._own.fingerprint,
        ):
            raise PeerError("wrong_channel")
        return header, body, digest


class Replies:
    """Which requests of a session have come, and the replies that may be asked for again.

    A request counts once. The very same one gets the very same reply; when that is no longer stored (replies are kept
    up to 2 MiB), it is refused. In neither case is it applied.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[int, tuple[bytes, asyncio.Future[bytes]]] = OrderedDict()
        self._below = 0
        self._stored: OrderedDict[int, int] = OrderedDict()
        self._stored_bytes = 0

    def admit(self, counter: int, envelope: bytes) -> asyncio.Future[bytes] | None:
        """None when the request is new; else its reply, perhaps still to come, empty if there is none any more.

        Raises PeerError when the counter was used for another request or is too old to tell.
        """
        tag = hashlib.sha256(memoryview(envelope)[-256:]).digest()
        if (before := self._seen.get(counter)) is not None:
            known, reply = before
            if not compare_digest(known, tag):
                raise PeerError("bad_message", why="this counter was used before")
            return reply
        if counter <= self._below:
            raise PeerError("bad_message", why="this counter is too old")
        self._seen[counter] = (tag, asyncio.get_running_loop().create_future())
        while len(self._seen) > _WINDOW:
            oldest = next(iter(self._seen))
            self._below = max(self._below, oldest)
            self._drop(oldest)
            del self._seen[oldest]
        return None

    def store(self, counter: int, reply: bytes) -> None:
        """Keep the reply of an admitted request; empty if it got none."""
        if (entry := self._seen.get(counter)) is None:
            return
        entry[1].set_result(reply)
        self._stored[counter] = len(reply)
        self._stored_bytes += len(reply)
        while self._stored_bytes > _STORED_BYTES:
            self._drop(next(iter(self._stored)))

    def _drop(self, counter: int) -> None:
        if (size := self._stored.pop(counter, None)) is None:
            return
        self._stored_bytes -= size
        gone: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        gone.set_result(b"")
        self._seen[counter] = (self._seen[counter][0], gone)
