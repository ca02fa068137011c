"""CPU and wall seconds by stage, from wrappers around functions of the product. Compiled kernels count too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any


class Stopwatch:
    """Adds up the seconds of named stages in every thread of this process; a stage within another is taken out of it.

    CPU seconds are those of the calling thread, so work that a function hands to further threads is missing.
    """

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.wall_s: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._lock = threading.Lock()
        self._within = threading.local()

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        """Put a timed function in the place of `owner.name`."""
        plain = vars(owner)[name]
        made: Any = self.timed(getattr(plain, "__func__", plain), stage)
        setattr(owner, name, type(plain)(made) if isinstance(plain, classmethod | staticmethod) else made)

    def timed(self, work: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @wraps(work)
        def measured(*args: Any, **kwargs: Any) -> Any:
            above = getattr(self._within, "inner", None)
            inner = self._within.inner = [0.0, 0.0]
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return work(*args, **kwargs)
            finally:
                wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
                self._within.inner = above
                if above is not None:
                    above[0] += cpu
                    above[1] += wall
                with self._lock:
                    self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + cpu - inner[0]
                    self.wall_s[stage] = self.wall_s.get(stage, 0.0) + wall - inner[1]
                    self.calls[stage] = self.calls.get(stage, 0) + 1

        return measured

    def clear(self) -> None:
        for table in (self.cpu_s, self.wall_s, self.calls):
            table.clear()
