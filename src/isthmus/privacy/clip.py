"""Clipping of one device's update, and a bound that follows a quantile of the norms.

Adaptive: Andrew, Thakkar, McMahan, Ramaswamy, "Differentially Private Learning with Adaptive Clipping" (NeurIPS 2021). The
sign "my norm was under the bound" travels as one more coordinate of the same summed, noised vector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, hypot, isfinite

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import DataError

Floats = NDArray[np.float64]


def clip(updates: NDArray[np.floating], bound: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Each update, along the last axis, scaled down to L2 norm `bound` where it is longer; and whether it was under.

    Raises DataError(not_finite): what is not a number is never sent.
    """
    values = np.array(updates, dtype=np.float64)
    norms = np.sqrt(np.einsum("...i,...i->...", values, values))
    if not np.isfinite(norms).all():
        raise DataError("not_finite", what="update")
    under = norms <= bound
    if not under.all():
        values *= np.where(under, 1.0, bound / np.where(under, 1.0, norms))[..., None]
    return values, under


@dataclass(frozen=True, slots=True)
class AdaptiveClip:
    """The bound of the next round. `bound` follows the `quantile` of the devices' norms, by `rate` a round.

    `amplitude` is the size of the sign in the ring's integers: it adds that much, squared, to the squared sensitivity.
    """

    bound: float
    amplitude: int
    quantile: float = 0.5
    rate: float = 0.2

    def __post_init__(self) -> None:
        if not (self.bound > 0 and isfinite(self.bound) and self.amplitude >= 1 and 0 < self.quantile < 1):
            raise ValueError("bound > 0, amplitude >= 1, quantile within 0 and 1")

    def with_sign(self, values: NDArray[np.int64], under: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Quantised updates with the sign as their last coordinate: + under the bound, - over it."""
        sign = np.where(under, self.amplitude, -self.amplitude).astype(np.int64)
        return np.concatenate([values, sign[..., None]], axis=-1)

    def sensitivity(self, of_update: float) -> float:
        """L2 sensitivity of update and sign together, in the ring's integers."""
        return hypot(of_update, self.amplitude)

    def after(self, signs: int, weight: int) -> AdaptiveClip:
        """The bound after a round: `signs` is the last coordinate of the opened sum, `weight` the reports' weights added up."""
        share = min(1.0, max(0.0, (signs / (self.amplitude * weight) + 1) / 2))
        return replace(self, bound=self.bound * exp(-self.rate * (share - self.quantile)))
