"""Discrete Gaussian noise: the right distribution, also where floats cannot tell, and nothing cut."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from isthmus.privacy import noise
from isthmus.privacy.noise import discrete_gaussian


def seeded(seed: int) -> noise.Source:
    return np.random.default_rng(seed).bytes


def mass(std: float, low: int, high: int) -> np.ndarray:
    """P(x) for x in low..high, the rest of the tail left out of the sum below 1e-30."""
    wide = np.arange(low - int(40 * std) - 40, high + int(40 * std) + 41)
    weights = np.exp(-(wide.astype(float) ** 2) / (2 * std**2))
    inside: np.ndarray = (weights / weights.sum())[(wide >= low) & (wide <= high)]
    return inside


def fits(std: float, drawn: np.ndarray) -> float:
    """The chi-square p-value of the draws against the law, in cells that expect at least 20; tails are one cell each."""
    reach = int(6 * std) + 2
    expected = mass(std, -reach, reach) * len(drawn)
    keep = expected >= 20
    cells = np.arange(-reach, reach + 1)[keep]
    counts = np.array([(drawn == cell).sum() for cell in cells], dtype=float)
    low, high = (drawn < cells[0]).sum(), (drawn > cells[-1]).sum()
    side = (len(drawn) - expected[keep].sum()) / 2
    if side >= 5:
        counts = np.concatenate([counts, [low, high]])
        wanted = np.concatenate([expected[keep], [side, side]])
    else:
        wanted = expected[keep] * counts.sum() / expected[keep].sum()
    return float(stats.chisquare(counts, wanted).pvalue)


@pytest.mark.parametrize("std", [0.25, 0.7, 1.0, 2.5, 7.3, 30.0])
def test_draws_follow_the_discrete_gaussian(std: float) -> None:
    assert fits(std, discrete_gaussian(std, 200_000, seeded(1))) > 1e-4


def test_the_law_of_a_neighbouring_parameter_does_not_pass() -> None:
    drawn = discrete_gaussian(2.5, 200_000, seeded(2))
    assert fits(2.55, drawn) < 1e-4
    assert fits(2.5, drawn) > 1e-4


def test_coins_that_floats_cannot_settle_are_settled_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    settle = noise._settle

    def counted(drawn: int, x: Fraction, source: noise.Source) -> bool:
        calls.append(x)
        return settle(drawn, x, source)

    monkeypatch.setattr(noise, "_CLOSE", 0.25)
    monkeypatch.setattr(noise, "_settle", counted)
    exact = discrete_gaussian(1.7, 6_000, seeded(3))
    monkeypatch.undo()
    assert len(calls) > 5_000
    assert np.array_equal(exact, discrete_gaussian(1.7, 6_000, seeded(3)))


def test_a_coin_at_the_very_edge_takes_more_bits_until_it_is_decided() -> None:
    edge = int(Fraction(1) / Fraction(math.e) * 2**64)
    heads = [noise._settle(edge + shift, Fraction(1), seeded(4)) for shift in (-4096, 4096)]
    assert heads == [True, False]
    # exp(-1) to 320 bits: the 64 that begin it are undecided, and what the source gives next decides.
    whole = 0x5E2D58D8B3BCDF1ABADEC7829054F90DDA9805AAB56C77333024B9D0A507DAED
    first, rest = whole >> 192, whole & (2**192 - 1)
    asked = []

    def following(word: int) -> noise.Source:
        def give(count: int) -> bytes:
            asked.append(count)
            return word.to_bytes(8, "little")

        return give

    assert noise._settle(first, Fraction(1), following((rest >> 128) - 1))
    assert not noise._settle(first, Fraction(1), following((rest >> 128) + 1))
    assert asked == [8, 8]


def test_nothing_is_cut_however_wide_the_noise_is() -> None:
    std = 2.0**40
    drawn = discrete_gaussian(std, 50_000, seeded(5)) / std
    assert abs(drawn).max() > 3.5
    assert stats.kstest(drawn, "norm").pvalue > 1e-4


def test_draws_come_from_the_system_and_differ() -> None:
    assert not np.array_equal(discrete_gaussian(50.0, 100), discrete_gaussian(50.0, 100))


def test_no_noise_is_zeros_and_odd_parameters_are_refused() -> None:
    assert discrete_gaussian(0.0, 5).tolist() == [0] * 5
    assert len(discrete_gaussian(3.0, 0)) == 0
    for std in (-1.0, math.nan, math.inf, 2.0**41):
        with pytest.raises(ValueError, match="std"):
            discrete_gaussian(std, 3)
