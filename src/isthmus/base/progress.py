"""Where long work stands: a stage, k of N, and an estimate of what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isthmus.base.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class Step:
    """One report: stage, done of total (0 when unknown), seconds left (None when unknown), and one public figure."""

    stage: str
    done: int
    total: int
    eta_s: float | None
    note: str = ""


class Progress:
    """Hands steps to a listener. A role calls `start` once a stage and `at` as the work goes on."""

    def __init__(self, listener: Callable[[Step], None] | None = None, clock: Clock | None = None) -> None:
        self._listener = listener or (lambda step: None)
        self._clock = clock or SystemClock()
        self._stage = ""
        self._total = 0
        self._began_s = 0.0

    def start(self, stage: str, total: int = 0) -> None:
        self._stage, self._total, self._began_s = stage, total, self._clock.monotonic_s()
        self.at(0)

    def at(self, done: int, note: str = "") -> None:
        spent_s = self._clock.monotonic_s() - self._began_s
        eta_s = spent_s * (self._total - done) / done if done and self._total else None
        self._listener(Step(self._stage, done, self._total, eta_s, note))
