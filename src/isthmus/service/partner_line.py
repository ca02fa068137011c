"""What two nodes say to each other about their line and their keys, on a channel beside that of the jobs.

    1  KeyOffered   the new key, signed with the old one and with itself  -------->  pinned beside the old one
    2                                                                     <--------  KeyPinned

    3  RatesAsked   how fast is the line?                                 -------->  the side that dials measures
    4                                                                     <--------  RatesTold, also without being asked

What was to be said is said again whenever a line to the partner begins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

from isthmus.base.errors import IsthmusError, LineError, PeerError
from isthmus.wire.channel import Line
from isthmus.wire.link import CONTROL
from isthmus.wire.message import Message, Number, Raw, kind_of

CHANNEL = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeyOffered(Message):
    """The sender's next public key; for `overlap_s` seconds the old one counts as well. Both have signed `offer_text`."""

    KIND: ClassVar[int] = 0x0901
    new_key: Annotated[bytes, Raw(32)]
    overlap_s: Annotated[int, Number("I")]
    by_old: Annotated[bytes, Raw(64)]
    by_new: Annotated[bytes, Raw(64)]


@dataclass(frozen=True)
class KeyPinned(Message):
    """The receiver's next key is pinned here, durably."""

    KIND: ClassVar[int] = 0x0902
    new_key: Annotated[bytes, Raw(32)]


@dataclass(frozen=True)
class RatesAsked(Message):
    KIND: ClassVar[int] = 0x0903


@dataclass(frozen=True)
class RatesTold(Message):
    """Round trip, and bytes a second away from the sender and towards it; nothing is 0 where it was not measured."""

    KIND: ClassVar[int] = 0x0904
    round_trip_s: Annotated[float, Number("d")]
    up_bytes_per_s: Annotated[float, Number("d")]
    down_bytes_per_s: Annotated[float, Number("d")]


PartnerMessage = KeyOffered | KeyPinned | RatesAsked | RatesTold


class Opens(Protocol):
    """What is needed of the link."""

    def open(self, partner_name: str, job_digest: bytes, number: int = 0) -> Line: ...


class PartnerLines:
    """One channel to every partner. `greeting` is what a partner is told when a line to it begins, `take` hears the rest."""

    def __init__(
        self,
        lines: Opens,
        greeting: Callable[[str], Iterable[Message]],
        take: Callable[[str, PartnerMessage], None],
    ) -> None:
        self._lines = lines
        self._greeting = greeting
        self._take = take
        self._outboxes: dict[str, asyncio.Queue[Message]] = {}
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}

    def begin(self, partner: str) -> None:
        """Begin to talk to a confirmed partner, once."""
        if partner not in self._outboxes:
            outbox = self._outboxes[partner] = asyncio.Queue()
            line = self._lines.open(partner, CONTROL, CHANNEL)
            self._tasks[partner] = set()
            self._spawn(partner, self._send_all(line, outbox))
            self._spawn(partner, self._listen(line, partner))
            self._greet(partner)

    def end(self, partner: str) -> None:
        """Stop talking to a partner."""
        self._outboxes.pop(partner, None)
        for task in self._tasks.pop(partner, ()):
            task.cancel()

    def say(self, partner: str, message: Message) -> None:
        if (outbox := self._outboxes.get(partner)) is not None:
            outbox.put_nowait(message)

    @property
    def partners(self) -> list[str]:
        return list(self._outboxes)

    async def close(self) -> None:
        tasks = [task for some in self._tasks.values() for task in some]
        for partner in self.partners:
            self.end(partner)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _greet(self, partner: str) -> None:
        for message in self._greeting(partner):
            self.say(partner, message)

    def _spawn(self, partner: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[partner].add(task)

    async def _send_all(self, line: Line, outbox: asyncio.Queue[Message]) -> None:
        while True:
            message = await outbox.get()
            try:
                await line.put(message.encode())
            except LineError as error:
                if error.code == "closed":
                    return

    async def _listen(self, line: Line, partner: str) -> None:
        while True:
            try:
                self._take(partner, decode_partner(await line.get()))
            except LineError as error:
                if error.code == "closed":
                    return
                self._greet(partner)
            except IsthmusError as error:
                _log.warning("%s on the partner channel of %s: dropped", error.code, partner)


def decode_partner(body: bytes) -> PartnerMessage:
    """Raises PeerError for anything that is not one of the messages above."""
    kind = kind_of(body)
    for message in (KeyOffered, KeyPinned, RatesAsked, RatesTold):
        if kind == message.KIND:
            return message.decode(body)
    raise PeerError("bad_message", why=f"kind {kind:#06x} is not between nodes")
