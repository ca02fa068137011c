"""Many devices on one machine: the product's own training, clipping, rounding, ring, combination and strategies.

What is simulated is who is there, when a report comes, and who lies (`crowd.py`). Devices train in batches, vectorised over
devices; a batch is summed as integers before the next one, so that a million devices need no more memory than one batch.
In a sum the masks cancel: `PlainSum` leaves them out and keeps the ring; `simulated_sum.py` seals, answers and opens.

Two ways to run: rounds, which end when enough reports are there or at a deadline; and, with FedBuff, a buffer that moves the
model whenever it is full, while devices come and go.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import ConfigError
from isthmus.crypto.words import Ring, ring_for
from isthmus.fleet.combine import Rule, combine
from isthmus.fleet.crowd import HOUR_S, Behaviour, Crowd, Ints, Shards, Values
from isthmus.fleet.strategies import FedAvg, FedBuff, FedProx, Known, Scaffold, State, staleness_weight
from isthmus.learn.head import Head, Settings
from isthmus.learn.quantise import Encoding
from isthmus.privacy.accountant import epsilon_of, rho_of
from isthmus.privacy.clip import clip
from isthmus.privacy.noise import discrete_gaussian

VARIATES_MOST_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Plan:
    """What a task file says of rounds and sums. `noise_std` is of each helper, in the ring's integers; `delta` for the epsilon
    that is reported. `batch`: devices that train at once, for speed alone."""

    settings: Settings
    clip_norm: float
    strategy: Known = field(default_factory=FedAvg)
    rounds: int = 20
    cohort: int = 1000
    min_cohort: int = 100
    over_select: float = 1.3
    deadline_h: float = 8.0
    min_gap_h: float = 0.0
    max_per_device: int = 4
    bits: int = 8
    rotate: bool = True
    buckets: int = 1
    rule: Rule = "mean"
    noise_std: float = 0.0
    delta: float = 1e-7
    seed: int = 0
    batch: int = 64
    threads: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min_cohort <= self.cohort or self.buckets * self.min_cohort > self.cohort:
            raise ConfigError(
                "out_of_bounds",
                field="robust.buckets",
                value=self.buckets,
                allowed="buckets x min_cohort within the cohort",
            )

    @property
    def weight_max(self) -> int:
        return self.strategy.weight_max if isinstance(self.strategy, FedBuff) else 1


Chunk = tuple[Ints, Ints, Ints]
"""Devices, their encoded updates `(devices, words)` already times their weight, and the weights."""


class Adder(Protocol):
    """How reports of one bucket are added up."""

    def __call__(
        self, round_: int, model: bytes, ring: Ring, noise_std: float, chunks: Iterator[Chunk]
    ) -> Ints:
        """The sum `(words,)`; `model` is the digest of what the devices were shown."""


class PlainSum:
    """Ring additions and both helpers' noise, without the masks, which cancel."""

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(np.random.SeedSequence([seed, 5]))

    def __call__(
        self, round_: int, model: bytes, ring: Ring, noise_std: float, chunks: Iterator[Chunk]
    ) -> Ints:
        total: Any = None
        for _, values, _ in chunks:
            # Lifting goes with adding, so the integers of a chunk may be added first.
            words = ring.lift(values.sum(axis=0))
            if total is None:
                total = words
            else:
                ring.add(total, words)
        for _ in range(2):
            ring.add(total, ring.lift(discrete_gaussian(noise_std, len(total), self._draw.bytes)))
        return ring.lower(total)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One round, or one filling of the buffer. `hours` since the start; `reason` says why nothing was published."""

    round: int
    hours: float
    asked: int
    dropped: int
    late: int
    reports: int
    clipped: float
    cut: int
    flagged: tuple[int, ...]
    epsilon: float | None
    accuracy: float
    loss: float
    train_s: float
    reason: str = ""


class Simulation:
    """One task over one crowd. `outcomes` runs it; `model` is the newest one."""

    def __init__(
        self, head: Head, shards: Shards, held_out: tuple[Values, Values], plan: Plan, behaviour: Behaviour | None = None,
        adder: Adder | None = None,
    ) -> None:  # fmt: skip
        self.head, self.plan = head, plan
        self._shards, self._held_out = shards, held_out
        self._crowd = Crowd(shards.devices, behaviour or Behaviour(), plan.seed)
        self._add = adder or PlainSum(plan.seed)
        seed = hashlib.sha256(f"simulation/{plan.seed}".encode()).digest()
        self.model: NDArray[Any] = head.init(seed).astype(np.float64)
        self._state: State = plan.strategy.start(self.model)
        self._encoding = Encoding.fitted(
            head.size * plan.strategy.vectors, plan.bits, plan.clip_norm, seed if plan.rotate else None
        )
        self._ring = ring_for(plan.bits, self._most_reports, plan.weight_max, plan.noise_std)
        self._settings = plan.settings
        if isinstance(plan.strategy, FedProx) and not plan.settings.proximal:
            raise ConfigError(
                "out_of_bounds", field="local.proximal", value=0, allowed="above 0 with fedprox"
            )
        self._variates: Values | None = None
        if isinstance(plan.strategy, Scaffold):
            if 4 * shards.devices * head.size > VARIATES_MOST_BYTES:
                size = f"{shards.devices} devices x {head.size} parameters"
                raise ConfigError(
                    "out_of_bounds",
                    field="rounds.strategy",
                    value=size,
                    allowed="scaffold with at most 4 GiB of control variates",
                )
            self._variates = np.zeros((shards.devices, head.size), dtype=np.float32)
        most_steps = plan.settings.epochs * -(-shards.rows.shape[1] // plan.settings.batch)
        self._of_variates = most_steps * plan.settings.learning_rate
        self._clipped = self._cut = self._sums = 0
        self._train_s = 0.0

    @property
    def ring(self) -> Ring:
        return self._ring

    @property
    def words(self) -> int:
        return self._encoding.words

    @property
    def _most_reports(self) -> int:
        return self.plan.strategy.buffer if isinstance(self.plan.strategy, FedBuff) else self.plan.cohort

    def outcomes(self) -> Iterator[Outcome]:
        """Runs the task, round after round."""
        return self._buffered() if isinstance(self.plan.strategy, FedBuff) else self._in_rounds()

    # --- rounds ---

    def _in_rounds(self) -> Iterator[Outcome]:
        plan, now_s = self.plan, 0.0
        for number in range(plan.rounds):
            asked = self._crowd.ask(
                now_s, round(plan.cohort * plan.over_select), plan.max_per_device, plan.min_gap_h * HOUR_S
            )
            order = np.argsort(asked.after_s, kind="stable")
            in_time = order[asked.after_s[order] <= plan.deadline_h * HOUR_S]
            taken = asked.devices[in_time[: plan.cohort]]
            full = len(taken) == plan.cohort
            now_s += float(asked.after_s[in_time[plan.cohort - 1]]) if full else plan.deadline_h * HOUR_S
            counts = (
                len(asked.devices), int(np.isinf(asked.after_s).sum()),
                int(np.isfinite(asked.after_s).sum()) - len(taken), len(taken),
            )  # fmt: skip
            if len(taken) < plan.min_cohort:
                yield self._outcome(number, now_s, counts, (), "too_few")
                continue
            yield self._outcome(number, now_s, counts, self._publish(number, taken))

    def _publish(self, number: int, taken: Ints) -> tuple[int, ...]:
        """Trains, adds up, combines and moves the model; gives the buckets that stand out."""
        plan = self.plan
        self._crowd.taken[taken] += 1
        shuffled = np.random.default_rng(np.random.SeedSequence([plan.seed, 6, number])).permutation(taken)
        buckets = np.array_split(shuffled, min(plan.buckets, len(taken) // plan.min_cohort))
        shown = hashlib.sha256(self.model.astype("<f4").tobytes()).digest()
        sums = [
            self._add(number, shown, self._ring, plan.noise_std, self._chunks(number, place, devices))
            for place, devices in enumerate(buckets)
        ]
        weights = np.array([len(devices) for devices in buckets], dtype=np.float64)
        found = combine(self._encoding.decode(np.stack(sums)), weights, plan.rule)
        self._move(found.summed, found.weight)
        return found.flagged

    def _move(self, summed: NDArray[np.float64], weight: float) -> None:
        if self._variates is not None:
            summed[self.head.size :] /= self._of_variates
        self._state, self.model = self.plan.strategy.step(self._state, summed, weight)
        self._sums += 1

    # --- a buffer ---

    def _buffered(self) -> Iterator[Outcome]:
        """As many devices as a cohort are at work; an eighth of a buffer at a time is taken and replaced."""
        plan, strategy = self.plan, self.plan.strategy
        assert isinstance(strategy, FedBuff)
        wave = max(1, strategy.buffer // 8)
        now_s, version, number = 0.0, 0, 0
        empty = (
            np.zeros(0, dtype=np.int64),
            np.zeros(0),
            np.zeros((0, self.words), dtype=np.int64),
            np.zeros(0, dtype=np.int64),
        )
        devices, ends_s, values, versions = empty
        buffer: list[Chunk] = []
        asked_in_all, gone = 0, 0
        while version < plan.rounds:
            wanted = plan.cohort - len(devices)
            asked = self._crowd.ask(now_s, wanted, plan.max_per_device, plan.min_gap_h * HOUR_S)
            there = np.isfinite(asked.after_s)
            asked_in_all, gone = asked_in_all + len(there), gone + int((~there).sum())
            started = asked.devices[there]
            self._crowd.taken[started] += 1
            trained = [chunk[1] for chunk in self._chunks(number, 0, started)]
            number += 1
            devices = np.concatenate([devices, started])
            ends_s = np.concatenate([ends_s, now_s + asked.after_s[there]])
            values = np.concatenate([values, *trained])
            versions = np.concatenate([versions, np.full(len(started), version)])
            if not len(devices):
                now_s += HOUR_S
                if (self._crowd.taken >= plan.max_per_device).all():
                    yield self._outcome(version, now_s, (asked_in_all, gone, 0, 0), (), "too_few")
                    return
                continue
            order = np.argsort(ends_s, kind="stable")
            held = sum(len(chunk[0]) for chunk in buffer)
            first, rest = np.split(order, [min(wave, strategy.buffer - held)])
            now_s = max(now_s, float(ends_s[first].max()))
            weights = np.array(
                [staleness_weight(version - int(v), strategy.weight_max) for v in versions[first]]
            )
            buffer.append((devices[first], values[first] * weights[:, None], weights))
            devices, ends_s, values, versions = devices[rest], ends_s[rest], values[rest], versions[rest]
            if held + len(first) < strategy.buffer:
                continue
            shown = hashlib.sha256(self.model.astype("<f4").tobytes()).digest()
            total = self._add(version, shown, self._ring, plan.noise_std, iter(buffer))
            self._move(self._encoding.decode(total), float(sum(chunk[2].sum() for chunk in buffer)))
            counts = (asked_in_all, gone, 0, strategy.buffer)
            yield self._outcome(version, now_s, counts, ())
            version, buffer, asked_in_all, gone = version + 1, [], 0, 0

    # --- devices ---

    def _chunks(self, number: int, bucket: int, devices: Ints) -> Iterator[Chunk]:
        """Devices trained, clipped and encoded, a batch at a time; with threads, several batches at once, in the same order."""
        size = self.plan.batch
        starts = range(0, len(devices), size)

        def one(first: int) -> tuple[Chunk, int, int]:
            draw = np.random.default_rng(np.random.SeedSequence([self.plan.seed, 7, number, bucket, first]))
            return self._trained(devices[first : first + size], draw.bytes)

        began = time.perf_counter()
        with ThreadPoolExecutor(self.plan.threads) as pool:
            for chunk, clipped, cut in map(one, starts) if self.plan.threads == 1 else pool.map(one, starts):
                self._clipped, self._cut = self._clipped + clipped, self._cut + cut
                self._train_s += time.perf_counter() - began
                yield chunk
                began = time.perf_counter()

    def _trained(self, devices: Ints, source: Callable[[int], bytes]) -> tuple[Chunk, int, int]:
        """One batch: encoded updates, and how many devices were clipped and coordinates cut."""
        x, y, weight = self._shards.of(devices)
        start = self.model.astype(np.float32)
        correction: Any = None
        if self._variates is not None:
            own, control = self._variates[devices], self._state["control"].astype(np.float32)
            correction = control - own
        trained = self.head.train_many(start, x, y, weight, self._settings, correction=correction)
        updates: NDArray[Any] = trained - start
        if self._variates is not None:
            rate = self._settings.learning_rate
            steps = self._settings.epochs * np.maximum(1, -(-weight.sum(axis=1) // self._settings.batch))
            change = -control - updates / (steps * rate)[:, None]
            self._variates[devices] = own + change
            # The change of a variate is as large as a gradient is; times steps and rate it is as large as an update.
            updates = np.concatenate([updates, change * self._of_variates], axis=1)
        clipped, under = clip(updates, self.plan.clip_norm)
        encoded = self._encoding.encode(clipped, source)
        values = encoded.values
        factors = self._crowd.factors[devices]
        if (factors != 1).any():
            values = values * factors[:, None]
        return (
            (devices, values, np.ones(len(devices), dtype=np.int64)),
            int((~under).sum()),
            int(encoded.cut.sum()),
        )

    # --- what is told ---

    @property
    def epsilon(self) -> float | None:
        """What a device that took part whenever it could has spent; None without noise."""
        if self.plan.noise_std == 0:
            return None
        sensitivity = self._encoding.sensitivity * self.plan.weight_max
        times = min(self._sums, self.plan.max_per_device)
        return epsilon_of(rho_of(self.plan.noise_std, sensitivity, times), self.plan.delta)

    def measure(self) -> tuple[float, float]:
        """Accuracy and log loss on the held-out examples."""
        x, y = self._held_out
        chances = np.asarray(self.head.forward(self.model.astype(np.float32), x), dtype=np.float64)
        if chances.shape[1] == 1:
            ahead = np.clip(chances if self.head.closing else 1 / (1 + np.exp(-chances)), 0, 1)
            chances = np.concatenate([1 - ahead, ahead], axis=1)
        of_label = np.take_along_axis(chances, y.astype(np.int64)[:, None], axis=1)[:, 0]
        accuracy = float((chances.argmax(axis=1) == y).mean())
        return accuracy, float(-np.log(np.maximum(of_label, 1e-12)).mean())

    def _outcome(
        self,
        number: int,
        now_s: float,
        counts: tuple[int, int, int, int],
        flagged: tuple[int, ...],
        reason: str = "",
    ) -> Outcome:
        asked, dropped, late, reports = counts
        accuracy, loss = self.measure()
        clipped = self._clipped / reports if reports and not reason else 0.0
        found = Outcome(
            number, now_s / HOUR_S, asked, dropped, late, reports, clipped, self._cut, flagged, self.epsilon,
            accuracy, loss, self._train_s, reason,
        )  # fmt: skip
        self._clipped, self._cut, self._train_s = 0, 0, 0.0
        return found
