"""The softmax task in our simulation, and as a plain loop over devices."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from fleet.machine import peak_mb, used
from isthmus.fleet.crowd import Behaviour, Shards
from isthmus.fleet.simulate import Plan, Simulation
from isthmus.learn.head import Head, Settings
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
    head = Head.from_layers([{"dense": LABELS}, "softmax"], INPUTS, "ce")
    plan = Plan(
        Settings(EPOCHS, BATCH, RATE), 2.0, rounds=case.rounds + 1, cohort=case.cohort, min_cohort=20,
        over_select=1.3, max_per_device=1000, rotate=rotate,
    )  # fmt: skip
    behaviour = Behaviour(available=1.0, swing=0.0, dropped=0.05)
    simulation = Simulation(
        head, Shards(flat_x, flat_y, rows), (flat_x[:1000], flat_y[:1000]), plan, behaviour
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


def _figures(clients: int, wall_s: float, cpu_s: float) -> dict[str, Any]:
    return {
        "clients_per_s": clients / wall_s,
        "clients_per_cpu_s": clients / cpu_s,
        "device_cpu_s": cpu_s / clients,
        "wall_s": wall_s,
        "peak_mb": peak_mb(),
    }
