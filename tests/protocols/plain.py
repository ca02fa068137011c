"""The plain engine: sums in the clear, for tests alone."""

from __future__ import annotations

import numpy as np

from isthmus.learn.histogram import BinMatrix, Sums, histogram


class PlainEngine:
    """The label owner's half; it reads the feature owners' bins, which no real engine can."""

    hides_nodes = True

    def __init__(self, matrices: list[BinMatrix]) -> None:
        self.matrices = matrices
        self.widest = 0

    async def tree(self, g: np.ndarray, h: np.ndarray) -> None:
        self.g, self.h = g, h
        self.widest = max(self.widest, int(np.abs(g).max()), int(h.max()))

    async def level(self, slot_of_row: np.ndarray, slots: int) -> list[Sums]:
        return [histogram(m, slot_of_row, slots, self.g, self.h) for m in self.matrices]

    async def close(self) -> None:
        pass


class PlainFeatureSide:
    """The feature owner's half: nothing to do."""

    async def tree(self) -> None:
        pass

    async def level(self) -> None:
        pass
