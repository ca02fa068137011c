"""What two nodes say to each other about jobs and their audit logs, on the control channel of the link.

    label owner                                     feature owner
      1  Proposal   job file, signature  -------->  shown to a person
      2                                  <--------  Reply    accepted and signed, or refused
      3  Start                           -------->  waits until it is free
      4                                  <--------  Started  its worker runs
      5  Ended                           <------->  Ended    a code, or nothing when it is done

      6  HeadTold                        <------->  HeadTold the end of the own audit log, after 1, 2 and 5 and on connecting
      7  HeadKept                        <------->  HeadKept the answer to 6, and on connecting: heads that are held here

A node that hears of a run which it has not accepted does nothing. Start is sent to the feature owners by rising name, each
after the Started of the one before, and the label owner takes its own turn in that order too: two jobs that share parties
cannot wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from isthmus.base.errors import PeerError
from isthmus.jobs.document import MAX_BYTES
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
    KIND: ClassVar[int] = 0x0803
    run: Annotated[bytes, Raw(32)]


@dataclass(frozen=True)
class Started(Message):
    KIND: ClassVar[int] = 0x0804
    run: Annotated[bytes, Raw(32)]


@dataclass(frozen=True)
class Ended(Message):
    """`code` is empty when all went well."""

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


ControlMessage = Proposal | Reply | Start | Started | Ended | HeadTold | HeadKept


def decode_control(body: bytes) -> ControlMessage:
    """Raises PeerError for anything that is not one of the messages above."""
    kind = kind_of(body)
    for message in (Proposal, Reply, Start, Started, Ended, HeadTold, HeadKept):
        if kind == message.KIND:
            return message.decode(body)
    raise PeerError("bad_message", why=f"kind {kind:#06x} is not about jobs")
