"""Exact discrete Gaussian noise from the system's randomness.

Source: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (NeurIPS 2020), algorithms 1 to 3, over
whole arrays. P(x) is proportional to exp(-x^2 / (2 std^2)) over all integers: no tail is cut and nothing is rounded.

Every coin of the algorithm lands heads with probability exp(-x) for a rational x. It is drawn as U < exp(-x), bit by bit:
64 bits of U and a float settle all but about one coin in 2^39; those take as many more bits and digits as they need.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from math import floor

import numpy as np
from numpy.typing import NDArray

Source = Callable[[int], bytes]
"""Gives that many random bytes."""

STD_MAX = 2.0**40
_CLOSE = 2.0**-40
"""Far more than all rounding errors of a float exp(-x) here together, each of which stays below 2^-45."""


def discrete_gaussian(std: float, size: int, source: Source = os.urandom) -> NDArray[np.int64]:
    """`size` independent integers with the parameter `std` (0: zeros), which bounds their standard deviation."""
    if not 0 <= std <= STD_MAX:
        raise ValueError("std is between 0 and 2^40")
    if std == 0:
        return np.zeros(size, dtype=np.int64)
    found: list[NDArray[np.int64]] = []
    missing = size
    while missing > 0:
        some = _candidates(std, missing + missing // 2 + 16, source)
        found.append(some[:missing])
        missing -= len(found[-1])
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _candidates(std: float, count: int, source: Source) -> NDArray[np.int64]:
    """Discrete Gaussians among `count` discrete Laplaces of scale floor(std) + 1 (algorithm 3)."""
    scale = floor(std) + 1
    drawn = _laplace(scale, count, source)
    centre, variance = Fraction(std) ** 2 / scale, Fraction(std) ** 2
    size = np.abs(drawn)
    rough = ((size - float(centre)) / std) ** 2 / 2

    def exactly(place: int) -> Fraction:
        return (int(size[place]) - centre) ** 2 / (2 * variance)

    return drawn[_heads(rough, exactly, source)]


def _laplace(scale: int, count: int, source: Source) -> NDArray[np.int64]:
    """Some discrete Laplaces, at most `count` (algorithm 2): sign, and low + scale * high, without the second zero."""
    low = _below(scale, count, source)
    low = low[_heads(low / scale, lambda place: Fraction(int(low[place]), scale), source)]
    high = np.zeros(len(low), dtype=np.int64)
    running = np.arange(len(low))
    while len(running):
        running = running[_heads(np.ones(len(running)), lambda _: Fraction(1), source)]
        high[running] += 1
    size = low + scale * high
    negative = np.unpackbits(np.frombuffer(source((len(size) + 7) // 8), dtype=np.uint8))[: len(size)] == 1
    signed: NDArray[np.int64] = np.where(negative, -size, size)
    kept: NDArray[np.int64] = signed[~(negative & (size == 0))]
    return kept


def _below(limit: int, count: int, source: Source) -> NDArray[np.int64]:
    """`count` uniform integers in [0, limit): words over the last whole multiple of `limit` are drawn again."""
    last = 2**64 - 2**64 % limit - 1
    words = _words(count, source)
    while (again := np.flatnonzero(words > np.uint64(last))).size:
        words[again] = _words(again.size, source)
    return (words % np.uint64(limit)).astype(np.int64)


def _heads(
    rough: NDArray[np.float64], exactly: Callable[[int], Fraction], source: Source
) -> NDArray[np.bool_]:
    """Coins with probability exp(-x): `rough` is x as floats, `exactly(place)` the rational itself."""
    words = _words(len(rough), source)
    gap = np.exp(-rough) - words * 2.0**-64
    heads: NDArray[np.bool_] = gap > 0
    for place in np.flatnonzero(np.abs(gap) < _CLOSE).tolist():
        heads[place] = _settle(int(words[place]), exactly(place), source)
    return heads


def _settle(drawn: int, x: Fraction, source: Source) -> bool:
    """Whether U < exp(-x), where the first 64 bits of U are `drawn`: more bits and digits until they lie apart."""
    bits = 64
    while True:
        digits = bits // 3 + 20
        context = Context(prec=digits, Emin=-(10**9), Emax=10**9)
        power = context.exp(context.divide(Decimal(-x.numerator), Decimal(x.denominator)))
        # The quotient is off by at most x 10^-digits of itself, its exponential by as much again, both far below 10^10 of that.
        close = Fraction(power) * Fraction(1 + x) / 10 ** (digits - 10)
        if Fraction(drawn + 1, 2**bits) <= Fraction(power) - close:
            return True
        if Fraction(drawn, 2**bits) >= Fraction(power) + close:
            return False
        drawn, bits = drawn << 64 | int.from_bytes(source(8), "little"), bits + 64


def _words(count: int, source: Source) -> NDArray[np.uint64]:
    return np.frombuffer(source(8 * count), dtype="<u8").astype(np.uint64)
