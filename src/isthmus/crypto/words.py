"""Integers modulo 2^(8 * width): what masked vectors are made of.

Words are little-endian, `width` bytes each. In memory they are uint32 (width 1 to 4) or uint64 (5 to 8), below 2^(8 * width).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import ConfigError, PeerError

Words = NDArray[Any]
"""np.uint32 or np.uint64, `(length,)`."""

_NOISE_REACH: Final = 32
"""Two helpers' noise together stays within so many standard deviations of one: 22 of its own."""


@dataclass(frozen=True, slots=True)
class Ring:
    """Z modulo 2^(8 * width_bytes)."""

    width_bytes: int

    def __post_init__(self) -> None:
        if not 1 <= self.width_bytes <= 8:
            raise PeerError("bad_message", why="a word has 1 to 8 bytes")

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint32 if self.width_bytes <= 4 else np.uint64)

    def zeros(self, length: int) -> Words:
        return np.zeros(length, dtype=self.dtype)

    def pack(self, words: Words) -> bytes:
        """`width_bytes` bytes a word."""
        size, wide = self.width_bytes, self.dtype.itemsize
        words = np.ascontiguousarray(words, dtype=self.dtype.newbyteorder("<"))
        if size == wide:
            return words.tobytes()
        return words.view(np.uint8).reshape(-1, wide)[:, :size].tobytes()

    def unpack(self, packed: bytes) -> Words:
        """The words that `pack` wrote. Raises PeerError `bad_message` for a length that is no whole number of words."""
        size, wide = self.width_bytes, self.dtype.itemsize
        count, rest = divmod(len(packed), size)
        if rest:
            raise PeerError("bad_message", why="a vector is no whole number of words")
        little = self.dtype.newbyteorder("<")
        if size == wide:
            return np.frombuffer(packed, dtype=little).astype(self.dtype)
        # Words of the full width that overlap, read `size` bytes apart; what belongs to the next one is cut off.
        over = np.ndarray((count,), little, packed + bytes(wide - size), strides=(size,))
        return self._cut(over.astype(self.dtype))

    def lift(self, values: NDArray[np.int64]) -> Words:
        """Integers as words."""
        return self._cut(np.asarray(values, dtype=np.int64).astype(self.dtype))

    def lower(self, words: Words) -> NDArray[np.int64]:
        """Words as integers from -2^(8 * width - 1) to 2^(8 * width - 1) - 1."""
        spare = 8 * (self.dtype.itemsize - self.width_bytes)
        signed = np.dtype(np.int32 if self.width_bytes <= 4 else np.int64)
        shift = self.dtype.type(spare)
        numbers: NDArray[np.int64] = np.left_shift(words, shift).view(signed).astype(np.int64)
        return np.right_shift(numbers, np.int64(spare))

    def add(self, total: Words, words: Words) -> None:
        """`total += words`, in place."""
        np.add(total, words, out=total)
        self._cut(total)

    def subtract(self, total: Words, words: Words) -> None:
        """`total -= words`, in place."""
        np.subtract(total, words, out=total)
        self._cut(total)

    def _cut(self, words: Words) -> Words:
        if self.width_bytes < self.dtype.itemsize:
            np.bitwise_and(words, self.dtype.type(2 ** (8 * self.width_bytes) - 1), out=words)
        return words


def ring_for(bits: int, reports_max: int, weight_max: int, noise_std: float) -> Ring:
    """The smallest ring that holds the sum of `reports_max` reports of signed `bits`-bit integers, each times a weight, and the
    noise of both helpers. Raises ConfigError `out_of_bounds` where none does."""
    reach = reports_max * weight_max * 2 ** (bits - 1) + math.ceil(_NOISE_REACH * noise_std)
    width_bytes = -(-((2 * reach).bit_length() + 1) // 8)
    if width_bytes > 8:
        raise ConfigError(
            "out_of_bounds", field="sum", value=f"{reach:.1e}", allowed="sums and noise below 2^62"
        )
    return Ring(width_bytes)
