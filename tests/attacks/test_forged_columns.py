"""K3: key columns that a feature owner forged, so that an offline message shows the secret (T2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from isthmus.crypto.lattice.ntt import N
from isthmus.crypto.lattice.outer import Drawn, LabelKeys, alphas
from isthmus.crypto.lattice.sets import LEAK_MAX_BITS, Layout
from tests.attacks.algebra import Equations, chi_square, deviations
from tests.attacks.parties import SEEDS, draw, layout_of
from tests.attacks.weak.draws import NoBlinding, NoMask, PayloadMask

GUESSING = 1 / 3
SMALL = layout_of(2000, 20, 660)
TYPICAL = layout_of(10_000, 20, 660)
LEAKY = layout_of(20_000, 20, 660)
"""Where the low bits of a mask are bound most: words of six bytes leave hardly more than half of Delta."""


def forged(layout: Layout, column: Callable[[int], tuple[int, int]]) -> LabelKeys:
    """Columns that are zero but for one bin each: `column(j)` is the bin and what stands there. p0 is zero: no v."""
    keys = LabelKeys(SEEDS[0], layout)
    beta = np.zeros((N, layout.bins), dtype=np.uint64)
    for j in range(N):
        bin_, value = column(j)
        if bin_ < layout.bins:
            beta[j, bin_] = value
    keys.keep(0, 0, beta)
    keys.seal(np.zeros((1, N), dtype=np.uint64))
    return keys


def place_values(layout: Layout) -> tuple[LabelKeys, int]:
    """Powers of four below the payload: so many digits a bin."""
    per_bin = layout.gap // 2
    return forged(layout, lambda j: (j // per_bin, 1 << 2 * (j % per_bin))), per_bin


def digits_read(kind: type[Drawn]) -> float:
    """Share of the digits of 32 secrets that stand in the low bits of the second part."""
    keys, per_bin = place_values(SMALL)
    drawn = draw(32, kind)
    _, _, second = keys.prepare(drawn)
    ones = np.uint64(sum(1 << 2 * at for at in range(per_bin)))
    places = np.arange(per_bin, dtype=np.uint64) * np.uint64(2)
    found = ((second + ones)[:, :, None] >> places & np.uint64(3)).astype(np.int64) - 1
    found[found > 1] = 0
    found = found.reshape(len(drawn), -1)[:, :N]
    return float((found == np.stack([one.secret() for one in drawn])).mean())


def test_under_a_mask_of_the_payload_alone_powers_of_four_read_the_secret() -> None:
    assert digits_read(PayloadMask) == 1.0


def test_under_the_mask_of_the_product_powers_of_four_read_nothing() -> None:
    assert digits_read(Drawn) < GUESSING + 0.02


@cache
def equations() -> Equations:
    return Equations(alphas(SEEDS[0], 0, 0, N))


def solved(kind: type[Drawn]) -> float:
    """Share of the digits of a secret that follow from the first part alone, columns of zeros making the second empty."""
    keys = forged(SMALL, lambda j: (0, 0))
    (one,) = drawn = draw(1, kind)
    _, first, _ = keys.prepare(drawn)
    return float((equations().solve(first[0, 0]) == one.secret()).mean())


def test_without_a_blinding_the_first_part_is_the_secret() -> None:
    assert solved(NoBlinding) == 1.0


def test_the_first_part_of_the_product_shows_nothing() -> None:
    assert solved(Drawn) < GUESSING + 0.02


def best_guess(layout: Layout, kind: type[Drawn], middle: int) -> tuple[float, float, int]:
    """Shares of digits guessed right, of those put in a bin of their own and of all, and how many are of the first kind.

    A digit at a third of Delta moves the low bits of the mask by a third of their range. Whichever value leaves them
    nearest to their middle is the likeliest, as their density falls off to both ends.
    """
    third = round((1 << layout.gap) / 3)
    keys = forged(layout, lambda j: (j, third))
    drawn = draw(64, kind)
    _, _, second = keys.prepare(drawn)
    true = np.stack([one.secret() for one in drawn])
    values, size = np.array([-1, 0, 1]), np.int64(1 << layout.gap)
    away = (values[:, None, None] * third - second.view(np.int64)[None] - middle) % size
    found = values[np.minimum(away, size - away).argmin(axis=0)]
    right = int((found == true[:, : layout.bins]).sum()) + int((true[:, layout.bins :] == 0).sum())
    return float((found == true[:, : layout.bins]).mean()), right / true.size, found.size


@pytest.mark.parametrize("layout", [TYPICAL, LEAKY])
def test_what_the_edges_of_a_mask_give_away_stays_within_the_bound(layout: Layout) -> None:
    """docs/explanation/lattice.md, 4.6 and 5: R log2(Delta / room) bits, a tenth of the secret at most."""
    share = layout.room / 2.0**layout.gap
    leak = -layout.bins * math.log2(share)
    single, overall, count = best_guess(layout, Drawn, layout.margin + layout.room // 2)
    chance = 6 * math.sqrt(1 / 4 / count)
    assert leak <= LEAK_MAX_BITS
    assert (
        GUESSING + chance < single < GUESSING / share + chance
    )  # a leak it is, and no larger than the bound
    assert overall < GUESSING + (0.02 if layout is TYPICAL else 0.06)


def test_the_same_guess_reads_every_digit_where_the_mask_covers_the_payload_alone() -> None:
    assert best_guess(TYPICAL, PayloadMask, 0)[0] == 1.0


def dependence(kind: type[Drawn]) -> tuple[float, float]:
    """10^6 words: deviations of the top eight bits from those of a random table, by digit and altogether."""
    layout = layout_of(2000, 124, 4096)
    keys = forged(layout, lambda j: (j, 1 << 62))
    drawn = draw(256, kind)
    _, _, second = keys.prepare(drawn)
    table = np.zeros((3, 256))
    top = (second >> np.uint64(56)).astype(np.int64)
    np.add.at(table, (np.stack([one.secret() for one in drawn]) + 1, top), 1)
    whole = table.sum(axis=0)
    even = ((whole - whole.mean()) ** 2 / whole.mean()).sum()
    kept = table[:, whole > 0]
    return deviations(*chi_square(kept)), deviations(float(even), 255)


def test_without_a_mask_the_top_bits_follow_the_secret() -> None:
    assert dependence(NoMask)[0] > 100


def test_the_second_part_of_the_product_is_independent_of_the_secret() -> None:
    by_digit, altogether = dependence(Drawn)
    assert abs(by_digit) < 6.5
    assert abs(altogether) < 6.5
