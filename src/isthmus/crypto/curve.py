"""ristretto255, a group of prime order without cofactor traps (RFC 9496), through libsodium as rbcl bundles it."""

from __future__ import annotations

import hashlib
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import final

import numpy as np
import rbcl
from numpy.typing import NDArray

from isthmus.base.errors import PeerError

Points = NDArray[np.uint8]
_THREADS = 2


@final
class Scalar:
    """A secret exponent. It has no readable form."""

    __slots__ = ("_bytes",)

    def __init__(self, value: bytes) -> None:
        self._bytes = value

    def __repr__(self) -> str:
        return "Scalar(...)"


def random_scalar() -> Scalar:
    """A fresh exponent from the operating system, never zero."""
    return Scalar(bytes(rbcl.crypto_core_ristretto255_scalar_random()))


def hash_to_point(domain: bytes, identifier: bytes) -> bytes:
    """A uniform point that depends on the identifier within `domain`: the map of RFC 9496 on SHA-512."""
    name = b"isthmus/ristretto255/v1" + struct.pack("<I", len(domain)) + domain + identifier
    return bytes(rbcl.crypto_core_ristretto255_from_hash(hashlib.sha512(name).digest()))


def blind_ids(ids: list[bytes], domain: bytes, scalar: Scalar) -> Points:
    """`(n, 32)`: the points of the ids, raised to the scalar."""
    return _each([hash_to_point(domain, i) for i in ids], scalar)


def blind_points(points: Points, scalar: Scalar) -> Points:
    """`(n, 32)`: a partner's points raised to the scalar. PeerError for one that is not canonical or is the identity."""
    body = points.tobytes()
    rows = [body[i : i + 32] for i in range(0, len(body), 32)]
    if any(row == bytes(32) or not rbcl.crypto_core_ristretto255_is_valid_point(row) for row in rows):
        raise PeerError("bad_message", why="a point is not a canonical point of the group")
    return _each(rows, scalar)


def _each(points: list[bytes], scalar: Scalar) -> Points:
    def part(start: int) -> bytes:
        rows = points[start::_THREADS]
        return b"".join(rbcl.crypto_scalarmult_ristretto255(scalar._bytes, row) for row in rows)

    made = np.empty((len(points), 32), dtype=np.uint8)
    with ThreadPoolExecutor(_THREADS) as pool:
        for start, joined in enumerate(pool.map(part, range(_THREADS))):
            made[start::_THREADS] = np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32)
    return made
