"""K2 and T4: what a feature owner reads through a mask, and what an answer tells of the noise."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from isthmus.base.errors import ConfigError, LocalError
from isthmus.crypto.lattice import outer, sets
from isthmus.crypto.lattice.outer import Drawn
from isthmus.learn.histogram import BinMatrix
from tests.attacks.algebra import correlation, distance
from tests.attacks.parties import Feature, draw, gradients, layout_of, meet, small
from tests.attacks.weak.draws import NoMask, OpenMask

VECTORS = 48
"""Of 660 bins each: a correlation by chance is below 0.034 with six standard deviations."""


def opened(own: Feature, drawn: list[Drawn]) -> tuple[np.ndarray, np.ndarray]:
    """Masks and opened hints, `(vectors, R)` each."""
    masks, first, second = own.keys.prepare(drawn)
    return np.stack(masks), np.stack([own.key.open(*hint) for hint in zip(first, second, strict=True)])


def own_sums(own: Feature, drawn: list[Drawn], g: np.ndarray, h: np.ndarray) -> np.ndarray:
    """The feature owner's sums of words, each vector with the same gradients."""
    payload = own.payload(g, h, 1, own.layout.payload)
    return np.concatenate([own.sums(own.words([one], payload)) for one in drawn])


def read_without_asking(kind: type[Drawn]) -> tuple[float, float, float]:
    """What a feature owner makes of its own sums: correlations with the true g and h, and the share of bins it has exactly."""
    own, drawn = small(), draw(VECTORS, kind)
    g, h = gradients(own.matrix.rows)
    _, hints = opened(own, drawn)
    gap = own.layout.gap
    whole = ((own_sums(own, drawn, g, h) - hints).view(np.int64) + (1 << (gap - 1))) >> gap
    h_found = np.rint(whole / own.radix)
    g_found = whole - h_found * own.radix
    g_true, h_true = (np.tile(own.plain(weights), (VECTORS, 1)) for weights in (g, h))
    exact = float(((g_found == g_true) & (h_found == h_true)).mean())
    return correlation(g_found, g_true), correlation(h_found, h_true), exact


def test_without_a_mask_the_feature_owner_reads_every_sum() -> None:
    of_g, of_h, exact = read_without_asking(NoMask)
    assert exact == 1.0
    assert min(of_g, of_h) > 0.999999


def test_with_the_mask_of_the_product_it_reads_nothing() -> None:
    of_g, of_h, exact = read_without_asking(Drawn)
    assert exact < 0.001
    assert max(abs(of_g), abs(of_h)) < 0.05


def carries(kind: type[Drawn], dither: float) -> tuple[np.ndarray, np.ndarray]:
    """Of each of 48 x 660 bins of a real level: how far the answer lies from the true sum, and the noise under it."""
    own, drawn = small(), draw(VECTORS, kind)
    g, h = gradients(own.matrix.rows)
    masks, hints = opened(own, drawn)
    sums, gap = own_sums(own, drawn, g, h), np.uint64(own.layout.gap)
    true = (own.plain(g) + own.plain(h) * own.radix).view(np.uint64)
    off = (own.answers(sums, hints, dither) - (masks >> gap) - true) << gap
    noise = sums - hints - masks - (true << gap)
    return off.view(np.int64) >> own.layout.gap, noise.view(np.int64)


def test_with_open_low_bits_an_answer_carries_the_sign_of_the_noise() -> None:
    off, noise = carries(OpenMask, 0)
    found = off != 0
    assert found.sum() > 5
    assert (off[found] == np.sign(noise[found])).all()


@pytest.mark.parametrize("dither", [0, 0.999999])
def test_an_answer_of_the_product_is_the_sum_and_the_top_of_the_mask(dither: float) -> None:
    off, noise = carries(Drawn, dither)
    assert np.abs(noise).max() > 0
    assert (off == 0).all()


@pytest.mark.parametrize("kind", [OpenMask, Drawn])
def test_carries_of_a_million_bins_at_the_largest_table(kind: type[Drawn]) -> None:
    """Masks as they are drawn for as many rows as are allowed, noise at its full variance in every bin."""
    layout = layout_of(sets.ROWS_MAX, 100, 3300)
    gap, lots = np.uint64(layout.gap), -(-(10**6) // layout.bins)
    dither = layout.dither if kind is Drawn else 0
    draws = np.random.default_rng(1)
    found = agree = 0
    for one in draw(lots, kind):
        mask = one.mask(layout)
        noise = np.rint(draws.normal(0, layout.zone / sets.NOISE_DEVIATIONS, layout.bins)).astype(np.int64)
        noise += draws.integers(0, dither + 1, layout.bins)
        off = ((mask + noise.view(np.uint64)) >> gap).view(np.int64) - (mask >> gap).view(np.int64)
        found += int((off != 0).sum())
        agree += int((np.sign(off) * np.sign(noise) > 0).sum())
    if kind is OpenMask:
        assert found > 500
        assert agree >= found - lots  # a carry out of the very top turns the sign of the difference
    else:
        assert found == 0


def test_one_row_or_one_bit_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ConfigError):
        layout_of(sets.ROWS_MAX + 1, 100, 3300)
    layout = layout_of(sets.ROWS_MAX, 100, 3300)
    for beyond in (replace(layout, payload=layout.payload + 1), replace(layout, cut=layout.cut + 1)):
        assert not beyond.fits
        with pytest.raises(LocalError):
            outer.LabelKeys(b"outer", beyond)


@cache
def owner_whose_empty_rows_lie_in(bin_: int) -> Feature:
    """100 features of two bins: 1,900 rows that carry zero lie in one bin, 100 others anywhere, and they do not move."""
    cells = np.full((100, 2000), bin_, dtype=np.uint8)
    cells[:, :100] = np.random.default_rng(6).integers(0, 2, (100, 100))
    return meet(BinMatrix(cells, (2,) * 100))


def answers(kind: type[Drawn]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The answers of two feature owners whose sums are equal, and how far they lie from them; rows of the bins (0, 1, 0, ...)."""
    owners = [owner_whose_empty_rows_lie_in(bin_) for bin_ in (0, 1)]
    g, h = gradients(2000)
    g[100:] = h[100:] = 0
    told, off = [], []
    for own in owners:
        gap = np.uint64(own.layout.gap)
        true = (own.plain(g) + own.plain(h) * own.radix).view(np.uint64)
        assert (true == (owners[0].plain(g) + owners[0].plain(h) * own.radix).view(np.uint64)).all()
        drawn = draw(160, kind)
        masks, hints = opened(own, drawn)
        told.append(own.answers(own_sums(own, drawn, g, h), hints, 0.5 if kind is Drawn else 0))
        off.append((told[-1] - (masks >> gap) - true) << gap)
    return told, off


def test_with_open_low_bits_carries_tell_where_the_rows_without_weight_lie() -> None:
    _, (low, high) = answers(OpenMask)
    full = (low[:, 0::2] != 0).sum() + (high[:, 1::2] != 0).sum()
    empty = (low[:, 1::2] != 0).sum() + (high[:, 0::2] != 0).sum()
    assert full > 2 * empty


def test_answers_for_equal_sums_have_one_distribution_whatever_the_bins() -> None:
    """Less the top of the mask they are the same numbers; as they cross, they are uniform for either table."""
    told, off = answers(Drawn)
    assert not any(one.any() for one in off)
    assert distance(*told) < 3.3
    even = np.random.default_rng(8).integers(0, 1 << small().layout.payload, 40_000)
    assert all(distance(one, even) < 3.3 for one in told)
