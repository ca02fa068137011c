"""How a round's sum moves the shared model.

A strategy is two pure functions: `start(model)` gives the first state, and `step(state, summed, weight)` takes what the
secure sum opened (the devices' weighted updates, model after training minus model before, added up, and their weights
added up) and gives the next state and model. A state is a dict of arrays, and `to_bytes` makes it a row of a store.

    fedavg       McMahan et al. 2017      model += rate * mean
    fedprox      Li et al. 2020           the same; devices are pulled towards the model by `proximal`
    fedavgm      Hsu et al. 2019          v = momentum v + mean;  model += rate v
    fedadagrad   Reddi et al. 2021        algorithm 2 of that paper: no bias correction, v starts at tau^2
    fedadam                               v = beta2 v + (1 - beta2) mean^2
    fedyogi                               v = v - (1 - beta2) mean^2 sign(v - mean^2)
    scaffold     Karimireddy et al. 2020  algorithm 1, option II; a report holds the change of its control variate as well
    fedbuff      Nguyen et al. 2022       algorithm 1: sum of staleness-weighted updates over the buffer's size
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import LocalError

Floats = NDArray[np.float64]
State = dict[str, Floats]


class Strategy(Protocol):
    """What a leader and a simulation know of a strategy."""

    @property
    def vectors(self) -> int:
        """How many vectors as long as the model a report holds."""

    def start(self, model: Floats) -> State:
        """The state before the first round."""

    def step(self, state: State, summed: Floats, weight: float) -> tuple[State, Floats]:
        """The state and the model after a round; `summed` is `(vectors * length,)`, `weight` above 0."""


def _mean(state: State, summed: Floats, weight: float, vectors: int = 1) -> Floats:
    if not weight > 0:
        raise ValueError("a sum of no weight moves nothing")
    if summed.shape != (vectors * state["model"].size,):
        raise ValueError("a sum is as long as the report")
    return summed / weight


@dataclass(frozen=True, slots=True)
class FedAvg:
    """The mean of the updates, at `rate`."""

    rate: float = 1.0
    vectors: ClassVar[int] = 1

    def start(self, model: Floats) -> State:
        return {"model": np.array(model, dtype=np.float64)}

    def step(self, state: State, summed: Floats, weight: float) -> tuple[State, Floats]:
        model = state["model"] + self.rate * _mean(state, summed, weight)
        return {"model": model}, model


@dataclass(frozen=True, slots=True)
class FedProx(FedAvg):
    """FedAvg at the server; a device adds `proximal` / 2 times its squared distance from the model to its loss."""

    proximal: float = 0.01


@dataclass(frozen=True, slots=True)
class FedAvgM:
    """FedAvg with momentum at the server."""

    rate: float = 1.0
    momentum: float = 0.9
    vectors: ClassVar[int] = 1

    def start(self, model: Floats) -> State:
        return {"model": np.array(model, dtype=np.float64), "velocity": np.zeros(model.size)}

    def step(self, state: State, summed: Floats, weight: float) -> tuple[State, Floats]:
        velocity = self.momentum * state["velocity"] + _mean(state, summed, weight)
        model = state["model"] + self.rate * velocity
        return {"model": model, "velocity": velocity}, model


@dataclass(frozen=True, slots=True)
class FedAdagrad:
    """Every coordinate at its own pace: by all squared means so far. The other two adaptive ones differ in `_second`."""

    rate: float = 0.1
    beta1: float = 0.0
    beta2: float = 0.99
    tau: float = 1e-3
    vectors: ClassVar[int] = 1

    def start(self, model: Floats) -> State:
        first, second = np.zeros(model.size), np.full(model.size, self.tau**2)
        return {"model": np.array(model, dtype=np.float64), "first": first, "second": second}

    def step(self, state: State, summed: Floats, weight: float) -> tuple[State, Floats]:
        mean = _mean(state, summed, weight)
        first = self.beta1 * state["first"] + (1 - self.beta1) * mean
        second = self._second(state["second"], mean**2)
        model = state["model"] + self.rate * first / (np.sqrt(second) + self.tau)
        return {"model": model, "first": first, "second": second}, model

    def _second(self, before: Floats, squared: Floats) -> Floats:
        return before + squared


@dataclass(frozen=True, slots=True)
class FedAdam(FedAdagrad):
    """As FedAdagrad, with squared means that fade."""

    beta1: float = 0.9

    def _second(self, before: Floats, squared: Floats) -> Floats:
        return self.beta2 * before + (1 - self.beta2) * squared


@dataclass(frozen=True, slots=True)
class FedYogi(FedAdagrad):
    """As FedAdam, but the squared means change by no more than the newest one."""

    beta1: float = 0.9

    def _second(self, before: Floats, squared: Floats) -> Floats:
        return before - (1 - self.beta2) * squared * np.sign(before - squared)


@dataclass(frozen=True, slots=True)
class Scaffold:
    """Devices correct their steps by control variates; reports hold both changes and all have weight 1.

    `population` is the number of devices that keep a variate. A device steps along gradient - own + control, and
    `variate_after` gives its own next one.
    """

    population: int
    rate: float = 1.0
    vectors: ClassVar[int] = 2

    def start(self, model: Floats) -> State:
        return {"model": np.array(model, dtype=np.float64), "control": np.zeros(model.size)}

    def step(self, state: State, summed: Floats, weight: float) -> tuple[State, Floats]:
        of_model, of_control = np.split(_mean(state, summed, weight, 2), 2)
        model = state["model"] + self.rate * of_model
        control = state["control"] + weight / self.population * of_control
        return {"model": model, "control": control}, model


def variate_after(own: Floats, control: Floats, update: Floats, steps: int, learning_rate: float) -> Floats:
    """A device's control variate once `steps` local steps have moved the model by `update` (option II)."""
    return own - control - update / (steps * learning_rate)


@dataclass(frozen=True, slots=True)
class FedBuff:
    """Asynchronous: `buffer` updates, each weighted by `staleness_weight`, move the model whenever the buffer is full."""

    buffer: int
    weight_max: int = 16
    rate: float = 1.0
    vectors: ClassVar[int] = 1

    def start(self, model: Floats) -> State:
        return {"model": np.array(model, dtype=np.float64)}

    def step(self, state: State, summed: Floats, weight: float) -> tuple[State, Floats]:
        # Not over the weights: a buffer of stale updates is to move the model less.
        model = state["model"] + self.rate * _mean(state, summed, weight) * weight / (
            self.weight_max * self.buffer
        )
        return {"model": model}, model


def staleness_weight(versions: int, weight_max: int) -> int:
    """The whole-number weight of an update whose model is `versions` behind: weight_max / sqrt(1 + versions), at least 1."""
    return max(1, round(weight_max / sqrt(1 + versions)))


Known = FedAvg | FedProx | FedAvgM | FedAdagrad | FedAdam | FedYogi | Scaffold | FedBuff
BY_NAME: dict[str, type[Known]] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedavgm": FedAvgM,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "scaffold": Scaffold,
    "fedbuff": FedBuff,
}


def to_bytes(state: State) -> bytes:
    """A line of JSON (name and length of each array, sorted), then the arrays, float64 little-endian."""
    names = sorted(state)
    head = json.dumps([[name, int(state[name].size)] for name in names], separators=(",", ":"))
    return b"\n".join([head.encode(), b"".join(state[name].astype("<f8").tobytes() for name in names)])


def from_bytes(data: bytes) -> State:
    """What `to_bytes` wrote. Raises LocalError(checkpoint_damaged)."""
    head, _, body = data.partition(b"\n")
    state: State = {}
    start = 0
    try:
        for name, length in json.loads(head):
            state[str(name)] = np.frombuffer(body, dtype="<f8", count=length, offset=start).astype(np.float64)
            start += 8 * length
    except (ValueError, TypeError) as error:
        raise LocalError("checkpoint_damaged", path="strategy") from error
    if start != len(body):
        raise LocalError("checkpoint_damaged", path="strategy")
    return state
