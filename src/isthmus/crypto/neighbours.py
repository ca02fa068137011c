"""How many keepers of its secrets a device must draw so that no server can get at less than the whole sum.

n devices, c of them corrupt and in league with the server. Every honest device draws k of the others, uniformly and by itself; t
of these keepers must work together to open one of its two secrets. Keepers share a mask with their device, and an honest keeper
helps only while it is in the sum itself. So where the server opens the sum of a group S of honest devices, whatever else it does,
every member of S has t of its keepers inside S or among the corrupt. Over all S with s members,

    P[some S] <= C(n - c, s) * P[X >= t]^s,    X hypergeometric: k draws of n - 1 devices of which s - 1 + c are marked.

Summed up to half of the honest devices this bounds the chance that any sum opens which is not over more than half of them: so no
sum over few, and no two sums. It holds whichever devices drop out and whenever the server says so, since it speaks of the drawing
alone. s = 1 is the case of a device most of whose keepers are corrupt.

Source: Bell, Bonawitz, Gascon, Lepoint, Raykova, Secure Single-Server Aggregation with (Poly)Logarithmic Overhead (CCS 2020),
section 4 for keepers drawn by each device and section 3 for both tails; the union over all groups is spelled out here.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import ConfigError

FAILURE_BITS: Final = 20
"""An honest round with as many drop-outs as foreseen fails for want of keepers once in 2^20."""

Floats = NDArray[np.float64]


def isolation_bits(devices: int, corrupt: int, degree: int, threshold: int) -> float:
    """-log2 of the bound above; infinite where no group can stand apart at all."""
    honest = devices - corrupt
    sizes = np.arange(1, honest // 2 + 1)
    logs = _log_factorials(devices)
    tails = _log_at_least(logs, devices - 1, sizes - 1 + corrupt, degree, threshold)
    terms = _log_choose(logs, honest, sizes) + sizes * tails
    top = float(terms.max(initial=-math.inf))
    if top == -math.inf:
        return math.inf
    return -(top + math.log(float(np.exp(terms - top).sum()))) / math.log(2)


def failure_bits(devices: int, surviving: int, degree: int, threshold: int) -> float:
    """-log2 of a bound on the chance that some device has fewer than `threshold` keepers among `surviving` devices."""
    logs = _log_factorials(devices)
    gone = np.array([devices - surviving])  # a device that is in the sum is no keeper of its own
    tail = float(_log_at_least(logs, devices - 1, gone, degree, degree - threshold + 1)[0])
    return math.inf if tail == -math.inf else -(tail + math.log(devices)) / math.log(2)


def degree(devices: int, corrupt_share: float, drop_share: float, security_bits: int = 40) -> tuple[int, int]:
    """The smallest number of keepers, and their threshold above two thirds of it, for which both bounds hold.

    Raises ConfigError `out_of_bounds` where not even all other devices as keepers are enough.
    """
    corrupt = math.floor(devices * corrupt_share + 1e-9)
    surviving = math.ceil(devices * (1 - drop_share) - 1e-9)
    if devices >= 4 and 3 * corrupt < devices and 3 * surviving > 2 * devices:
        for keepers in range(3, devices):
            threshold = 2 * keepers // 3 + 1
            if (
                failure_bits(devices, surviving, keepers, threshold) >= FAILURE_BITS
                and isolation_bits(devices, corrupt, keepers, threshold) >= security_bits
            ):
                return keepers, threshold
    raise ConfigError(
        "out_of_bounds",
        field="devices, corrupt and drop-out shares",
        value=f"{devices}, {corrupt_share:g}, {drop_share:g}",
        allowed="more devices, or smaller shares: each below a third",
    )


def _log_factorials(top: int) -> Floats:
    return np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, top + 1)))))


def _log_choose(logs: Floats, whole: Any, part: Any) -> Floats:
    """ln C(whole, part), -inf where there is no such choice."""
    whole, part = np.broadcast_arrays(whole, part)
    there = (part >= 0) & (part <= whole)
    w, p = np.where(there, whole, 0), np.where(there, part, 0)
    logarithms: Floats = np.where(there, logs[w] - logs[p] - logs[w - p], -np.inf)
    return logarithms


def _log_at_least(logs: Floats, whole: int, marked: NDArray[Any], draws: int, least: int) -> Floats:
    """ln P[at least `least` of the draws are marked], for each number of marked ones."""
    hits = np.arange(max(least, 0), draws + 1)
    marked = marked[:, None]
    terms = _log_choose(logs, marked, hits) + _log_choose(logs, whole - marked, draws - hits)
    top = np.maximum(terms.max(axis=1, initial=-np.inf), -1e300)
    with np.errstate(divide="ignore"):
        sums = top + np.log(np.exp(terms - top[:, None]).sum(axis=1)) - _log_choose(logs, whole, draws)
    capped: Floats = np.minimum(sums, 0.0)
    return capped
