"""Parameter sets, and what follows from the set, the rows, the features and the bins: noise, masks, payload.

Everything is counted in units of the wire: words modulo 2^64, of which the lowest `dropped` bits of q were rounded away.
A payload of w bits is multiplied by Delta = 2^(64 - w). Derivations stand in docs/explanation/lattice.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from isthmus.base.errors import ConfigError
from isthmus.crypto.lattice.ntt import N
from isthmus.crypto.lattice.sampling import NOISE_VARIANCE

ROWS_MAX: Final = 4_000_000
BINS_MAX: Final = 131_072
"""32 kB of key columns each: 4 GiB in all, kept on disk by the label owner."""

TERNARY_VARIANCE: Final = 2 / 3
SECRET_BITS: Final = N * math.log2(3)
LEAK_MAX_BITS: Final = SECRET_BITS / 10
NOISE_DEVIATIONS: Final = 10
EDGE_DEVIATIONS: Final = 8
EDGE_FACTOR: Final = 2
CUT_MAX: Final = 4
DITHER_SHARE: Final = 1 / 16
DITHER_LEAK_BITS: Final = LEAK_MAX_BITS * math.log(2) / 4
_OUTER_VARIANCE: Final = NOISE_VARIANCE * (1 + 3 * N * TERNARY_VARIANCE)


@dataclass(frozen=True, slots=True)
class Set:
    """log2 of q, and how many of its lowest bits are rounded away before a vector is sent."""

    name: str
    q_bits: int
    dropped: int


SETS: Final = (Set("A1", 64, 0), Set("W8", 72, 8))
"""In the order of preference: the smaller q, the larger the margin of security."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A set and a payload for the columns of one feature owner: `features` features, `bins` bins in all, `rows` rows.

    Of a word of 8 bytes the lowest `cut` are rounded away where the payload leaves room for that.
    """

    set: Set
    payload: int
    cut: int
    rows: int
    features: int
    bins: int

    @property
    def gap(self) -> int:
        """log2 of Delta."""
        return 64 - self.payload

    @property
    def word_bytes(self) -> int:
        return 8 - self.cut

    @property
    def tolerance(self) -> int:
        """How far an opened hint may be from M (A s) - u: ten standard deviations of the noise in it."""
        rounding = (self.rows + N * TERNARY_VARIANCE) / 12 if self.set.dropped else 0.0
        return math.ceil(NOISE_DEVIATIONS * math.sqrt(_OUTER_VARIANCE + rounding))

    @property
    def zone(self) -> int:
        """Z: ten standard deviations of all noise that reaches a sum."""
        inner = NOISE_VARIANCE * self.rows / 4.0**self.set.dropped
        rounding = (self.rows + N * TERNARY_VARIANCE) / 12 if self.set.dropped else 0.0
        rounding += self.rows * 256.0 ** (2 * self.cut) / 12 if self.cut else 0.0
        return math.ceil(NOISE_DEVIATIONS * math.sqrt(inner + _OUTER_VARIANCE + rounding))

    @property
    def edge(self) -> float:
        """Standard deviation of the Gaussian part of a mask: twice that of all that a feature owner could see through it."""
        seen = NOISE_VARIANCE * self.features * self.rows / 4.0**self.set.dropped
        seen += TERNARY_VARIANCE * NOISE_VARIANCE * (math.sqrt(self.bins) + math.sqrt(N)) ** 2
        if self.set.dropped:
            seen += TERNARY_VARIANCE / 12 * (math.sqrt(self.bins) + math.sqrt(self.features * N)) ** 2
        seen += 2 * TERNARY_VARIANCE * NOISE_VARIANCE * N * (math.log(2 * N) + 5)
        return EDGE_FACTOR * math.sqrt(seen)

    @property
    def margin(self) -> int:
        """What a mask keeps from either end of [0, Delta) before its Gaussian part is added."""
        return self.zone + math.ceil(EDGE_DEVIATIONS * self.edge)

    @property
    def dither(self) -> int:
        """What a feature owner adds to a sum is below this: Delta / 16, and less where there are many bins."""
        return int(2.0**self.gap * min(DITHER_SHARE, DITHER_LEAK_BITS / self.bins))

    @property
    def room(self) -> int:
        """How wide the uniform part of a mask is below Delta."""
        return int((1 << self.gap) - 2 * self.margin - self.dither)

    @property
    def fits(self) -> bool:
        """Half of [0, Delta) stays uniform, and what the rest shows of a secret is a tenth of it at most."""
        lost = (2 * self.margin + self.dither) / 2.0**self.gap
        return lost <= 0.5 and -self.bins * math.log2(1 - lost) <= LEAK_MAX_BITS


def width(rows: int, gradient_bits: int, hessian_bits: int) -> int:
    """Bits that hold the sums of g and h of so many rows, packed as g + h * radix, whatever the gradients are."""
    g_sums = (2 ** (gradient_bits - 1) - 1) * rows + 1
    h_sums = (2**hessian_bits - 1) * rows + 1
    return (g_sums * h_sums - 1).bit_length()


def choose(rows: int, shapes: Sequence[tuple[int, int]], needed: int) -> list[Layout]:
    """One set and payload for all feature owners, `shapes` giving features and bins of each.

    The first set that carries `needed` bits, or what the last one carries: wider sums then take several vectors.
    """
    for what, count, most in (
        ("training rows", rows, ROWS_MAX),
        ("bins of one party", max(bins for _, bins in shapes), BINS_MAX),
    ):
        if count > most:
            raise ConfigError(
                "out_of_bounds",
                field="crypto.engine",
                value="lattice-hint",
                allowed=f"at most {most:,} {what}",
            )
    payload = 0
    for chosen in SETS:
        payload = min(_payload(chosen, rows, *shape, needed) for shape in shapes)
        if payload == needed:
            break
    layouts = [Layout(chosen, payload, 0, rows, *shape) for shape in shapes]
    for cut in range(1, CUT_MAX + 1):
        narrower = [replace(layout, cut=cut) for layout in layouts]
        if not all(layout.fits for layout in narrower):
            break
        layouts = narrower
    return layouts


def _payload(chosen: Set, rows: int, features: int, bins: int, needed: int) -> int:
    return next(w for w in range(needed, 0, -1) if Layout(chosen, w, 0, rows, features, bins).fits)
