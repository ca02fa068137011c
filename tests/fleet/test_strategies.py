"""Strategies: the papers' formulas, and what they do on problems whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.base.errors import LocalError
from isthmus.fleet.strategies import (
    BY_NAME,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedBuff,
    FedProx,
    FedYogi,
    Scaffold,
    State,
    Strategy,
    from_bytes,
    staleness_weight,
    to_bytes,
    variate_after,
)

ANY = (
    FedAvg(),
    FedProx(),
    FedAvgM(),
    FedAdagrad(),
    FedAdam(),
    FedYogi(),
    Scaffold(population=8),
    FedBuff(buffer=4),
)


class Quadratic:
    """Devices that each want 0.5 curvature (w - centre)^2 small: the sum of all is least at `best`."""

    def __init__(self, curvatures: list[float], centres: list[float]) -> None:
        self.curvatures, self.centres = np.array(curvatures)[:, None], np.array(centres)[:, None]
        self.best = float((self.curvatures * self.centres).sum() / self.curvatures.sum())

    def trained(
        self,
        model: np.ndarray,
        steps: int,
        rate: float,
        proximal: float = 0.0,
        pull: np.ndarray | float = 0.0,
    ) -> np.ndarray:
        """Every device's update `(devices, 1)` after gradient steps; `pull` is added to each gradient."""
        local = np.repeat(model[None], len(self.centres), axis=0)
        for _ in range(steps):
            gradient = self.curvatures * (local - self.centres) + proximal * (local - model) + pull
            local = local - rate * gradient
        updates: np.ndarray = local - model
        return updates


def run(
    strategy: Strategy, problem: Quadratic, rounds: int, steps: int, rate: float, proximal: float = 0.0
) -> float:
    model = np.zeros(1)
    state = strategy.start(model)
    for _ in range(rounds):
        updates = problem.trained(model, steps, rate, proximal)
        state, model = strategy.step(state, updates.sum(axis=0), len(updates))
    return float(model[0])


def test_fedavg_of_two_devices_with_one_step_is_gradient_descent_on_both() -> None:
    problem = Quadratic([1.0, 3.0], [0.0, 4.0])
    assert run(FedAvg(), problem, 200, steps=1, rate=0.1) == pytest.approx(problem.best)


def test_fedavg_drifts_to_a_point_that_is_known_and_proximal_pulls_it_back() -> None:
    problem = Quadratic([1.0, 10.0], [0.0, 1.0])
    shares = 1 - (1 - 0.05 * problem.curvatures[:, 0]) ** 20
    drifted = float((shares * problem.centres[:, 0]).sum() / shares.sum())
    found = run(FedAvg(), problem, 500, steps=20, rate=0.05)
    assert found == pytest.approx(drifted)
    pulled = run(FedProx(proximal=5.0), problem, 500, steps=20, rate=0.05, proximal=5.0)
    assert abs(pulled - problem.best) < 0.5 * abs(found - problem.best)


def scaffold(problem: Quadratic, rounds: int, steps: int, rate: float) -> float:
    strategy = Scaffold(population=len(problem.centres))
    model = np.zeros(1)
    state = strategy.start(model)
    own = np.zeros_like(problem.centres)
    for _ in range(rounds):
        updates = problem.trained(model, steps, rate, pull=state["control"] - own)
        new = variate_after(own, state["control"], updates, steps, rate)
        reports = np.concatenate([updates, new - own], axis=1)
        own = new
        state, model = strategy.step(state, reports.sum(axis=0), len(reports))
    assert state["control"] == pytest.approx(own.mean(axis=0))
    return float(model[0])


def test_scaffold_reaches_the_optimum_where_fedavg_drifts() -> None:
    problem = Quadratic([1.0, 10.0], [0.0, 1.0])
    drifted = run(FedAvg(), problem, 500, steps=20, rate=0.05)
    assert abs(drifted - problem.best) > 0.2
    assert scaffold(problem, 500, 20, 0.05) == pytest.approx(problem.best, abs=1e-6)


def means(rounds: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(rounds, 3))


def follow(strategy: Strategy, updates: np.ndarray) -> tuple[State, np.ndarray]:
    model = np.array([1.0, -2.0, 0.5])
    state = strategy.start(model)
    for mean in updates:
        state, model = strategy.step(state, mean * 7.0, 7.0)
    return state, model


def test_momentum_is_that_of_the_paper() -> None:
    a, b, c = means(3)
    _, model = follow(FedAvgM(rate=0.5, momentum=0.9), np.array([a, b, c]))
    moved = 0.5 * (a + (0.9 * a + b) + (0.81 * a + 0.9 * b + c))
    assert model == pytest.approx(np.array([1.0, -2.0, 0.5]) + moved)


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedyogi"])
def test_adaptive_strategies_are_those_of_the_paper(name: str) -> None:
    rate, beta1, beta2, tau = 0.03, 0.8, 0.95, 1e-2
    model, m, v = np.array([1.0, -2.0, 0.5]), np.zeros(3), np.full(3, tau**2)
    for mean in means(6):
        m = beta1 * m + (1 - beta1) * mean
        if name == "fedadagrad":
            v = v + mean**2
        elif name == "fedadam":
            v = beta2 * v + (1 - beta2) * mean**2
        else:
            v = v - (1 - beta2) * mean**2 * np.sign(v - mean**2)
        model = model + rate * m / (np.sqrt(v) + tau)
    kind = {"fedadagrad": FedAdagrad, "fedadam": FedAdam, "fedyogi": FedYogi}[name]
    state, found = follow(kind(rate=rate, beta1=beta1, beta2=beta2, tau=tau), means(6))
    assert found == pytest.approx(model)
    assert state["second"] == pytest.approx(v)


@pytest.mark.parametrize(
    "strategy", [FedAvg(), FedAvgM(momentum=0.5), FedAdam(rate=0.05), FedYogi(rate=0.05)]
)
def test_every_strategy_reaches_the_optimum_of_two_devices(strategy: Strategy) -> None:
    problem = Quadratic([1.0, 3.0], [0.0, 4.0])
    assert run(strategy, problem, 800, steps=1, rate=0.1) == pytest.approx(problem.best, abs=0.02)


def test_a_buffer_of_stale_updates_moves_the_model_less_and_points_the_same_way() -> None:
    strategy = FedBuff(buffer=4, weight_max=16)
    state = strategy.start(np.zeros(2))
    update = np.array([1.0, -1.0])
    assert strategy.step(state, 4 * 16 * update, 4 * 16)[1] == pytest.approx(update)
    stale = staleness_weight(3, 16)
    assert stale == 8
    assert strategy.step(state, 4 * stale * update, 4 * stale)[1] == pytest.approx(update / 2)
    weights = [staleness_weight(versions, 16) for versions in range(400)]
    assert weights[0] == 16
    assert weights == sorted(weights, reverse=True)
    assert min(weights) == 1


@pytest.mark.parametrize("strategy", ANY, ids=lambda s: type(s).__name__)
def test_a_state_comes_back_from_bytes_and_goes_on_the_same(strategy: Strategy) -> None:
    draw = np.random.default_rng(1)
    state = strategy.start(draw.normal(size=5))
    sums = draw.normal(size=(2, 5 * strategy.vectors))
    state, _ = strategy.step(state, sums[0], 3.0)
    kept = from_bytes(to_bytes(state))
    assert to_bytes(kept) == to_bytes(state)
    assert np.array_equal(strategy.step(kept, sums[1], 2.0)[1], strategy.step(state, sums[1], 2.0)[1])


@pytest.mark.parametrize("strategy", ANY, ids=lambda s: type(s).__name__)
def test_a_step_changes_nothing_that_was_given_to_it(strategy: Strategy) -> None:
    model = np.ones(3)
    state = strategy.start(model)
    before = to_bytes(state)
    strategy.step(state, np.ones(3 * strategy.vectors), 2.0)
    assert to_bytes(state) == before
    assert np.array_equal(model, np.ones(3))
    for summed, weight in ((np.ones(3 * strategy.vectors), 0.0), (np.ones(7), 1.0)):
        with pytest.raises(ValueError, match="sum"):
            strategy.step(state, summed, weight)


def test_damaged_states_are_noticed() -> None:
    good = to_bytes(FedAvgM().start(np.ones(3)))
    for bad in (b"", good[:-1], good + b"x", b"[[1]]\n", b"{\n", b'[["model","x"]]\n'):
        with pytest.raises(LocalError) as noticed:
            from_bytes(bad)
        assert noticed.value.code == "checkpoint_damaged"


def test_every_name_of_a_task_has_its_strategy() -> None:
    assert {type(strategy) for strategy in ANY} == set(BY_NAME.values())
