"""One-time draws that leave out one rule each; everything else is the product's."""

from __future__ import annotations

import numpy as np

from isthmus.crypto.lattice.ntt import N
from isthmus.crypto.lattice.outer import Drawn
from isthmus.crypto.lattice.sampling import Stream
from isthmus.crypto.lattice.sets import Layout


class NoMask(Drawn):
    """u = 0."""

    __slots__ = ()

    def mask(self, layout: Layout) -> np.ndarray:
        return np.zeros(layout.bins, dtype=np.uint64)


class OpenMask(Drawn):
    """The low bits of u are uniform, right up to both ends of Delta."""

    __slots__ = ()

    def mask(self, layout: Layout) -> np.ndarray:
        return Stream.public(self.seed, f"mask/{self.place}").words(layout.bins)


class PayloadMask(Drawn):
    """u covers the bits of the payload and nothing below them."""

    __slots__ = ()

    def mask(self, layout: Layout) -> np.ndarray:
        gap = np.uint64(layout.gap)
        return super().mask(layout) >> gap << gap


class PlacelessMask(Drawn):
    """One mask for all feature owners."""

    __slots__ = ()

    def mask(self, layout: Layout) -> np.ndarray:
        return Drawn(self.seed, 0).mask(layout)


class NoBlinding(Drawn):
    """v = 0 and e1 = 0."""

    __slots__ = ()

    def blinding(self, chunks: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((chunks, N), dtype=np.int64), np.zeros((chunks, N), dtype=np.uint64)


class SameBlinding(Drawn):
    """The same v and e1 in every message."""

    __slots__ = ()

    def blinding(self, chunks: int) -> tuple[np.ndarray, np.ndarray]:
        return Drawn(bytes(32), self.place).blinding(chunks)
