"""ristretto255 for alignment: ids become points, and a secret scalar hides them.

The group is that of RFC 9496, computed by libsodium through rbcl. A hash of an id without a secret never leaves this
party: what is sent is the point times a scalar of the job. Identity and non-canonical encodings are refused before use.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, SupportsIndex, final

import numpy as np
import rbcl
from numpy.typing import NDArray
from rbcl.rbcl import _sodium

from isthmus.base.errors import PeerError

# rbcl unpacks its library into a temporary file and leaves it there; once loaded, the file can go.
with contextlib.suppress(OSError):
    os.unlink(_sodium._name)

POINT_BYTES = 32
_THREADS = 2


@final
class Scalar:
    """A secret whole number below the group order, not 0. It is not shown, compared, copied or serialised."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        """From 32 little-endian bytes that encode it canonically; ValueError otherwise."""
        if len(data) != 32 or data == bytes(32):
            raise ValueError("a scalar is 32 bytes and not zero")
        if rbcl.crypto_core_ristretto255_scalar_reduce(data + bytes(32)) != data:
            raise ValueError("a scalar lies below the group order")
        self._data = data

    def inverse(self) -> Scalar:
        """The scalar that undoes this one."""
        return Scalar(rbcl.crypto_core_ristretto255_scalar_invert(self._data))

    def times(self, point: bytes) -> bytes:
        """This multiple of a valid point, 32 bytes."""
        return bytes(rbcl.crypto_scalarmult_ristretto255(self._data, point))

    def __repr__(self) -> str:
        return "Scalar()"

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("secret scalars are not compared")

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("secret scalars are neither copied nor serialised")


def scalar_of(seed: bytes) -> Scalar:
    """The scalar that 64 uniform bytes stand for, so that a run can be taken up again with the same one."""
    if len(seed) != 64:
        raise ValueError("a seed of a scalar has 64 bytes")
    return Scalar(rbcl.crypto_core_ristretto255_scalar_reduce(seed))


def random_scalar() -> Scalar:
    """A uniform scalar, not 0, from the operating system."""
    return Scalar(rbcl.crypto_core_ristretto255_scalar_random())


def hash_to_point(domain: bytes, identifier: bytes) -> bytes:
    """The point of an id in a domain, 32 bytes: SHA-512 of both through the map of RFC 9496, section 4.3.4.

    Nobody knows a logarithm of it. The length of the domain is hashed before it, so no two pairs hash the same bytes.
    """
    name = b"isthmus/ristretto255/v1" + struct.pack("<I", len(domain)) + domain + identifier
    return bytes(rbcl.crypto_core_ristretto255_from_hash(hashlib.sha512(name).digest()))


def blind_ids(
    ids: Sequence[bytes], domain: bytes, scalar: Scalar, *, threads: int = _THREADS
) -> NDArray[np.uint8]:
    """Points of ids times the scalar, `(ids, 32)`."""
    return _each(lambda identifier: scalar.times(hash_to_point(domain, identifier)), ids, threads)


def blind_points(points: NDArray[np.uint8], scalar: Scalar, *, threads: int = _THREADS) -> NDArray[np.uint8]:
    """Points that a partner sent, `(count, 32)`, times the scalar: `(count, 32)`. PeerError as `check_points`."""
    check_points(points)
    return _each(scalar.times, _rows(points), threads)


def check_points(points: NDArray[np.uint8]) -> None:
    """Refuse points that no honest partner sends: PeerError `bad_message`.

    Refused are other widths, encodings that are not canonical or no point, the identity, and lists of two or more
    points that are all the same.
    """
    if points.ndim != 2 or points.dtype != np.uint8 or points.shape[1] != POINT_BYTES:
        raise PeerError("bad_message", why="a point is not 32 bytes")
    if not points.any(axis=1).all():
        raise PeerError("bad_message", why="a point is not allowed to be the identity")
    if not all(map(rbcl.crypto_core_ristretto255_is_valid_point, _rows(points))):
        raise PeerError("bad_message", why="a point is not a canonical ristretto255 encoding")
    if len(points) > 1 and bool((points == points[0]).all()):
        raise PeerError("bad_message", why="a point is not like any other, yet all are equal")


def _rows(points: NDArray[np.uint8]) -> list[bytes]:
    data = points.tobytes()
    return [data[start : start + POINT_BYTES] for start in range(0, len(data), POINT_BYTES)]


def _each(work: Callable[[bytes], bytes], items: Sequence[bytes], threads: int) -> NDArray[np.uint8]:
    """Work on every item, in order, in threads: libsodium runs outside the interpreter's lock."""

    def part(span: Sequence[bytes]) -> bytes:
        return b"".join(map(work, span))

    if threads <= 1:
        data = part(items)
    else:
        size = max(-(-len(items) // threads), 1)
        spans = [items[start : start + size] for start in range(0, len(items), size)]
        with ThreadPoolExecutor(threads) as pool:
            data = b"".join(pool.map(part, spans))
    return np.frombuffer(data, dtype=np.uint8).reshape(len(items), POINT_BYTES)
