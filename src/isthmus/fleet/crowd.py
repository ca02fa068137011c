"""Simulated devices: what each of them holds, when it can be reached, what becomes of it, and which of them lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Ints = NDArray[np.int64]
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Shards:
    """Examples of all devices, as rows of one pool: `rows` is (devices, most), -1 where a device has fewer."""

    x: Values
    y: Values
    rows: NDArray[np.int32]

    @property
    def devices(self) -> int:
        return len(self.rows)

    def of(self, devices: Ints) -> tuple[Values, Values, Values]:
        """x `(devices, most, inputs)`, y and weight `(devices, most)`; weight 0 is no example."""
        rows = self.rows[devices]
        return self.x[rows], self.y[rows], (rows >= 0).astype(np.float32)


def spread(y: Values, devices: int, each: int, alpha: float, seed: int) -> NDArray[np.int32]:
    """Rows for `devices` devices, `each` drawn from the pool: a device's labels are mixed as Dirichlet(alpha) says.

    Hsu, Qi, Brown 2019: alpha of 100 is nearly the same mixture everywhere, of 0.1 hardly more than one label a device.
    """
    draw = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    order = np.argsort(y, kind="stable")
    labels, starts, counts = np.unique(y[order], return_index=True, return_counts=True)
    out = np.empty((devices, each), dtype=np.int32)
    for first in range(0, devices, 65_536):
        some = slice(first, min(first + 65_536, devices))
        shape = (some.stop - first, each)
        shares = draw.standard_gamma(alpha, (shape[0], len(labels))) + 1e-30
        ends = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)
        chosen = (draw.random((*shape, 1)) > ends[:, None, :-1]).sum(axis=2)
        out[some] = order[starts[chosen] + (draw.random(shape) * counts[chosen]).astype(np.int64)]
    return out


def by_owner(owners: NDArray[Any], most: int, seed: int) -> NDArray[np.int32]:
    """Rows for one device per owner, at most `most` each, in an order that the seed chooses."""
    order = np.random.default_rng(np.random.SeedSequence([seed, 2])).permutation(len(owners))
    _, device = np.unique(np.asarray(owners)[order], return_inverse=True)
    rows: NDArray[np.int32] = np.full((int(device.max()) + 1, most), -1, dtype=np.int32)
    grouped = np.argsort(device, kind="stable")
    starts = np.searchsorted(device[grouped], np.arange(len(rows)))
    place = np.arange(len(grouped)) - starts[device[grouped]]
    kept = place < most
    rows[device[grouped][kept], place[kept]] = order[grouped[kept]]
    return rows


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`available`: share of the devices that could train at a moment, on average over a day; `swing`: how far that follows the
    device's own night, 0 not at all, 1 to nothing by day. `dropped`: share of asked devices that never report. A report comes
    after `minutes` (median), log-normal with `spread`. `flipped` devices send minus their update, `scaled` ones
    `factor` times theirs, past every clip: shares of all devices."""

    available: float = 0.25
    swing: float = 0.8
    dropped: float = 0.05
    minutes: float = 8.0
    spread: float = 0.6
    flipped: float = 0.0
    scaled: float = 0.0
    factor: int = -100

    def __post_init__(self) -> None:
        shares = (
            self.available,
            self.swing,
            self.dropped,
            self.flipped,
            self.scaled,
            self.flipped + self.scaled,
        )
        if not all(0 <= share <= 1 for share in shares) or not (self.minutes > 0 and self.spread >= 0):
            raise ValueError("shares are between 0 and 1, minutes above 0")


@dataclass(frozen=True, slots=True)
class Asked:
    """Devices that were asked, and when each reports (infinite: never)."""

    devices: Ints
    reports_s: NDArray[np.float64]


class Crowd:
    """All devices over time. Everything follows from the seed."""

    def __init__(self, devices: int, behaviour: Behaviour, seed: int) -> None:
        self._draw = np.random.default_rng(np.random.SeedSequence([seed, 3]))
        self._behaviour = behaviour
        self._night = self._draw.random(devices, dtype=np.float32)
        self._free_s = np.zeros(devices)
        self.taken = np.zeros(devices, dtype=np.int32)
        self.factors = np.ones(devices, dtype=np.int64)
        liars = self._draw.permutation(devices)
        flipped = round(behaviour.flipped * devices)
        self.factors[liars[:flipped]] = -1
        self.factors[liars[flipped : flipped + round(behaviour.scaled * devices)]] = behaviour.factor

    def available(self, now_s: float, most_taken: int) -> Ints:
        """Devices that check in about now and may take part once more."""
        phase = 2 * pi * (np.float32(now_s / (24 * HOUR_S) % 1) - self._night)
        chance = self._behaviour.available * (1 + self._behaviour.swing * np.cos(phase, dtype=np.float32))
        ready = self._draw.random(len(chance), dtype=np.float32) < chance
        ready &= (self.taken < most_taken) & (self._free_s <= now_s)
        return np.flatnonzero(ready)

    def ask(self, now_s: float, count: int, most_taken: int, until_s: float) -> Asked:
        """At most `count` devices that check in about now, by chance; no other round asks them until `until_s` or `release`."""
        found = self.available(now_s, most_taken)
        if len(found) > count:
            found = self._draw.choice(found, count, replace=False, shuffle=True)
        behaviour = self._behaviour
        reports_s = now_s + 60 * behaviour.minutes * np.exp(
            behaviour.spread * self._draw.standard_normal(len(found))
        )
        reports_s[self._draw.random(len(found)) < behaviour.dropped] = np.inf
        self._free_s[found] = until_s
        return Asked(found, reports_s)

    def release(self, devices: Ints, free_s: float) -> None:
        """The devices may be asked again from then on."""
        self._free_s[devices] = free_s


def digits_like(count: int, inputs: int, labels: int, seed: int, apart: float = 3.0) -> tuple[Values, Values]:
    """A pool to play with: normal clouds, one for each label, whose middles lie about `apart` from each other."""
    draw = np.random.default_rng(np.random.SeedSequence([seed, 4]))
    middles = draw.standard_normal((labels, inputs)) * apart / ceil((2 * inputs) ** 0.5)
    y = draw.integers(0, labels, count)
    x = draw.standard_normal((count, inputs), dtype=np.float32) + middles[y].astype(np.float32)
    return x, y.astype(np.float32)
