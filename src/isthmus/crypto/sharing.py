"""A secret of 32 bytes in shares, of which `threshold` give it back and fewer say nothing. (Shamir 1979)

Over the integers modulo 2^256 + 297, the first prime above every secret. The share of holder n is the polynomial at n + 1,
33 bytes, little-endian.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from isthmus.base.errors import PeerError

PRIME: Final = 2**256 + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """A share for each of 0 .. holders - 1."""
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= holders:
        raise ValueError("a secret has 32 bytes, and at least as many holders as it takes")
    powers = [int.from_bytes(secret, "little"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return [_at(powers, holder + 1).to_bytes(SHARE_BYTES, "little") for holder in range(holders)]


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from at least `threshold` shares by their holder. Too few or wrong ones give another secret or none.

    Raises PeerError `bad_message` for shares that cannot be, and where no secret comes out.
    """
    numbers = {holder + 1: int.from_bytes(share, "little") for holder, share in shares.items()}
    if not shares or any(len(share) != SHARE_BYTES for share in shares.values()) or min(numbers) < 1:
        raise PeerError("bad_message", why="a share has another length")
    if any(number >= PRIME for number in numbers.values()):
        raise PeerError("bad_message", why="a share is no number of the field")
    total = 0
    for at, number in numbers.items():
        over, under = 1, 1
        for other in numbers:
            if other != at:
                over, under = over * other % PRIME, under * (other - at) % PRIME
        total += number * over * pow(under, -1, PRIME)
    secret = total % PRIME
    if secret >= 2**256:
        raise PeerError("bad_message", why="shares do not belong together")
    return secret.to_bytes(SECRET_BYTES, "little")


def _at(powers: list[int], place: int) -> int:
    value = 0
    for power in reversed(powers):
        value = (value * place + power) % PRIME
    return value
