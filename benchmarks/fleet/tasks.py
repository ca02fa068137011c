"""The softmax task in our simulation, and as a plain loop over devices."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fleet.machine import peak_mb, used
from isthmus.fleet.crowd import Behaviour, Shards, digits_like, spread
from isthmus.fleet.simulate import Plan, Simulation
from isthmus.fleet.strategies import FedBuff
from isthmus.learn.head import Head, Settings
from isthmus.learn.quantise import Encoding
from isthmus.privacy.accountant import noise_for
from isthmus.wire import heap

sys.path.append(str(Path(__file__).parent / "peers"))
from common import BATCH, EPOCHS, INPUTS, LABELS, RATE, ROWS, shard, trained


def data(devices: int) -> tuple[np.ndarray, np.ndarray]:
    made = [shard(device) for device in range(devices)]
    return np.stack([x for x, _ in made]), np.stack([y for _, y in made])


def simulated(case: Namespace, rotate: bool) -> dict[str, Any]:
    """Rounds of the whole path: choosing devices, training, clipping, rounding, ring, strategy, measuring on 1,000 examples."""
    x, y = data(case.devices)
    rows = np.arange(case.devices * ROWS, dtype=np.int32).reshape(case.devices, ROWS)
    flat_x, flat_y = x.reshape(-1, INPUTS), y.reshape(-1).astype(np.float32)
    plan = Plan(
        Settings(EPOCHS, BATCH, RATE), 2.0, rounds=case.rounds + 1, cohort=case.cohort, min_cohort=20,
        over_select=1.3, max_per_device=1000, rotate=rotate,
    )  # fmt: skip
    behaviour = Behaviour(available=1.0, swing=0.0, dropped=0.05)
    simulation = Simulation(
        HEAD, Shards(flat_x, flat_y, rows), (flat_x[:1000], flat_y[:1000]), plan, behaviour
    )
    heap.settle()  # as the command does
    outcomes = simulation.outcomes()
    next(outcomes)
    with used() as whole:
        reports = [outcome.reports for outcome in outcomes]
    return _figures(sum(reports), whole.wall_s, whole.cpu_s)


def looped(case: Namespace) -> dict[str, Any]:
    """What one would write without a framework: no clipping, no rounding, floats added up."""
    shards = [shard(device) for device in range(case.cohort)]
    flat = np.zeros((INPUTS + 1) * LABELS, dtype=np.float32)
    with used() as whole:
        for _ in range(case.rounds):
            total = np.zeros_like(flat)
            for x, y in shards:
                total += trained(flat, x, y) - flat
            flat = flat + total / case.cohort
    return _figures(case.rounds * case.cohort, whole.wall_s, whole.cpu_s)


HEAD = Head.from_layers([{"dense": LABELS}, "softmax"], INPUTS, "ce")


def _generated(devices: int) -> tuple[Shards, tuple[np.ndarray, np.ndarray]]:
    """Devices with 20 examples each, labels mixed by Dirichlet 0.5, and 2,000 examples that nobody holds."""
    x, y = digits_like(52_000, INPUTS, LABELS, seed=1, apart=4.0)
    rows = spread(y[:50_000], devices, ROWS, 0.5, seed=1)
    return Shards(x[:50_000], y[:50_000], rows), (x[50_000:], y[50_000:])


def _plan(rounds: int, cohort: int, most: int) -> Plan:
    settings = Settings(EPOCHS, BATCH, 0.3)
    return Plan(settings, 3.0, rounds=rounds, cohort=cohort, min_cohort=100, max_per_device=most, bits=10)


def noised(case: Namespace) -> Iterator[dict[str, Any]]:
    """Accuracy after 20 rounds with the noise of several budgets, four participations a device, delta 1e-7."""
    shards, held_out = _generated(60_000)
    behaviour = Behaviour(available=0.9, swing=0.1)
    for cohort in (200,) if case.quick else (200, 1000, 5000):
        for epsilon in (None, 8.0, 4.0, 2.0, 1.0):
            plan = replace(_plan(20, cohort, 4), over_select=1.2)
            if epsilon is not None:
                sensitivity = Encoding.fitted(HEAD.size, plan.bits, plan.clip_norm, bytes(32)).sensitivity
                plan = replace(plan, noise_std=noise_for(epsilon, plan.delta, sensitivity, 4))
            last = list(Simulation(HEAD, shards, held_out, plan, behaviour).outcomes())[-1]
            yield {"cohort": cohort, "epsilon": last.epsilon, "accuracy": last.accuracy}


def overlapping(case: Namespace) -> Iterator[dict[str, Any]]:
    """Simulated hours until 78 % accuracy, rounds of 200 one after another and several at once."""
    shards, held_out = _generated(20_000)
    behaviour = Behaviour(minutes=20, spread=1.2, dropped=0.1)
    for at_once in (1, 8) if case.quick else (1, 2, 4, 8):
        plan = _plan(60, 200, 50)
        if at_once > 1:
            plan = replace(plan, strategy=FedBuff(200), at_once=at_once)
        outcomes = list(Simulation(HEAD, shards, held_out, plan, behaviour).outcomes())
        hours = next((each.hours for each in outcomes if each.accuracy >= 0.78), None)
        yield {"cohort": 200, "at_once": at_once, "hours": hours, "accuracy": outcomes[-1].accuracy}


def million(case: Namespace) -> Iterator[dict[str, Any]]:
    """Three rounds of 1,000 among a million devices (--quick: 100,000), all examples included."""
    devices = 100_000 if case.quick else 1_000_000
    with used() as whole:
        shards, held_out = _generated(devices)
        list(Simulation(HEAD, shards, held_out, _plan(3, 1000, 4)).outcomes())
    yield {
        "cohort": 1000,
        "devices": devices,
        "device_cpu_s": None,
        "cpu_s": whole.cpu_s,
        "wall_s": whole.wall_s,
        "peak_mb": peak_mb(),
    }


def _figures(clients: int, wall_s: float, cpu_s: float) -> dict[str, Any]:
    return {
        "clients_per_s": clients / wall_s,
        "clients_per_cpu_s": clients / cpu_s,
        "device_cpu_s": cpu_s / clients,
        "wall_s": wall_s,
        "peak_mb": peak_mb(),
    }
