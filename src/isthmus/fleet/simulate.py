"""Many devices on one machine: the product's own training, clipping, rounding, ring, combination and strategies.

What is simulated is who is there, when a report comes, and who lies (`crowd.py`). Devices train in batches, vectorised over
devices; a batch is summed as integers before the next one, so that a million devices need no more memory than one batch.
In a sum the masks cancel: `PlainSum` leaves them out and keeps the ring; `simulated_sum.py` seals, answers and opens.

Rounds end when enough reports are there, or at a deadline. With FedBuff several are open at once, each over the model of its
opening, and a round that closes later moves the model less.
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import ConfigError
from isthmus.crypto.words import Ring, ring_for
from isthmus.fleet.combine import Rule, combine
from isthmus.fleet.crowd import HOUR_S, Behaviour, Crowd, Ints, Shards, Values
from isthmus.fleet.strategies import FedAvg, FedBuff, FedProx, Scaffold, State, Strategy, staleness_weight
from isthmus.learn.head import Head, Settings, control_after
from isthmus.learn.quantise import Encoding
from isthmus.privacy.accountant import epsilon_of, rho_of
from isthmus.privacy.clip import clip
from isthmus.privacy.noise import discrete_gaussian

BATCH_MOST = 128
BATCH_PARAMETERS = 1_000_000
"""Devices that train at once, and their parameters together: what a core's caches bear."""
VARIATES_MOST_BYTES = 4 * 2**30
LOOKS = 64
"""How often in the time of a round check-ins are looked at."""
PATIENCE = 0.25
"""After so much of it a device that has not reported is taken for lost."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a task file says of rounds and sums. `noise_std` is of each helper, in the ring's integers; `delta` for the epsilon
    that is reported. `batch`: devices that train at once, for speed alone; 0 follows the size of the model."""

    settings: Settings
    clip_norm: float
    strategy: Strategy = field(default_factory=FedAvg)
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
    batch: int = 0
    threads: int = 1
    at_once: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min_cohort <= self.cohort or self.buckets * self.min_cohort > self.cohort:
            raise _bounds("robust.buckets", self.buckets, "buckets x min_cohort within the cohort")


Chunk = tuple[Ints, Ints, Ints]
"""Devices, what they send `(devices, words)`, already times their weight, and the weights."""


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
    """One round that has closed, `hours` after the start. `clipped`: share of reports; `reason`: why nothing was published."""

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


@dataclass(frozen=True, slots=True)
class _Open:
    """A round that takes reports until `closes_s`; `taken` reports in time, made from `model`, the `version`-th."""

    closes_s: float
    number: int
    taken: Ints
    asked: int
    dropped: int
    late: int
    model: NDArray[Any]
    version: int


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
        self.ring = ring_for(plan.bits, plan.cohort, 1, plan.noise_std)
        if isinstance(plan.strategy, FedProx) and not plan.settings.proximal:
            raise _bounds("local.proximal", 0, "above 0 with fedprox")
        if plan.at_once > 1 and not isinstance(plan.strategy, FedBuff):
            raise _bounds("rounds.at_once", plan.at_once, "1, or fedbuff as the strategy")
        self._variates: Values | None = None
        if isinstance(plan.strategy, Scaffold):
            if 4 * shards.devices * head.size > VARIATES_MOST_BYTES:
                size = f"scaffold, {shards.devices} devices x {head.size} parameters"
                raise _bounds("rounds.strategy", size, "at most 4 GiB of control variates")
            self._variates = np.zeros((shards.devices, head.size), dtype=np.float32)
        self._clipped = self._cut = self._published = 0
        self._train_s = 0.0

    # --- rounds ---

    def outcomes(self) -> Iterator[Outcome]:
        """Runs the task, round after round, in the order in which they close."""
        waiting: list[tuple[float, int, _Open]] = []
        opened, now_s = 0, 0.0
        while opened < self.plan.rounds or waiting:
            while opened < self.plan.rounds and len(waiting) < self.plan.at_once:
                one = self._opened(opened, now_s)
                heapq.heappush(waiting, (one.closes_s, opened, one))
                opened += 1
            now_s, _, one = heapq.heappop(waiting)
            enough = len(one.taken) >= self.plan.min_cohort
            yield self._outcome(one, self._publish(one) if enough else (), "" if enough else "too_few")

    def _opened(self, number: int, now_s: float) -> _Open:
        """Asks devices until enough have reported or the deadline has come, as many more as fall out."""
        plan, crowd = self.plan, self._crowd
        ends_s = now_s + plan.deadline_h * HOUR_S
        devices, asked_s, reports_s = np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)
        at_s = now_s
        while at_s < ends_s and (reports_s <= at_s).sum() < plan.cohort:
            there = reports_s <= at_s
            awaited = (~there & (asked_s > at_s - (ends_s - now_s) * PATIENCE)).sum()
            wanted = round((plan.cohort - there.sum()) * plan.over_select) - awaited
            if wanted > 0:
                more = crowd.ask(at_s, wanted, plan.max_per_device, ends_s)
                devices, reports_s = (
                    np.concatenate([devices, more.devices]),
                    np.concatenate([reports_s, more.reports_s]),
                )
                asked_s = np.concatenate([asked_s, np.full(len(more.devices), at_s)])
            at_s += (ends_s - now_s) / LOOKS
        order = np.argsort(reports_s, kind="stable")
        in_time = order[reports_s[order] <= ends_s][: plan.cohort]
        closes_s = float(reports_s[in_time[-1]]) if len(in_time) == plan.cohort else ends_s
        before = asked_s <= closes_s
        crowd.release(devices, max(closes_s, now_s + plan.min_gap_h * HOUR_S))
        if len(in_time) >= plan.min_cohort:
            crowd.taken[devices[in_time]] += 1
        asked, dropped = int(before.sum()), int(np.isinf(reports_s[before]).sum())
        late = asked - dropped - len(in_time)
        return _Open(closes_s, number, devices[in_time], asked, dropped, late, self.model, self._published)

    def _publish(self, one: _Open) -> tuple[int, ...]:
        """Trains, adds up, combines and moves the model; gives the buckets that stand out."""
        plan = self.plan
        draw = np.random.default_rng(np.random.SeedSequence([plan.seed, 6, one.number]))
        buckets = np.array_split(
            draw.permutation(one.taken), min(plan.buckets, len(one.taken) // plan.min_cohort)
        )
        shown = hashlib.sha256(one.number.to_bytes(4, "little") + one.model.astype("<f4").tobytes()).digest()
        encoding = self._encoding(shown)
        sums = np.stack([
            self._add(one.number, shown, self.ring, plan.noise_std, self._chunks(one, place, devices, encoding))
            for place, devices in enumerate(buckets)
        ])  # fmt: skip
        parts = np.split(sums, plan.strategy.vectors, axis=1)
        means = np.concatenate([encoding.decode(part) for part in parts], axis=1)
        found = combine(means, np.array([float(len(devices)) for devices in buckets]), plan.rule)
        summed, weight = found.summed, found.weight
        if isinstance(plan.strategy, FedBuff):
            stale = staleness_weight(self._published - one.version, plan.strategy.weight_max)
            summed, weight = summed * stale, weight * stale
        self._state, self.model = plan.strategy.step(self._state, summed, weight)
        self._published += 1
        return found.flagged

    def _encoding(self, shown: bytes) -> Encoding:
        plan = self.plan
        return Encoding.fitted(self.head.size, plan.bits, plan.clip_norm, shown if plan.rotate else None)

    # --- devices ---

    def _chunks(self, one: _Open, bucket: int, devices: Ints, encoding: Encoding) -> Iterator[Chunk]:
        """Devices trained, clipped and encoded, a batch at a time; with threads, several batches at once, in the same order."""
        size = self.plan.batch or min(BATCH_MOST, max(8, BATCH_PARAMETERS // self.head.size))
        starts = range(0, len(devices), size)

        def batch(first: int) -> tuple[Chunk, int, int]:
            seed = np.random.SeedSequence([self.plan.seed, 7, one.number, bucket, first])
            return self._trained(
                one, devices[first : first + size], encoding, np.random.default_rng(seed).bytes
            )

        began = time.perf_counter()
        with ThreadPoolExecutor(self.plan.threads) as pool:
            for chunk, clipped, cut in (
                map(batch, starts) if self.plan.threads == 1 else pool.map(batch, starts)
            ):
                self._clipped, self._cut = self._clipped + clipped, self._cut + cut
                self._train_s += time.perf_counter() - began
                yield chunk
                began = time.perf_counter()

    def _trained(
        self, one: _Open, devices: Ints, encoding: Encoding, source: Callable[[int], bytes]
    ) -> tuple[Chunk, int, int]:
        """One batch: encoded updates, and how many devices were clipped and coordinates cut."""
        x, y, weight = self._shards.of(devices)
        start = one.model.astype(np.float32)
        own: Any = None
        if self._variates is not None:
            own, control = self._variates[devices], self._state["control"].astype(np.float32)
        correction = None if own is None else control - own
        models = self.head.train_many(start, x, y, weight, self.plan.settings, correction=correction)
        vectors = [models - start]
        if self._variates is not None:
            per_epoch = np.maximum(1, -(-weight.sum(axis=1) // self.plan.settings.batch))
            after = control_after(
                own,
                control,
                start,
                models,
                (self.plan.settings.epochs * per_epoch)[:, None],
                self.plan.settings,
            )
            self._variates[devices] = after
            vectors.append(after - own)
        values, clipped, cut = [], 0, 0
        for vector in vectors:
            short, under = clip(vector, self.plan.clip_norm)
            encoded = encoding.encode(short, source)
            values.append(encoded.values)
            clipped, cut = clipped + int((~under).sum()), cut + int(encoded.cut.sum())
        sent = np.concatenate(values, axis=1) * self._crowd.factors[devices][:, None]
        return (devices, sent, np.ones(len(devices), dtype=np.int64)), clipped, cut

    # --- what is told ---

    @property
    def epsilon(self) -> float | None:
        """What a device that took part whenever it could has spent; None without noise."""
        if self.plan.noise_std == 0:
            return None
        sensitivity = self._encoding(bytes(32)).sensitivity * sqrt(self.plan.strategy.vectors)
        times = min(self._published, self.plan.max_per_device)
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

    def _outcome(self, one: _Open, flagged: tuple[int, ...], reason: str) -> Outcome:
        accuracy, loss = self.measure()
        reports = len(one.taken)
        found = Outcome(
            one.number, one.closes_s / HOUR_S, one.asked, one.dropped, one.late, reports,
            self._clipped / max(1, reports), self._cut, flagged, self.epsilon, accuracy, loss, self._train_s, reason,
        )  # fmt: skip
        self._clipped, self._cut, self._train_s = 0, 0, 0.0
        return found


def _bounds(field: str, value: object, allowed: str) -> ConfigError:
    return ConfigError("out_of_bounds", field=field, value=value, allowed=allowed)
