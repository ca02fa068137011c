"""The simulation: the sums of the product, devices that come, go and lie, and the same answer from the same seed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from isthmus.base.errors import ConfigError
from isthmus.fleet.crowd import Behaviour, Crowd, Shards, by_owner, digits_like, spread
from isthmus.fleet.simulate import Chunk, Outcome, PlainSum, Plan, Simulation
from isthmus.fleet.simulated_plots import drawings
from isthmus.fleet.simulated_sum import SplitTrustSum
from isthmus.fleet.strategies import FedAdam, FedAvg, FedBuff, FedProx, Scaffold
from isthmus.learn.head import Head, Settings

HEAD = Head.from_layers([{"dense": 5}, "softmax"], 16, "ce")
POOL_X, POOL_Y = digits_like(6000, 16, 5, seed=1, apart=5.0)
HELD_OUT = (POOL_X[5000:], POOL_Y[5000:])
LOCAL = Settings(epochs=2, batch=10, learning_rate=0.3)
PLAN = Plan(LOCAL, clip_norm=2.0, rounds=8, cohort=120, min_cohort=30, max_per_device=50)


def shards(devices: int = 1000, alpha: float = 1.0) -> Shards:
    return Shards(POOL_X[:5000], POOL_Y[:5000], spread(POOL_Y[:5000], devices, 20, alpha, 1))


def run(
    plan: Plan, behaviour: Behaviour | None = None, alpha: float = 1.0
) -> tuple[Simulation, list[Outcome]]:
    simulation = Simulation(HEAD, shards(alpha=alpha), HELD_OUT, plan, behaviour)
    return simulation, list(simulation.outcomes())


def central() -> float:
    """Accuracy of the same head trained on the pool itself."""
    flat = HEAD.init(bytes(16))
    x, y = POOL_X[None, :5000], POOL_Y[None, :5000]
    flat = HEAD.train_many(flat, x, y, np.ones_like(y), Settings(epochs=10, batch=50, learning_rate=0.3))[0]
    return float((HEAD.forward(flat, HELD_OUT[0]).argmax(axis=1) == HELD_OUT[1]).mean())


def test_the_shared_model_comes_near_one_trained_on_everything_in_one_place() -> None:
    _, outcomes = run(replace(PLAN, rounds=25))
    assert outcomes[-1].accuracy > central() - 0.02
    assert outcomes[0].accuracy < outcomes[-1].accuracy - 0.1


def test_the_same_seed_gives_the_same_model_with_any_number_of_threads() -> None:
    first, _ = run(PLAN)
    again, _ = run(replace(PLAN, threads=3))
    other, _ = run(replace(PLAN, seed=1))
    assert np.array_equal(first.model, again.model)
    assert not np.array_equal(first.model, other.model)


def test_what_the_model_moves_by_is_the_mean_of_what_devices_sent_exactly() -> None:
    seen: list[Chunk] = []
    plain = PlainSum(0)

    def watching(round_, model, ring, noise_std, chunks):  # type: ignore[no-untyped-def]
        kept = list(chunks)
        seen.extend(kept)
        return plain(round_, model, ring, noise_std, iter(kept))

    simulation = Simulation(HEAD, shards(), HELD_OUT, replace(PLAN, rounds=1), adder=watching)
    before = simulation.model.copy()
    list(simulation.outcomes())
    values = np.concatenate([chunk[1] for chunk in seen])
    assert values.shape == (120, HEAD.size)
    shown = hashlib.sha256(bytes(4) + before.astype("<f4").tobytes()).digest()
    mean = simulation._encoding(shown).decode(values).mean(axis=0)
    assert simulation.model - before == pytest.approx(mean, abs=1e-12)


def test_lies_wrap_around_in_the_ring_as_they_would_in_the_service() -> None:
    ring = Simulation(HEAD, shards(), HELD_OUT, PLAN).ring
    top = 2 ** (8 * ring.width_bytes - 1)
    values = np.full((3, 4), top // 2, dtype=np.int64)
    total = PlainSum(0)(0, bytes(32), ring, 0.0, iter([(np.arange(3), values, np.ones(3, dtype=np.int64))]))
    assert (total == 3 * (top // 2) - 2 * top).all()


def test_sealed_answered_and_opened_sums_give_the_same_model_bit_for_bit() -> None:
    plan = replace(PLAN, rounds=3, cohort=60, min_cohort=20, buckets=2, rule="mean")
    behaviour = Behaviour(flipped=0.1, scaled=0.1)
    models = []
    for adder in (PlainSum(0), SplitTrustSum(plan.max_per_device, 1, plan.rounds)):
        simulation = Simulation(HEAD, shards(), HELD_OUT, plan, behaviour, adder)
        assert [outcome.reports for outcome in simulation.outcomes()] == [60, 60, 60]
        models.append(simulation.model)
    assert np.array_equal(models[0], models[1])


def test_devices_that_drop_out_or_are_late_are_not_counted_and_the_round_goes_on() -> None:
    _, outcomes = run(PLAN, Behaviour(dropped=0.2))
    for outcome in outcomes:
        assert outcome.reason == ""
        assert outcome.reports == 120
        assert outcome.asked >= 120
        assert outcome.dropped + outcome.late + outcome.reports == outcome.asked
    asked = sum(outcome.asked for outcome in outcomes)
    assert sum(outcome.dropped for outcome in outcomes) == pytest.approx(0.2 * asked, rel=0.2)


def test_a_round_with_too_few_reports_is_given_up_at_its_deadline_and_moves_nothing() -> None:
    plan = replace(PLAN, rounds=2, min_cohort=100)
    simulation = Simulation(HEAD, shards(150), HELD_OUT, plan, Behaviour(dropped=0.9))
    before = simulation.model.copy()
    outcomes = list(simulation.outcomes())
    assert [outcome.reason for outcome in outcomes] == ["too_few", "too_few"]
    assert outcomes[-1].hours == pytest.approx(2 * plan.deadline_h)
    assert np.array_equal(simulation.model, before)


def test_devices_that_fall_out_are_replaced_until_enough_have_reported() -> None:
    _, outcomes = run(PLAN, Behaviour(available=0.1, dropped=0.4, minutes=5))
    assert all(outcome.reports >= 115 for outcome in outcomes)
    assert all(outcome.asked > 120 / 0.6 * 0.8 for outcome in outcomes)
    assert outcomes[-1].hours < 8 * PLAN.deadline_h


def test_no_device_takes_part_more_often_or_sooner_again_than_it_may() -> None:
    crowd = Crowd(200, Behaviour(available=1.0, swing=0.0, dropped=0.0), seed=1)
    first = crowd.ask(0.0, 150, 2, until_s=3600)
    assert len(np.intersect1d(first.devices, crowd.ask(10.0, 200, 2, until_s=3600).devices)) == 0
    crowd.release(first.devices, 20.0)
    assert len(np.intersect1d(first.devices, crowd.ask(21.0, 200, 2, until_s=3600).devices)) == 150
    simulation = Simulation(HEAD, shards(200), HELD_OUT, replace(PLAN, rounds=30, max_per_device=3))
    reports = sum(outcome.reports for outcome in simulation.outcomes() if not outcome.reason)
    assert simulation._crowd.taken.max() == 3
    assert reports <= 3 * 200


def test_devices_come_at_their_own_night() -> None:
    crowd = Crowd(20_000, Behaviour(available=0.3, swing=1.0), seed=2)
    counts = [len(crowd.available(hour * 3600.0, 1)) for hour in range(24)]
    assert np.mean(counts) == pytest.approx(0.3 * 20_000, rel=0.03)
    there = set(crowd.available(0.0, 1).tolist())
    assert len(there & set(crowd.available(12 * 3600.0, 1).tolist())) < 0.5 * len(there)


def test_dirichlet_makes_devices_that_differ() -> None:
    def dominant(alpha: float) -> float:
        labels = POOL_Y[spread(POOL_Y, 2000, 20, alpha, 3)]
        return float(np.mean([np.bincount(row.astype(int), minlength=5).max() / 20 for row in labels]))

    assert dominant(0.05) > 0.85
    assert dominant(100.0) < 0.45


def test_one_device_per_owner_holds_only_its_rows() -> None:
    owners = np.array([7, 7, 9, 9, 9, 2])
    rows = by_owner(owners, 2, seed=1)
    assert rows.shape == (3, 2)
    for device, owner in enumerate([2, 7, 9]):
        held = rows[device][rows[device] >= 0]
        assert set(owners[held].tolist()) == {owner}
        assert len(set(held.tolist())) == len(held) == min(2, int((owners == owner).sum()))


def test_scaffold_reaches_the_optimum_of_devices_that_differ_and_fedavg_does_not() -> None:
    x, y = digits_like(2000, 16, 5, seed=1, apart=2.0)
    rows = spread(y, 40, 20, 0.1, 1)
    own_x, own_y = x[rows.ravel()], y[rows.ravel()]
    everything = Settings(epochs=2000, batch=800, learning_rate=1.0)
    best = HEAD.train_many(HEAD.init(bytes(16)), own_x[None], own_y[None], np.ones((1, 800)), everything)[0]
    chances = HEAD.forward(best, own_x)[np.arange(800), own_y.astype(int)]
    least = float(-np.log(chances).mean())
    local = Settings(epochs=20, batch=20, learning_rate=0.3)
    plan = Plan(
        local, 20.0, rounds=40, cohort=20, min_cohort=20, over_select=1.0, max_per_device=100, bits=16
    )  # half of the devices in each round
    behaviour = Behaviour(available=1.0, swing=0.0, dropped=0.0)
    above = []
    for strategy in (FedAvg(), Scaffold(population=40)):
        plan = replace(plan, strategy=strategy)
        simulation = Simulation(HEAD, Shards(x, y, rows), (own_x, own_y), plan, behaviour)
        above.append([outcome.loss for outcome in simulation.outcomes()][-1] - least)
    assert above[0] > 0.01
    assert above[1] < 0.1 * above[0]


def test_rounds_that_overlap_take_less_time_than_one_after_another() -> None:
    behaviour = Behaviour(minutes=30, spread=1.5, dropped=0.1)
    plan = replace(PLAN, rounds=24, cohort=40, min_cohort=30, over_select=1.2)
    _, one_by_one = run(plan, behaviour)
    _, overlapping = run(replace(plan, strategy=FedBuff(buffer=40), at_once=4), behaviour)
    assert sum(o.reports for o in overlapping) == pytest.approx(sum(o.reports for o in one_by_one), rel=0.05)
    assert sorted(o.round for o in overlapping) == list(range(24))
    assert overlapping[-1].hours < 0.5 * one_by_one[-1].hours
    assert overlapping[-1].accuracy > one_by_one[-1].accuracy - 0.05
    with pytest.raises(ConfigError):
        run(replace(plan, at_once=2))


def test_a_round_that_was_overtaken_moves_the_model_less() -> None:
    quick = Behaviour(minutes=1, spread=0.0, dropped=0.0)
    steps = []
    for behind in (0, 3):
        simulation = Simulation(HEAD, shards(), HELD_OUT, replace(PLAN, strategy=FedBuff(buffer=120)), quick)
        one = simulation._opened(0, 0.0)
        simulation._published = behind
        before = simulation.model
        simulation._publish(one)
        steps.append(simulation.model - before)
    assert steps[1] == pytest.approx(steps[0] / 2)


def test_noise_is_accounted_for_by_what_one_device_may_have_given() -> None:
    _, outcomes = run(replace(PLAN, noise_std=2000.0, max_per_device=3, rounds=6))
    epsilons = [outcome.epsilon for outcome in outcomes if not outcome.reason]
    assert all(epsilon is not None for epsilon in epsilons)
    assert all(a < b for a, b in pairwise(epsilons[:3]))  # type: ignore[operator]
    assert epsilons[2] == epsilons[-1]
    quiet, _ = run(PLAN)
    assert quiet.epsilon is None


def test_other_strategies_learn_too() -> None:
    local = replace(LOCAL, proximal=0.1)
    for strategy, settings in ((FedAdam(rate=0.1), LOCAL), (FedProx(proximal=0.1), local)):
        _, outcomes = run(replace(PLAN, strategy=strategy, settings=settings, rounds=15))
        assert outcomes[-1].accuracy > outcomes[0].accuracy
        assert outcomes[-1].accuracy > 0.8


def test_plans_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError):
        replace(PLAN, buckets=5)
    with pytest.raises(ConfigError):
        run(replace(PLAN, strategy=FedProx()))
    with pytest.raises(ValueError, match="shares"):
        Behaviour(dropped=1.5)


def test_drawings_stand_alone_and_say_what_they_show() -> None:
    _, outcomes = run(PLAN)
    made = drawings(outcomes)
    assert set(made) == {"accuracy-by-round.svg", "accuracy-by-day.svg", "devices.svg"}
    for svg in made.values():
        assert svg.startswith("<svg")
        assert "<style>" in svg
        assert "polyline" in svg
    assert drawings(outcomes[:1]) == {}
