"""The envelope: what stands in clear around every request and answer of the link.

    | header 168 | signature, sealed 80 | body, sealed n + 16 |

The header is the same for all kinds; the seal covers it and the signature covers it. It shows parties, channel, number,
job digest and length, and nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from isthmus.base.errors import PeerError
from isthmus.crypto.seal import SIGNATURE_BYTES, SUITE, TAG_BYTES, VERSION

_MAGIC = b"ISTE"
_HEADER = struct.Struct("<4sHHBBH16sQQ32s16s16sQQQ32sI")
HEADER_BYTES: Final = _HEADER.size
OVERHEAD_BYTES: Final = HEADER_BYTES + SIGNATURE_BYTES + 2 * TAG_BYTES
ENVELOPE_MAX_BYTES: Final = 2**20
BODY_MAX_BYTES: Final = ENVELOPE_MAX_BYTES - OVERHEAD_BYTES
NO_DIGEST: Final = bytes(32)
IDLE_MAX_S: Final = 60.0
"""A probe is answered at the latest after this."""

MESSAGE_ENDS: Final = 1
"""Flag of a frame: a message ends here. Frames without it are full."""
STREAM_ENDS: Final = 2
"""Flag of an empty frame: the sender has closed."""


class Kind(IntEnum):
    """Requests below 16, answers from 16."""

    PING = 1  # confirms the keys; body: round trip and clock difference
    PUSH = 2  # frame `number` from the dialer
    PULL = 3  # asks for frame `number`; `ack` as in ACK
    TOLD = 4  # `ack` and nothing else
    FAIL = 5  # the channel has failed here; body: the code
    PROBE = 6  # a body of any size; asks for `number` bytes back after `ack` milliseconds
    PONG = 16
    ACK = 17  # all frames up to `ack` have come
    FRAME = 18  # frame `number` from the listener; `highest` is the newest that waits
    EMPTY = 19  # nothing within the time that the dialer waits
    REFUSED = 20  # body: the code


REQUESTS: Final = frozenset(k for k in Kind if k < Kind.PONG)


@dataclass(frozen=True, slots=True)
class Header:
    """All of it is signed and bound into the seal. `counter` counts the envelopes of one direction of one session;
    an answer names in `answers` the counter that it answers. `previous` chains the frames of one direction of one
    channel; ends: MESSAGE_ENDS, STREAM_ENDS."""

    kind: Kind
    session: bytes
    counter: int
    sender: bytes
    receiver: bytes
    job: bytes = NO_DIGEST
    channel: int = 0
    number: int = 0
    ends: int = 0
    previous: bytes = NO_DIGEST
    ack: int = 0
    highest: int = 0
    answers: int = 0
    body_bytes: int = 0

    def pack(self) -> bytes:
        return _HEADER.pack(
            _MAGIC,
            VERSION,
            SUITE,
            self.kind,
            self.ends,
            self.channel,
            self.session,
            self.counter,
            self.answers,
            self.job,
            self.sender,
            self.receiver,
            self.number,
            self.ack,
            self.highest,
            self.previous,
            self.body_bytes,
        )


def read_header(envelope: bytes, size_bytes: int | None = None) -> Header:
    """The header at the front of an envelope of `size_bytes` (all of them, unless only the front is at hand).

    Raises PeerError. Nothing is verified yet.
    """
    size = len(envelope) if size_bytes is None else size_bytes
    if len(envelope) < HEADER_BYTES or not OVERHEAD_BYTES <= size <= ENVELOPE_MAX_BYTES:
        raise PeerError("bad_message", why="it has not the size of an envelope")
    (magic, version, suite, kind, ends, channel, session, counter, answers, job, sender, receiver) = (
        values := _HEADER.unpack_from(envelope)
    )[:12]
    number, ack, highest, previous, body_bytes = values[12:]
    if magic != _MAGIC or version != VERSION or suite != SUITE:
        raise PeerError("bad_message", why="it is not an envelope of this version")
    if kind not in _KINDS or ends & ~(MESSAGE_ENDS | STREAM_ENDS):
        raise PeerError("bad_message", why="its kind is not known")
    if body_bytes != size - OVERHEAD_BYTES:
        raise PeerError("bad_message", why="it has another length than it says")
    return Header(
        Kind(kind),
        session,
        counter,
        sender,
        receiver,
        job,
        channel,
        number,
        ends,
        previous,
        ack,
        highest,
        answers,
        body_bytes,
    )


_KINDS = frozenset(int(k) for k in Kind)
