"""Real people as devices: 238 writers of digits, measured on 59 others."""

from __future__ import annotations

import numpy as np

from isthmus.fleet.crowd import Behaviour, Shards, by_owner
from isthmus.fleet.simulate import Outcome, Plan, Simulation
from isthmus.fleet.strategies import FedAvgM
from isthmus.learn.head import Head, Settings
from tests.shared_data import shared_data

HEAD = Head.from_layers([{"dense": 10}, "softmax"], 784, "ce")
POOLED = 0.900
"""Accuracy of logistic regression on the pooled digits of the same writers."""
PLAN = Plan(
    Settings(epochs=1, batch=10, learning_rate=0.3), clip_norm=1.5, strategy=FedAvgM(momentum=0.8), rounds=40,
    cohort=100, min_cohort=50, max_per_device=50,
)  # fmt: skip


def run(plan: Plan) -> Outcome:
    with np.load(shared_data("writers", "mnist_t10k_writers.npz")) as file:
        x, y, writer = (
            file["x"].reshape(-1, 784).astype(np.float32) / 255,
            file["y"].astype(np.float32),
            file["writer"],
        )
    tested = np.isin(writer, np.loadtxt(shared_data("writers", "test_writers.csv"), skiprows=1, dtype=int))
    shards = Shards(x[~tested], y[~tested], by_owner(writer[~tested], 40, seed=1))
    assert shards.devices == 238
    simulation = Simulation(HEAD, shards, (x[tested], y[tested]), plan, Behaviour(available=0.9, swing=0.1))
    return list(simulation.outcomes())[-1]


def test_writers_who_keep_their_digits_get_the_model_of_pooled_ones() -> None:
    last = run(PLAN)
    print(f"accuracy {last.accuracy:.3f}, pooled {POOLED:.3f}")
    assert last.accuracy > POOLED - 0.01
