"""What rounds cost: (epsilon, delta) of one device that takes part a number of times.

The unit is a device: two runs are neighbours if one device's vectors are zeros in one of them. Discrete Gaussian noise of
parameter s on sums of integer vectors with L2 sensitivity D is D^2 / (2 s^2)-zCDP, and zCDP adds up (Canonne, Kamath,
Steinke 2020, theorem 14 for vectors). The noise of ONE helper counts, since the other one may work with the leader. No
amplification by sampling is claimed: a leader chooses who is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, isfinite, log, log1p, sqrt

EPSILON_MAX = 1e6
GOLDEN = (sqrt(5) - 1) / 2


def rho_of(noise_std: float, sensitivity: float, times: int = 1) -> float:
    """zCDP of `times` participations; infinite without noise."""
    if times == 0 or sensitivity == 0:
        return 0.0
    return times * (sensitivity / noise_std) ** 2 / 2 if noise_std > 0 else inf


def epsilon_of(spent: float, at_delta: float) -> float:
    """The least epsilon at that delta which zCDP of `spent` implies, over all orders (ibid., proposition 12)."""
    _check(at_delta)
    if spent == 0 or not isfinite(spent):
        return spent

    def at(order_less_one: float) -> float:
        order = 1 + order_less_one
        return order * spent + log(order_less_one / order) - (log(at_delta) + log(order)) / order_less_one

    return max(0.0, at(_least(at)))


def delta_of(spent: float, at_epsilon: float) -> float:
    """The least delta at that epsilon."""
    if spent == 0:
        return 0.0
    if not isfinite(spent):
        return 1.0

    def log_delta(order_less_one: float) -> float:
        order = 1 + order_less_one
        return (
            order_less_one * (order * spent - at_epsilon)
            - log(order_less_one)
            - order * log1p(1 / order_less_one)
        )

    return min(1.0, exp(min(0.0, log_delta(_least(log_delta)))))


def rho_for(at_epsilon: float, at_delta: float) -> float:
    """The greatest zCDP that stays within (epsilon, delta)."""
    _check(at_delta)
    if not 0 < at_epsilon <= EPSILON_MAX:
        raise ValueError("epsilon is above 0 and at most a million")
    low, high = 0.0, at_epsilon + 1.0
    while epsilon_of(high, at_delta) < at_epsilon:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if epsilon_of(middle, at_delta) <= at_epsilon:
            low = middle
        else:
            high = middle
    return low


def noise_for(at_epsilon: float, at_delta: float, sensitivity: float, times: int) -> float:
    """The noise each helper adds so that `times` participations cost one device no more than (epsilon, delta)."""
    std = sensitivity * sqrt(times / (2 * rho_for(at_epsilon, at_delta)))
    while epsilon_of(rho_of(std, sensitivity, times), at_delta) > at_epsilon:  # the last bits of a float
        std *= 1 + 2.0**-50
    return std


def _least(of: Callable[[float], float]) -> float:
    """Where `of` is least among positive numbers: a grid over their logarithm, then golden section around its lowest point."""
    grid = [exp(step / 4) for step in range(-60, 121)]
    place = min(range(len(grid)), key=lambda i: of(grid[i]))
    low, high = log(grid[max(0, place - 1)]), log(grid[min(len(grid) - 1, place + 1)])
    for _ in range(60):
        left, right = high - (high - low) * GOLDEN, low + (high - low) * GOLDEN
        low, high = (low, right) if of(exp(left)) < of(exp(right)) else (left, high)
    return exp((low + high) / 2)


def _check(at_delta: float) -> None:
    if not 0 < at_delta < 1:
        raise ValueError("delta is between 0 and 1")
