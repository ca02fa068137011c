"""Our secure sum in one process: what a device, the leader and the helpers spend."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np

from fleet.machine import peak_mb, used
from isthmus.crypto.words import ring_for
from isthmus.fleet.simulated_sum import SplitTrustSum


def split_trust(case: Namespace, noise_std: float) -> dict[str, Any]:
    """One round, after a small one that warms up; the sum is checked where there is no noise."""
    ring = ring_for(8, case.cohort, 1, noise_std)
    draw = np.random.default_rng(1)
    devices, weights = np.arange(case.cohort), np.ones(case.cohort, dtype=np.int64)
    adder = SplitTrustSum(per_device_max=10, weight_max=1, rounds=10)
    adder(
        0, bytes(32), ring, noise_std, iter([(devices, np.zeros((case.cohort, 8), dtype=np.int64), weights)])
    )
    adder.device_s = adder.leader_s = adder.helper_s = 0.0
    adder.reports = adder.report_bytes = 0
    values = draw.integers(-127, 128, (case.cohort, case.length))
    with used() as whole:
        opened = adder(1, bytes(32), ring, noise_std, iter([(devices, values, weights)]))
    if noise_std == 0 and not np.array_equal(opened, values.sum(axis=0)):
        raise SystemExit("the sum is wrong")
    return {
        "device_cpu_s": adder.device_s / case.cohort,
        "server_cpu_s": adder.leader_s + adder.helper_s,
        "leader_cpu_s": adder.leader_s,
        "helper_cpu_s": adder.helper_s / 2,
        "bytes_per_param": adder.report_bytes / adder.reports / case.length,
        "wall_s": whole.wall_s,
        "peak_mb": peak_mb(),
        "noise_std": noise_std,
    }
