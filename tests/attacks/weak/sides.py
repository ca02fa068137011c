"""Roles of the protocol that leave out one rule each; everything else is the product's."""

from __future__ import annotations

from typing import TypeVar

from isthmus.crypto.onetime import MemoryLedger, OneTime
from isthmus.learn.histogram import Sums
from isthmus.protocols.hint import HintFeatureSide, HintLabelSide, Slots, _Batch, _Ready

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
