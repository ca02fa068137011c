"""Gradients as small integers, once per tree, before any engine sees them.

A privacy rule as much as a format: exact sums of precise gradients are fingerprints of the rows in a small bin.
Rounding is stochastic, so sums stay unbiased; one scale per tree, so that sibling = parent - child is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.base.randomness import Rng

Integers = NDArray[np.int64]


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
