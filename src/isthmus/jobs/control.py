"""What two nodes say to each other about jobs and their audit logs, on the control channel of the link.

    label owner                                     feature owner
      1  Proposal   job file, signature  -------->  shown to a person
      2                                  <--------  Reply    accepted and signed, or refused
      3  Start    attempt, own barrier   -------->  waits until it is free
      4                                  <--------  Started  own barrier
      5  Go       the barrier to go on   -------->  its worker runs
      6  Halted   a code                 <------->  Halted   this attempt is over here; another one follows
      7                                  <--------  Again    nothing stands in the way of another attempt any more
      8  Ended                           <------->  Ended    a code, or nothing when all that is needed is here

      9  HeadTold                        <------->  HeadTold the end of the own audit log, after 1, 2 and 8 and on connecting
     10  HeadKept                        <------->  HeadKept the answer to 9, and on connecting: heads that are held here

A node that hears of a run which it has not accepted does nothing. Nothing here lasts in the line: a node that begins anew
learns from its store where it stands, says 1, 2 or 7 again, and is answered. How an attempt runs: service/courses.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args

from isthmus.base.document import MAX_BYTES
from isthmus.base.errors import PeerError
from isthmus.wire.message import Blob, Flag, Message, Number, Raw, Text, kind_of


@dataclass(frozen=True)
class Proposal(Message):
    """A resolved job file as canonical JSON, the number of the run, and the label owner's consent to both."""

    KIND: ClassVar[int] = 0x0801
    number: Annotated[int, Number("I")]
    document: Annotated[bytes, Blob(MAX_BYTES)]
    signature: Annotated[bytes, Raw(64)]


@dataclass(frozen=True)
class Reply(Message):
    """A signature of 64 bytes when accepted, a code when refused."""

    KIND: ClassVar[int] = 0x0802
    run: Annotated[bytes, Raw(32)]
    accepted: Annotated[bool, Flag()]
    signature: Annotated[bytes, Blob(64)]
    code: Annotated[str, Text(64)]


@dataclass(frozen=True)
class Start(Message):
    """A new attempt is due. The label owner's last barrier, and how many of its one-time secrets are burned."""

    KIND: ClassVar[int] = 0x0803
    run: Annotated[bytes, Raw(32)]
    attempt: Annotated[int, Number("I")]
    barrier: Annotated[int, Number("I")]
    burned: Annotated[int, Number("I")]


@dataclass(frozen=True)
class Started(Message):
    """The sender's turn has come; `had` is the last attempt that it has begun before."""

    KIND: ClassVar[int] = 0x0804
    run: Annotated[bytes, Raw(32)]
    attempt: Annotated[int, Number("I")]
    barrier: Annotated[int, Number("I")]
    burned: Annotated[int, Number("I")]
    had: Annotated[int, Number("I")]


@dataclass(frozen=True)
class Go(Message):
    """The oldest barrier at which any party stands: all go on from there."""

    KIND: ClassVar[int] = 0x0808
    run: Annotated[bytes, Raw(32)]
    attempt: Annotated[int, Number("I")]
    barrier: Annotated[int, Number("I")]


@dataclass(frozen=True)
class Halted(Message):
    """Why the sender's attempt is over. Of a partner that stands behind what the sender has on record: its numbers."""

    KIND: ClassVar[int] = 0x0809
    run: Annotated[bytes, Raw(32)]
    attempt: Annotated[int, Number("I")]
    code: Annotated[str, Text(64)]
    had: Annotated[int, Number("I")]
    burned: Annotated[int, Number("I")]


@dataclass(frozen=True)
class Again(Message):
    KIND: ClassVar[int] = 0x080A
    run: Annotated[bytes, Raw(32)]


@dataclass(frozen=True)
class Ended(Message):
    """`code` is empty when all went well: a feature owner has all it needs, then every party has."""

    KIND: ClassVar[int] = 0x0805
    run: Annotated[bytes, Raw(32)]
    code: Annotated[str, Text(64)]


@dataclass(frozen=True)
class HeadTold(Message):
    """How many lines the sender's audit log has, the digest of the last one, and the sender's signature. To be kept."""

    KIND: ClassVar[int] = 0x0806
    number: Annotated[int, Number("Q")]
    digest: Annotated[bytes, Raw(32)]
    signature: Annotated[bytes, Raw(64)]


@dataclass(frozen=True)
class HeadKept(Message):
    """A head of the receiver's audit log, which the sender holds; the signature is the receiver's own."""

    KIND: ClassVar[int] = 0x0807
    number: Annotated[int, Number("Q")]
    digest: Annotated[bytes, Raw(32)]
    signature: Annotated[bytes, Raw(64)]


ControlMessage = Proposal | Reply | Start | Started | Go | Halted | Again | Ended | HeadTold | HeadKept


def decode_control(body: bytes) -> ControlMessage:
    """Raises PeerError for anything that is not one of the messages above."""
    kind = kind_of(body)
    for message in get_args(ControlMessage):
        if kind == message.KIND:
            found: ControlMessage = message.decode(body)
            return found
    raise PeerError("bad_message", why=f"kind {kind:#06x} is not about jobs")
