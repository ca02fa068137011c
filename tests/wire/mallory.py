"""A partner with a real key and no manners: writes its own envelopes, as dialer or as listener."""

from __future__ import annotations

import hashlib
from typing import Any

from isthmus.crypto.seal import Dialing, PartyKey, answer
from isthmus.wire.envelope import MESSAGE_ENDS, Header, Kind
from isthmus.wire.lane import first_link, next_link
from isthmus.wire.link import Link, Partner
from isthmus.wire.peer import EXCHANGE, HELLO, end_of
from isthmus.wire.session import Session
from tests.wire.pair import JOB

BOOT = b"M" * 16


class Frames:
    """A well-formed chain of frames, whose fields may be changed before they are sent."""

    def __init__(self, sender: str, receiver: str, job: bytes = JOB, channel: int = 0) -> None:
        self.link = first_link(job, channel, end_of(sender), end_of(receiver))
        self.number = 0

    def next(self, body: bytes, ends: int = MESSAGE_ENDS) -> dict[str, Any]:
        self.number += 1
        fields = {"number": self.number, "ends": ends, "previous": self.link}
        self.link = next_link(self.link, self.number, ends, hashlib.sha256(body).digest())
        return fields


class MalloryDials:
    """Talks to an honest link as the partner whose key it holds."""

    def __init__(self, link: Link, own: PartyKey, theirs: PartyKey) -> None:
        self.link = link
        self.own = own
        self.theirs = theirs
        self.session: Session | None = None
        self.frames = Frames("b", "a")

    async def shake(self, boot: bytes = BOOT, poll_ms: int = 50) -> Session:
        dialing = Dialing(self.own, self.theirs.public, boot, 0, poll_ms)
        keys = dialing.finish(await self.link.handle(HELLO, dialing.hello))
        self.session = Session(self.own, self.theirs.public, keys, "a")
        return self.session

    def seal(self, kind: Kind, body: bytes = b"", **fields: Any) -> bytes:
        assert self.session is not None
        return self.session.seal(kind, body, **{"job": JOB, **fields})[1]

    async def send(self, envelope: bytes) -> tuple[Header, bytes]:
        assert self.session is not None
        header, body, _ = self.session.open(await self.link.handle(EXCHANGE, envelope))
        return header, body

    async def ask(self, kind: Kind, body: bytes = b"", **fields: Any) -> tuple[Header, bytes]:
        return await self.send(self.seal(kind, body, **fields))


class MalloryListens:
    """A transport that is the partner itself; `pulled` makes the answer to each PULL."""

    def __init__(self, own: PartyKey, theirs: PartyKey) -> None:
        self.own = own
        self.theirs = theirs
        self.frames = Frames("a", "b")
        self.session: Session | None = None
        self.heard: list[tuple[Header, bytes]] = []
        self.script: list[tuple[Kind, bytes, dict[str, Any]]] = []

    async def __call__(self, partner: Partner, path: str, body: bytes) -> bytes:
        if path == HELLO:
            reply, keys = answer(self.own, self.theirs.public, body, BOOT, 0)
            self.session = Session(self.own, self.theirs.public, keys, "b")
            return reply
        assert self.session is not None
        header, content, _ = self.session.open(body)
        self.heard.append((header, content))
        kind, said = Kind.EMPTY, b""
        fields: dict[str, Any] = {}
        if header.kind == Kind.PING:
            kind = Kind.PONG
        elif header.kind in (Kind.TOLD, Kind.FAIL):
            kind = Kind.ACK
        elif header.kind == Kind.PUSH:
            kind, fields = Kind.ACK, {"ack": header.number}
        elif self.script:
            kind, said, fields = self.script.pop(0)
        where: dict[str, Any] = {"job": header.job, "channel": header.channel, "answers": header.counter}
        return self.session.seal(kind, said, **{**where, **fields})[1]
