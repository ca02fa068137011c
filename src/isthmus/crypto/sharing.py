"""Shamir's sharing of secrets of 32 bytes: any `threshold` shares give the secret, fewer say nothing about it.

The field is the integers modulo 2^256 + 297, the first prime above every secret. A share is the value at a point of 1 to 65535 of
a polynomial whose constant term is the secret: 33 bytes, little-endian. The other coefficients come from the operating system.
Python's integers do not take the same time for all values: fine for a secret that lives for one sum, nowhere else.

Source: Shamir, How to share a secret (CACM 1979).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from isthmus.base.errors import PeerError

PRIME: Final = 2**256 + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33
POINT_MAX: Final = 2**16 - 1


def split(secret: bytes, threshold: int, points: Sequence[int]) -> list[bytes]:
    """A share for each point. Raises ValueError for points or a threshold that share nothing."""
    if len(secret) != SECRET_BYTES:
        raise ValueError("a secret has 32 bytes")
    if not 2 <= threshold <= len(points):
        raise ValueError("a threshold is at least 2 and at most the number of shares")
    if len(set(points)) != len(points) or not all(1 <= point <= POINT_MAX for point in points):
        raise ValueError("points are distinct, from 1 to 65535")
    others = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    return evaluate([int.from_bytes(secret, "little"), *others], points)


def evaluate(coefficients: Sequence[int], points: Sequence[int]) -> list[bytes]:
    """Values of a polynomial, its constant term first, as shares."""
    shares = []
    for point in points:
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * point + coefficient) % PRIME
        shares.append(value.to_bytes(SHARE_BYTES, "little"))
    return shares


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret of exactly as many shares, by point, as its threshold. Raises PeerError `bad_message` for what cannot be."""
    if not all(1 <= point <= POINT_MAX for point in shares):
        raise PeerError("bad_message", why="a share is for no point")
    secret = 0
    for point, body in shares.items():
        value = int.from_bytes(body, "little")
        if len(body) != SHARE_BYTES or value >= PRIME:
            raise PeerError("bad_message", why="a share is no number of the field")
        above = below = 1
        for other in shares:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        secret = (secret + value * above * pow(below, -1, PRIME)) % PRIME
    if secret >= 2**256:
        raise PeerError("bad_message", why="shares give no secret of 32 bytes")
    return secret.to_bytes(SECRET_BYTES, "little")


def recover(shares: Mapping[int, bytes], threshold: int, holds: Callable[[bytes], bool]) -> bytes | None:
    """The secret for which `holds`, though some shares may be false: each run of neighbouring points is tried.

    With more shares than the threshold one liar never prevents it; None where nothing holds or there are too few.
    """
    points = sorted(shares)
    if len(points) < threshold:
        return None
    starts = range(len(points) if len(points) > threshold else 1)
    for start in starts:
        chosen = [points[(start + step) % len(points)] for step in range(threshold)]
        try:
            secret = combine({point: shares[point] for point in chosen})
        except PeerError:
            continue
        if holds(secret):
            return secret
    return None
