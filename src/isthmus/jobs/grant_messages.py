"""What two nodes say to each other about grants and projects, on the control channel of the link.

    user of the data                                holder of the data
      1  GrantAsked    terms           -------->    shown to a person
      2                                <--------    GrantTold      terms, signed
      3                                <--------    GrantEnded     refused (after 1) or revoked (after 2), signed

      4  ProjectTold                   <------->    ProjectTold    purpose, parties, rules, signed by who made the project

All are said again when a line begins anew; each does something once. A holder that shows a grant which it has revoked, because
somebody restored its database, is shown its own signed ending by the user, and takes the grant back again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from isthmus.jobs.grant_terms import TERMS_MAX_BYTES
from isthmus.wire.message import Blob, Message, Raw, Text, kind_of


@dataclass(frozen=True)
class GrantAsked(Message):
    KIND: ClassVar[int] = 0x0820
    terms: Annotated[bytes, Blob(TERMS_MAX_BYTES)]


@dataclass(frozen=True)
class GrantTold(Message):
    KIND: ClassVar[int] = 0x0821
    terms: Annotated[bytes, Blob(TERMS_MAX_BYTES)]
    signature: Annotated[bytes, Raw(64)]


@dataclass(frozen=True)
class GrantEnded(Message):
    """`state` is refused or revoked."""

    KIND: ClassVar[int] = 0x0822
    grant: Annotated[str, Text(32)]
    state: Annotated[str, Text(16)]
    signature: Annotated[bytes, Raw(64)]


@dataclass(frozen=True)
class ProjectTold(Message):
    """A project as canonical JSON, and the signature of the party that made it."""

    KIND: ClassVar[int] = 0x0823
    document: Annotated[bytes, Blob(TERMS_MAX_BYTES)]
    signature: Annotated[bytes, Raw(64)]


GrantMessage = GrantAsked | GrantTold | GrantEnded | ProjectTold


def decode_grant(body: bytes) -> GrantMessage | None:
    """None for what is about something else. Raises PeerError for a message of these kinds in another form."""
    kind = kind_of(body)
    for message in (GrantAsked, GrantTold, GrantEnded, ProjectTold):
        if kind == message.KIND:
            return message.decode(body)
    return None
