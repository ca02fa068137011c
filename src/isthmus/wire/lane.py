"""One channel of the link on one side: an outbox of frames not yet acknowledged, an inbox of frames not yet taken.

    put ──> outbox: 1 2 3 ... ──> frames ──> inbox: in order, each once ──> get
                ^                                  |
                └────────── acknowledged ──────────┘

Frames are numbered from 1 and chained: each names the digest of all before it. The receiver buffers what comes out of
order within eight frames, applies nothing twice, and finds a number that comes again with another body.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from isthmus.base.errors import IsthmusError, PeerError
from isthmus.wire.envelope import BODY_MAX_BYTES, MESSAGE_ENDS, STREAM_ENDS, Header
from isthmus.wire.message import MESSAGE_MAX_BYTES
from isthmus.wire.signal import Signal

WINDOW: Final = 8
_REMEMBERED: Final = 4096

_LINK = struct.Struct("<32sQB32s")


def first_link(job: bytes, number: int, sender: bytes, receiver: bytes) -> bytes:
    """What the first frame of one direction of one channel names as previous."""
    return hashlib.sha256(
        b"isthmus/link/chain/v1" + job + number.to_bytes(2, "little") + sender + receiver
    ).digest()


def next_link(previous: bytes, number: int, ends: int, digest: bytes) -> bytes:
    return hashlib.sha256(_LINK.pack(previous, number, ends, digest)).digest()


@dataclass(slots=True)
class Frame:
    """One frame that goes out; digest and links are filled in when it is its turn."""

    number: int
    ends: int
    body: memoryview
    digest: bytes = b""
    previous: bytes = b""
    claimed: bool = False


class Outbox:
    """Frames stay here until they are acknowledged."""

    def __init__(self, link: bytes) -> None:
        self.acked = 0
        self.newest = 0
        self.shown = 0
        """The newest frame that has been handed out."""
        self._link = link
        self._ready = 0
        self._frames: dict[int, Frame] = {}

    @property
    def empty(self) -> bool:
        return not self._frames

    @property
    def has_room(self) -> bool:
        return len(self._frames) <= WINDOW

    def add(self, body: bytes) -> None:
        """Queue one message, cut into frames; the bytes are not copied."""
        view = memoryview(body)
        for start in range(0, len(view) or 1, BODY_MAX_BYTES):
            last = start + BODY_MAX_BYTES >= len(view)
            self._append(MESSAGE_ENDS if last else 0, view[start : start + BODY_MAX_BYTES])

    def add_end(self) -> None:
        self._append(STREAM_ENDS, memoryview(b""))

    def claim(self) -> Frame | None:
        """The first frame within the window that nobody is sending, now being sent by the caller."""
        if (frame := self.claimable()) is None:
            return None
        frame.claimed = True
        return self.frame(frame.number)

    def claimable(self) -> Frame | None:
        """The first frame within the window that nobody is sending."""
        for number in range(self.acked + 1, min(self.acked + WINDOW, self.newest) + 1):
            if not self._frames[number].claimed:
                return self._frames[number]
        return None

    def frame(self, number: int) -> Frame | None:
        """Frame `number`, ready to be sent, if it is in the window."""
        if number > self.acked + WINDOW or (frame := self._frames.get(number)) is None:
            return None
        while self._ready < number:
            due = self._frames[self._ready + 1]
            due.digest, due.previous = hashlib.sha256(due.body).digest(), self._link
            self._link = next_link(due.previous, due.number, due.ends, due.digest)
            self._ready += 1
        self.shown = max(self.shown, number)
        return frame

    def acknowledge(self, number: int) -> bool:
        """Forget all frames up to `number`; True when that changed anything. Raises PeerError."""
        if number > self.shown:
            raise PeerError("bad_message", why="it acknowledges a frame that was never sent")
        if number <= self.acked:
            return False
        for gone in range(self.acked + 1, number + 1):
            del self._frames[gone]
        self.acked = number
        return True

    def _append(self, ends: int, body: memoryview) -> None:
        self.newest += 1
        self._frames[self.newest] = Frame(self.newest, ends, body)


class Inbox:
    """Frames in order, each once; whole messages out."""

    def __init__(self, link: bytes) -> None:
        self.accepted = 0
        """All frames up to here have come; this is what is acknowledged."""
        self.taken = 0
        self.ended = False
        self.pulling: set[int] = set()
        self.known = 0
        """The newest frame that the partner is known to hold."""
        self._link = link
        self._links: dict[int, bytes] = {}
        self._early: dict[int, tuple[int, bytes, bytes, bytes]] = {}
        self._ready: deque[tuple[int, bytes]] = deque()
        self._parts: list[bytes] = []
        self._message_bytes = 0
        self._discarding = False

    @property
    def has_message(self) -> bool:
        """Whether `take` would get anywhere."""
        return bool(self._ready)

    def fits(self, number: int) -> bool:
        """Whether a frame is one that may be kept now: older ones are compared, later ones wait at the sender."""
        return number <= self.taken + WINDOW

    def wanted(self) -> int | None:
        """The frame to ask for next: those known to wait, and one more only when nothing is under way."""
        if self.ended:
            return None
        for number in range(self.accepted + 1, self.taken + WINDOW + 1):
            if number in self.pulling or number in self._early:
                continue
            if number <= self.known or (number == self.accepted + 1 and not self.pulling):
                return number
            return None
        return None

    def offer(self, header: Header, body: bytes, digest: bytes) -> None:
        """Take in one frame, or find that it came before. Raises PeerError when it does not fit with what came."""
        number = header.number
        link = next_link(header.previous, number, header.ends, digest)
        if number == 0 or header.ends == MESSAGE_ENDS | STREAM_ENDS:
            raise PeerError("bad_message", why="it is no frame")
        if number <= self.accepted:
            if (known := self._links.get(number)) is None:
                raise PeerError("bad_message", why="this frame is too old to be compared")
            if known != link:
                raise PeerError("step_changed")
            return
        if number in self._early:
            if self._early[number][3] != link:
                raise PeerError("step_changed")
            return
        if self.ended:
            raise PeerError("bad_message", why="a frame follows the last one")
        if (header.ends == 0 and len(body) != BODY_MAX_BYTES) or (header.ends == STREAM_ENDS and body):
            raise PeerError("bad_message", why="a frame has another length than its place asks for")
        self._early[number] = (header.ends, body, header.previous, link)
        while (early := self._early.pop(self.accepted + 1, None)) is not None:
            self._accept(*early)

    def take(self) -> bytes | None:
        """The next whole message, or None while there is none; frees room as it goes."""
        while self._ready:
            ends, body = self._ready.popleft()
            self.taken += 1
            if ends == MESSAGE_ENDS and not self._parts:
                return body
            self._parts.append(body)
            if ends == MESSAGE_ENDS:
                message = b"".join(self._parts)
                self._parts.clear()
                return message
        return None

    def discard(self) -> None:
        """Nobody will take anything any more: what comes is acknowledged and dropped."""
        self._discarding = True
        self._parts.clear()
        self.taken += len(self._ready)
        self._ready.clear()

    def _accept(self, ends: int, body: bytes, previous: bytes, link: bytes) -> None:
        if previous != self._link:
            raise PeerError("step_changed")
        if self.ended:
            raise PeerError("bad_message", why="a frame follows the last one")
        self._message_bytes += len(body)
        if self._message_bytes > MESSAGE_MAX_BYTES:
            raise PeerError("bad_message", why="a message is longer than allowed")
        if ends == STREAM_ENDS and self._message_bytes:
            raise PeerError("bad_message", why="the last message was not finished")
        if ends == MESSAGE_ENDS:
            self._message_bytes = 0
        self.accepted += 1
        self._link = link
        self._links[self.accepted] = link
        self._links.pop(self.accepted - _REMEMBERED, None)
        if ends == STREAM_ENDS:
            self.ended = True
            self.taken += 1
        elif self._discarding:
            self.taken += 1
        else:
            self._ready.append((ends, body))


class Lane:
    """Both directions of one channel and what wakes those who wait for it."""

    def __init__(self, job: bytes, number: int, own: bytes, partner: bytes) -> None:
        self.job = job
        self.number = number
        self.outbox = Outbox(first_link(job, number, own, partner))
        self.inbox = Inbox(first_link(job, number, partner, own))
        self.signal = Signal()
        self.error: IsthmusError | None = None
        self.closed = False
        """Closed on this side; the rest of the outbox is still delivered."""
        self.told = 0
        """Dialer: the newest acknowledgement that the partner has surely read."""
        self._asking: dict[tuple[int, int], asyncio.Event] = {}
        self.put_lock = asyncio.Lock()
        self.get_lock = asyncio.Lock()

    @property
    def key(self) -> tuple[bytes, int]:
        return self.job, self.number

    @property
    def touched(self) -> bool:
        """Whether anything went across."""
        return bool(self.outbox.shown or self.inbox.accepted)

    @property
    def sent(self) -> bool:
        """Nothing is left to be delivered, and nothing will follow."""
        return self.error is not None or (self.closed and self.outbox.empty)

    @property
    def received(self) -> bool:
        """Nothing is left to come."""
        return self.error is not None or self.inbox.ended

    def has_sent(self) -> bool:
        return self.sent

    def may_put(self) -> bool:
        """Whether `put` need not wait."""
        return self.inbox.ended or self.closed or self.outbox.has_room

    def may_get(self) -> bool:
        """Whether `get` need not wait."""
        return self.inbox.ended or self.closed or self.inbox.has_message

    @contextmanager
    def asking(self, kind: int, number: int) -> Iterator[Callable[[], bool]]:
        """Listener: around the answer to one request for a frame. Gives what tells whether the dialer has asked anew
        meanwhile: then nobody waits for this answer any more, and it need not be held back either."""
        key, again = (kind, number), asyncio.Event()
        if (before := self._asking.get(key)) is not None:
            before.set()
            self.signal.notify()
        self._asking[key] = again
        try:
            yield again.is_set
        finally:
            if self._asking.get(key) is again:
                del self._asking[key]

    def fail(self, error: IsthmusError) -> None:
        """The first failure stays."""
        if self.error is None:
            self.error = error
            self.inbox.discard()
            self.signal.notify()

    def check(self) -> None:
        """Raises the failure of this channel, if it has failed."""
        if self.error is not None:
            raise again(self.error)

    def acknowledged(self, number: int) -> None:
        if self.outbox.acknowledge(number):
            self.signal.notify()

    def offer(self, header: Header, body: bytes, digest: bytes) -> None:
        """Take in a frame; a frame that contradicts earlier ones fails the channel. Raises PeerError."""
        try:
            self.inbox.offer(header, body, digest)
        except PeerError as error:
            self.fail(error)
            raise
        self.signal.notify()


def again(error: IsthmusError) -> IsthmusError:
    """The same error, to be raised once more."""
    return type(error)(error.code, **error.fields)
