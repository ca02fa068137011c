"""Cards: what a helper and a leader give each other beside the line, once. Each is JSON text that its owner has signed.

A card that is replaced on its way puts another in the place of its owner, so people compare the fingerprints that both sides
show by telephone before they rely on it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from isthmus.base import typed_json
from isthmus.base.canonical import canonical_json
from isthmus.base.errors import ConfigError, PeerError
from isthmus.crypto.seal import PartyKey, verify
from isthmus.protocols.secure_sum import HelperKey

CARD_MAX_BYTES = 64 * 2**10
_LABEL = b"isthmus/fleet/card/v1\0"


@dataclass(frozen=True, slots=True)
class HelperCard:
    """How a leader reaches a helper and knows it: `certificate` is DER, `key` signs its answers, `sealing` opens seeds."""

    name: str
    address: str
    certificate: bytes
    key: bytes
    sealing: bytes

    @property
    def helper(self) -> HelperKey:
        """As the terms of a sum name it."""
        return HelperKey(self.name, self.key, self.sealing)


@dataclass(frozen=True, slots=True)
class LeaderCard:
    """Whom a helper is asked to serve: the leader's key, and those of the authorities that enrol its devices."""

    name: str
    key: bytes
    authorities: tuple[bytes, ...]


Card = TypeVar("Card", HelperCard, LeaderCard)


def write_card(card: HelperCard | LeaderCard, owner: PartyKey) -> str:
    """One line of JSON."""
    kind = type(card).__name__
    body = typed_json.plain(card)
    signature = owner.sign(_words(kind, body))
    return canonical_json({"isthmus": kind, "card": body, "signature": signature.hex()}).decode()


def read_card(cls: type[Card], text: str) -> Card:
    """The card, if its owner signed it. Raises ConfigError `bad_card`."""
    try:
        found = json.loads(text)
        if not isinstance(found, dict) or set(found) != {"isthmus", "card", "signature"}:
            raise ValueError("it is no card")
        if found["isthmus"] != cls.__name__:
            raise ValueError(f"it is a card of another kind ({str(found['isthmus'])[:20]})")
        card = typed_json.shape(cls, found["card"])
        _check(card)
        verify(card.key, bytes.fromhex(found["signature"]), _words(cls.__name__, found["card"]))
    except PeerError:
        raise ConfigError("bad_card", why="its signature does not hold") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError("bad_card", why=str(error)[:160]) from None
    return card


def _words(kind: str, body: Any) -> bytes:
    return _LABEL + canonical_json([kind, body])


def _check(card: HelperCard | LeaderCard) -> None:
    keys = (card.sealing,) if isinstance(card, HelperCard) else card.authorities
    if not keys or any(len(key) != 32 for key in (card.key, *keys)):
        raise ValueError("a key has another length than 32 bytes")
    if not 0 < len(card.name.encode()) <= 64 or not card.name.isprintable():
        raise ValueError("it has no usable name")
    if isinstance(card, HelperCard) and not card.address.startswith("https://"):
        raise ValueError("its address is not https")
