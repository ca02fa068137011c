"""Clock, memory and a word about the machine, for every line."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Used:
    """CPU and wall seconds of a block, of this process."""

    cpu_s: float = 0.0
    wall_s: float = 0.0


@contextmanager
def used() -> Iterator[Used]:
    found = Used()
    cpu, wall = time.process_time(), time.perf_counter()
    yield found
    found.cpu_s, found.wall_s = time.process_time() - cpu, time.perf_counter() - wall


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def about() -> dict[str, Any]:
    model = platform.processor()
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), model)
    return {
        "machine": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }
