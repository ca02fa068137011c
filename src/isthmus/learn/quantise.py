"""Real numbers as small integers: a tree's gradients before an engine sees them, a device's update before it is masked.

For trees a privacy rule as much as a format: exact sums of precise gradients are fingerprints of the rows in a small bin.
Rounding is stochastic, so sums stay unbiased; one scale per tree, so that sibling = parent - child is exact.

Updates: one step for all devices of a round, known before it, so that integers add up and the sum is decoded once.
Rotation (a randomised Hadamard transform, orthogonal, seed public) spreads a vector evenly over its coordinates, so that
the same bits reach a far finer step; Suresh et al., "Distributed Mean Estimation with Limited Communication" (ICML 2017).
Here it takes two overlapping blocks of a power of two, so that no word is added. Rounding is conditional on the norm of the
result, which bounds the sensitivity of the sum: Kairouz, Liu, Steinke, "The Distributed Discrete Gaussian Mechanism" (ICML 2021).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import log, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isthmus.base.randomness import Rng

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Source = Callable[[int], bytes]

BITS_LEAST, BITS_MOST = 8, 16


@dataclass(frozen=True, slots=True)
class Quantised:
    """`g` in -(2^(gb-1)-1) .. 2^(gb-1)-1 and `h` in 0 .. 2^hb-1, `(rows,)`; times the scales they estimate the gradients."""

    g: Integers
    h: Integers
    g_scale: float
    h_scale: float


def quantise(
    g: NDArray[np.float64], h: NDArray[np.float64], gradient_bits: int, hessian_bits: int, rng: Rng
) -> Quantised:
    """Round each gradient to `gradient_bits` (sign included) and each hessian to `hessian_bits`, up or down by chance."""
    g_top, h_top = 2 ** (gradient_bits - 1) - 1, 2**hessian_bits - 1
    g_widest = max(float(g.max(initial=0.0)), -float(g.min(initial=0.0)))
    g_scale = g_widest / g_top or 1.0
    h_scale = float(h.max(initial=0.0)) / h_top or 1.0
    return Quantised(
        _rounded(g, g_scale, -g_top, g_top, rng.uniform("g", len(g))),
        _rounded(h, h_scale, 0, h_top, rng.uniform("h", len(h))),
        g_scale,
        h_scale,
    )


def _rounded(
    values: NDArray[np.float64], scale: float, low: int, high: int, chance: NDArray[np.float64]
) -> Integers:
    """floor(value / scale + chance), kept within low..high; `chance` is used up."""
    chance += values / scale
    np.floor(chance, out=chance)
    return np.clip(chance, low, high, out=chance).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Encoded:
    """An update as integers; `cut` counts the coordinates that lay beyond the reach and were cut to it."""

    values: Integers
    cut: NDArray[np.int64]


@dataclass(frozen=True)
class Encoding:
    """How all devices of a round write an update of `length` numbers with L2 norm up to `clip`, `bits` each, sign included.

    `reach` is the greatest size of a coordinate, after the rotation if there is one; see `fitted`. With `kept`, only
    that many coordinates are sent, the same for all devices, chosen by the public seed.
    """

    length: int
    bits: int
    clip: float
    reach: float
    rotation: bytes | None = None
    kept: int | None = None

    def __post_init__(self) -> None:
        if not (self.length >= 1 and BITS_LEAST <= self.bits <= BITS_MOST):
            raise ValueError("length is at least 1 and bits are 8 to 16")
        if not (0 < self.clip < float("inf") and 0 < self.reach < float("inf")):
            raise ValueError("clip and reach are above 0")
        if self.kept is not None and (self.rotation is None or not 1 <= self.kept <= self.length):
            raise ValueError("kept is 1 to length, and needs a rotation")

    @classmethod
    def fitted(
        cls, length: int, bits: int, clip: float, rotation: bytes | None = None, kept: int | None = None
    ) -> Encoding:
        """The least reach that cuts nothing: of rotated vectors, all but about one in a million."""
        share = 1.0
        if rotation is not None:
            share = min(1.0, sqrt(2 * log(2**21 * length) / (1 << length.bit_length() - 1)))
        return cls(length, bits, clip, clip * share, rotation, kept)

    @property
    def words(self) -> int:
        """Integers in an encoded update."""
        return self.kept or self.length

    @property
    def top(self) -> int:
        """The greatest integer; the least is minus that."""
        return (1 << self.bits - 1) - 1

    @property
    def step(self) -> float:
        """What one unit of the integers stands for."""
        return self.reach / self.top

    @property
    def sensitivity(self) -> float:
        """The greatest L2 norm of an encoded update of weight 1, rounding included: in the ring's integers."""
        clip, words = self.clip / self.step, self.words
        return min(
            clip + sqrt(words), sqrt(clip**2 + words / 4 + clip + sqrt(words) / 2), self.top * sqrt(words)
        )

    def encode(self, updates: ArrayLike, source: Source = os.urandom) -> Encoded:
        """Integers of one update `(length,)` or of many `(devices, length)`, each clipped before; `source` rounds."""
        values: Floats = np.asarray(updates, dtype=np.float64)
        if not (np.linalg.norm(values, axis=-1) <= self.clip * (1 + 1e-9)).all():
            raise ValueError("an update is longer than clip")
        if self.rotation is not None:
            values = _rotated(values, self._signs)
            if self.kept is not None:
                values = values[..., self._chosen]
        values = values / self.step
        cut = (np.abs(values) > self.top).sum(axis=-1)
        np.clip(values, -self.top, self.top, out=values)
        rounded = _by_chance(values, source)
        most = self.sensitivity**2
        while (again := np.square(rounded).sum(axis=-1) > most).any():
            # Vectors whose rounding made them too long are rounded anew; a few in a hundred at most.
            rounded[again] = _by_chance(values[again], source)
        return Encoded(rounded, cut)

    def decode(self, total: Integers) -> Floats:
        """The real vector(s) that a sum of encoded updates stands for."""
        values = total.astype(np.float64) * np.float64(self.step)
        if self.kept is not None:
            spread: Floats = np.zeros((*values.shape[:-1], self.length), dtype=np.float64)
            spread[..., self._chosen] = values
            values = spread
        return values if self.rotation is None else _rotated(values, self._signs, back=True)

    @cached_property
    def _signs(self) -> Floats:
        bits = np.unpackbits(
            self._rng.words("signs", (2 * self.length + 63) // 64).astype("<u8").view(np.uint8)
        )
        return np.where(bits[: 2 * self.length].reshape(2, self.length) == 1, 1.0, -1.0)

    @cached_property
    def _chosen(self) -> Integers:
        return np.sort(self._rng.permutation("kept", self.length)[: self.kept])

    @property
    def _rng(self) -> Rng:
        return Rng(self.rotation or b"", "rotation")


def _by_chance(values: Floats, source: Source) -> Integers:
    """Each value to the integer below or above it, so that the mean is right to 2^-32."""
    chance = np.frombuffer(source(4 * values.size), dtype="<u4").reshape(values.shape) * 2.0**-32
    chance += values
    return np.floor(chance, out=chance).astype(np.int64)


def _rotated(values: Floats, signs: Floats, back: bool = False) -> Floats:
    """Signs and a Hadamard transform on the first 2^k coordinates, then on the last 2^k; `back` undoes it."""
    length = values.shape[-1]
    block = 1 << length.bit_length() - 1
    out = values.copy()
    passes = [(slice(0, block), signs[0, :block]), (slice(length - block, length), signs[1, :block])]
    for place, sign in reversed(passes) if back else passes:
        if back:
            out[..., place] = _hadamard(out[..., place]) * sign
        else:
            out[..., place] = _hadamard(out[..., place] * sign)
    return out


def _hadamard(values: Floats) -> Floats:
    """The normalised Walsh-Hadamard transform along the last axis, a power of two long."""
    scaled: Floats = _turned(values, values.shape[-1]) / sqrt(values.shape[-1])
    return scaled


def _turned(values: Floats, length: int) -> Floats:
    """The transform of a*b is that of b along rows and that of a along columns; small ones are a matrix product."""
    if length <= 32:
        matrix = np.ones((1, 1))
        while len(matrix) < length:
            matrix = np.block([[matrix, matrix], [matrix, -matrix]])
        return values @ matrix
    high = 1 << length.bit_length() // 2
    table = _turned(values.reshape(*values.shape[:-1], high, length // high), length // high)
    return _turned(table.swapaxes(-1, -2), high).swapaxes(-1, -2).reshape(values.shape)
