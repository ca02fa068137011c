"""CPU seconds by stage, from wrappers around functions of the product. Compiled kernels count too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any


class Stopwatch:
    """Adds up the CPU seconds of named stages over all threads of this process; a stage within another belongs to the outer one.

    Seconds are those of the calling thread: what a function hands to further threads is missing.
    """

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.main_s = 0.0
        self._lock = threading.Lock()
        self._here = threading.local()

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        """Put a timed function in the place of `owner.name`."""
        plain = vars(owner)[name]
        if isinstance(plain, classmethod):
            setattr(owner, name, classmethod(self.timed(plain.__func__, stage)))
        else:
            setattr(owner, name, self.timed(plain, stage))

    def timed(self, work: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @wraps(work)
        def measured(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._here, "inside", False):
                return work(*args, **kwargs)
            self._here.inside = True
            began = time.thread_time()
            try:
                return work(*args, **kwargs)
            finally:
                spent = time.thread_time() - began
                self._here.inside = False
                with self._lock:
                    self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + spent
                    if threading.current_thread() is threading.main_thread():
                        self.main_s += spent

        return measured

    def clear(self) -> None:
        self.cpu_s.clear()
        self.main_s = 0.0
