"""Roles of the protocol that leave out one rule each; everything else is the product's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

from isthmus.crypto.lattice.outer import Drawn
from isthmus.crypto.onetime import MemoryLedger, OneTime, Recorded
from isthmus.learn.histogram import Sums
from isthmus.protocols.hint import HintFeatureSide, HintLabelSide, Slots, _Batch, _Ready
from isthmus.store.checkpoints import Checkpoints
from tests.records import KEY

T = TypeVar("T")


class Reusable(OneTime[T]):
    """Gives its secret out as often as it is asked, in any process."""

    __slots__ = ()

    def take(self) -> T:
        return self._box[0]


class PeekingLabelSide(HintLabelSide):
    """Looks a secret up in the pool and leaves it there."""

    async def _fill(self, needed: int) -> None:
        await super()._fill(needed)
        self._kept = dict(self._pool)

    async def level(self, slot_of_row: Slots, slots: int) -> list[Sums]:
        sums = await super().level(slot_of_row, slots)
        self._pool.update(self._kept)
        return sums

    def _draw(self, count: int) -> _Batch:
        batch = super()._draw(count)
        ready: list[OneTime[_Ready]] = [Reusable(one.take()) for one in batch.ready]
        return _Batch(batch.first, ready, batch.hints)


class Forgetful(MemoryLedger):
    """Burns nothing."""

    def burn(self, stop: int) -> None: ...


class UnlimitedFeatureSide(HintFeatureSide):
    """Answers any number of vectors."""

    async def level(self) -> None:
        self._left = self._hints_left = 2**31
        await super().level()


class KeptPoolLabelSide(HintLabelSide):
    """Its secrets follow from their indexes, as if they had been kept over a restart."""

    def _draw(self, count: int) -> _Batch:
        first = self._ledger.next
        self._ledger.burn(first + count)
        seeds = [hashlib.sha256(b"%d" % index).digest() for index in range(first, first + count)]
        made = [key.prepare([Drawn(seed, place) for seed in seeds]) for place, key in enumerate(self._keys)]
        ready = [OneTime(_Ready(seed, [masks[at] for masks, _, _ in made])) for at, seed in enumerate(seeds)]
        return _Batch(first, ready, [(hints, others) for _, hints, others in made])


class LateLedger(Recorded):
    """Puts on record what was burned when the next batch is, and by then the vectors have left."""

    def __init__(self, path: Path) -> None:
        super().__init__(Checkpoints(path, KEY))
        self._coming = super().next

    @property
    def next(self) -> int:
        return self._coming

    def burn(self, stop: int) -> None:
        super().burn(self._coming)
        self._coming = max(self._coming, stop)
