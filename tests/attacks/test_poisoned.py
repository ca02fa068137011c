"""K17: devices that lie about their update. A plain mean is carried away; sums of several buckets, combined, are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.fleet.combine import Rule
from isthmus.fleet.crowd import Behaviour, Shards, digits_like, spread
from isthmus.fleet.simulate import Outcome, Plan, Simulation
from isthmus.learn.head import Head, Settings

HEAD = Head.from_layers([{"dense": 5}, "softmax"], 16, "ce")
X, Y = digits_like(6000, 16, 5, seed=1, apart=5.0)
SHARDS = Shards(X[:5000], Y[:5000], spread(Y[:5000], 240, 20, 1.0, 1))
PLAIN = Plan(
    Settings(epochs=2, batch=10, learning_rate=0.3), 2.0, rounds=25, cohort=240, min_cohort=20, over_select=1.0,
    max_per_device=50,
)  # fmt: skip
HONEST = Behaviour(available=1.0, swing=0.0, dropped=0.0)
SEEDS = range(2)


def last(plan: Plan, seed: int, factor: int | None) -> Outcome:
    """The last round, with everyone honest or with one device that sends `factor` times its update and 5% flipped ones."""
    lying = HONEST if factor is None else replace(HONEST, scaled=1 / 240, flipped=0.05, factor=factor)
    simulation = Simulation(HEAD, SHARDS, (X[5000:], Y[5000:]), replace(plan, seed=seed), lying)
    return list(simulation.outcomes())[-1]


@pytest.mark.trust("K17", "T21")
def test_one_scaled_and_some_flipped_devices_carry_a_plain_mean_away() -> None:
    for seed in SEEDS:
        assert last(PLAIN, seed, -100).accuracy < last(PLAIN, seed, None).accuracy - 0.1


@pytest.mark.trust("K17", "T21")
@pytest.mark.parametrize("factor", [-100, 100])
@pytest.mark.parametrize("rule", ["trimmed_mean", "median"])
def test_buckets_hold_the_model_against_one_scaled_and_some_flipped_devices(rule: Rule, factor: int) -> None:
    plan = replace(PLAIN, buckets=6, rule=rule)
    for seed in SEEDS:
        honest, found = last(plan, seed, None), last(plan, seed, factor)
        assert found.accuracy > honest.accuracy - 0.01
        assert honest.flagged == ()
        assert len(found.flagged) == 1
