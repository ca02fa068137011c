"""Clipping, and a bound that follows the devices."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.base.errors import DataError
from isthmus.privacy.clip import AdaptiveClip, clip


def test_long_updates_are_shortened_and_others_kept() -> None:
    updates = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    clipped, under = clip(updates, 1.0)
    assert clipped[0] == pytest.approx([0.6, 0.8])
    assert np.array_equal(clipped[1:], updates[1:])
    assert under.tolist() == [False, True, True]
    assert clip(updates[0], 2.0)[0] == pytest.approx([1.2, 1.6])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(DataError) as refused:
        clip(np.array([1.0, bad]), 1.0)
    assert refused.value.code == "not_finite"


def test_the_bound_follows_the_quantile_of_the_norms() -> None:
    draw = np.random.default_rng(1)
    norms = draw.lognormal(0.5, 0.4, 4000)
    adaptive = AdaptiveClip(0.01, amplitude=7, quantile=0.8)
    for _ in range(150):
        chosen = draw.choice(norms, 500)
        _, under = clip(chosen[:, None], adaptive.bound)
        sent = adaptive.with_sign(np.zeros((500, 3), dtype=np.int64), under)
        adaptive = adaptive.after(int(sent[:, -1].sum()), 500)
    assert adaptive.bound == pytest.approx(np.quantile(norms, 0.8), rel=0.1)


def test_noise_on_the_sign_moves_the_bound_and_never_breaks_it() -> None:
    adaptive = AdaptiveClip(1.0, amplitude=2)
    wild = adaptive.after(10**9, 20)
    assert wild.bound == pytest.approx(np.exp(-0.2 * 0.5))
    assert adaptive.after(-(10**9), 20).bound == pytest.approx(np.exp(0.2 * 0.5))


def test_the_sign_is_part_of_the_sensitivity() -> None:
    adaptive = AdaptiveClip(1.0, amplitude=3)
    values = adaptive.with_sign(np.array([4, 0], dtype=np.int64), np.array(True))
    assert values.tolist() == [4, 0, 3]
    assert adaptive.sensitivity(4.0) == pytest.approx(np.linalg.norm(values))


def test_bounds_that_make_no_sense_are_refused() -> None:
    for arguments in ((0.0, 1), (float("inf"), 1), (1.0, 0)):
        with pytest.raises(ValueError, match="bound"):
            AdaptiveClip(*arguments)
