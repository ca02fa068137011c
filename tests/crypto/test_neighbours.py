"""How many keepers a device draws: the bounds are exact sums, and agree with what the authors of the paper published."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from isthmus.base.errors import ConfigError
from isthmus.crypto.neighbours import (
    FAILURE_BITS,
    _log_at_least,
    _log_factorials,
    degree,
    failure_bits,
    isolation_bits,
)


def at_least(whole: int, marked: int, draws: int, least: int) -> Fraction:
    """P[at least `least` of the draws are marked], exactly."""
    ways = sum(
        math.comb(marked, hits) * math.comb(whole - marked, draws - hits) for hits in range(least, draws + 1)
    )
    return Fraction(ways, math.comb(whole, draws))


@pytest.mark.parametrize(("n", "c", "k", "t"), [(30, 8, 14, 10), (25, 5, 9, 7), (60, 12, 24, 17)])
def test_the_bound_on_groups_is_the_sum_that_it_is_said_to_be(n: int, c: int, k: int, t: int) -> None:
    exact = sum(
        math.comb(n - c, s) * at_least(n - 1, s - 1 + c, k, t) ** s for s in range(1, (n - c) // 2 + 1)
    )
    assert isolation_bits(n, c, k, t) == pytest.approx(-math.log2(exact), abs=1e-6)


@pytest.mark.parametrize(("n", "alive", "k", "t"), [(30, 24, 14, 10), (60, 50, 24, 17)])
def test_the_bound_on_failure_is_the_sum_that_it_is_said_to_be(n: int, alive: int, k: int, t: int) -> None:
    exact = n * (1 - at_least(n - 1, alive - 1, k, t))
    assert failure_bits(n, alive, k, t) == pytest.approx(-math.log2(exact), abs=1e-6)


PUBLISHED = [
    # devices, corrupt, dropped out, degree, threshold: federated-compute, secagg/server/graph_parameter_finder_test.cc, of the
    # authors of the paper; security 2^-41 for each of two events, failure 2^-20; a server that is curious only
    (1_000, 0.33, 0.33, 286, 150),
    (10_000, 0.33, 0.33, 422, 221),
    (100, 0.05, 0.33, 28, 6),
    (1_000, 0.05, 0.33, 72, 24),
    (10_000, 0.05, 0.33, 86, 29),
    (100_000, 0.05, 0.33, 96, 32),
    (100, 0.33, 0.05, 34, 29),
    (1_000, 0.33, 0.05, 78, 60),
    (10_000, 0.33, 0.05, 92, 70),
    (100_000, 0.33, 0.05, 102, 77),
]


@pytest.mark.parametrize(("n", "corrupt", "dropped", "degree_", "threshold"), PUBLISHED)
def test_both_tails_agree_with_the_published_degrees_and_thresholds(
    n: int, corrupt: float, dropped: float, degree_: int, threshold: int
) -> None:
    logs = _log_factorials(n)
    bad, gone = math.floor(n * corrupt + 1e-9), math.floor(n * dropped + 1e-9)

    def window(k: int) -> tuple[int, int]:
        """The lowest threshold that holds against the corrupt, and the highest that the survivors reach."""
        risks = [float(_log_at_least(logs, n, np.array([bad]), k, t)[0]) for t in range(k + 2)]
        fails = [float(_log_at_least(logs, n, np.array([gone]), k, k - t + 1)[0]) for t in range(k + 1)]
        low = next(t for t in range(k + 2) if risks[t] <= -41 * math.log(2) - math.log(n))
        high = max(t for t in range(k + 1) if t == 0 or fails[t] < -20 * math.log(2) - math.log(n))
        return low, high

    def falls_apart(k: int) -> bool:
        """Whether a random ring of neighbours may lose its coherence: the other condition of the published ones."""
        worst = bad + gone
        if k > worst:
            return False
        pairs = math.log(n) + math.log(n - k - 1) - math.log(2)
        ways = math.lgamma(worst + 1) - math.lgamma(worst - k + 1)
        return pairs + ways + math.lgamma(n - k + 1) - math.lgamma(n + 1) >= -41 * math.log(2)

    low, high = window(degree_)
    assert low == threshold <= high
    assert not falls_apart(degree_)
    low, high = window(degree_ - 2)
    assert low > high or falls_apart(degree_ - 2)


@pytest.mark.parametrize(("n", "k", "t"), [(100, 33, 23), (1000, 79, 53)])
def test_a_degree_is_the_smallest_for_which_both_bounds_hold(n: int, k: int, t: int) -> None:
    corrupt, surviving = n // 5, n * 9 // 10
    assert degree(n, 0.2, 0.1) == (k, t)
    assert isolation_bits(n, corrupt, k, t) >= 40
    assert failure_bits(n, surviving, k, t) >= FAILURE_BITS
    for fewer in range(3, k):
        low = 2 * fewer // 3 + 1
        assert (
            failure_bits(n, surviving, fewer, low) < FAILURE_BITS
            or isolation_bits(n, corrupt, fewer, low) < 40
        )


def test_more_security_drop_outs_or_corruption_never_take_fewer_keepers() -> None:
    plain = degree(200, 0.1, 0.1)[0]
    assert degree(200, 0.1, 0.1, 80)[0] >= plain
    assert degree(200, 0.3, 0.1)[0] >= plain
    assert degree(200, 0.1, 0.25)[0] >= plain


@pytest.mark.parametrize(("n", "corrupt", "dropped"), [(3, 0.0, 0.0), (100, 0.34, 0.1), (100, 0.2, 0.34)])
def test_shares_for_which_nothing_is_safe_are_refused(n: int, corrupt: float, dropped: float) -> None:
    with pytest.raises(ConfigError, match="out_of_bounds"):
        degree(n, corrupt, dropped)


def test_a_graph_drawn_at_random_keeps_to_the_bound() -> None:
    # 12 devices, 2 corrupt, 3 keepers of which all 3 are needed: groups that stand apart are common enough to be counted.
    n, corrupt, k, t, rounds = 12, 2, 3, 3, 20_000
    order = np.random.default_rng(1).random((rounds, n, n - 1)).argsort(axis=2)[:, :, :k]
    others = np.array([[other for other in range(n) if other != own] for own in range(n)])
    drawn = (1 << others[np.arange(n)[None, :, None], order]).sum(axis=2)
    apart = np.zeros(rounds, dtype=bool)
    for group in range(1 << corrupt, 1 << n, 1 << corrupt):
        members = [own for own in range(corrupt, n) if group >> own & 1]
        if len(members) <= (n - corrupt) // 2:
            inside = np.bitwise_count(drawn[:, members] & (group | (1 << corrupt) - 1))
            apart |= (inside >= t).all(axis=1)
    bound = 2 ** -isolation_bits(n, corrupt, k, t)
    assert 0.001 < apart.mean() < bound
