"""Secrets that may be used once: taking one is removing it, and the numbers of those that were drawn are on record."""

from __future__ import annotations

import os
from typing import Generic, NoReturn, Protocol, SupportsIndex, TypeVar

from isthmus.base.errors import LocalError
from isthmus.base.record import Forgetful, Record

T = TypeVar("T")


class OneTime(Generic[T]):
    """A secret that `take` gives out once, in the process that made it; then and elsewhere LocalError `secret_spent`.

    It shows, compares, copies and serialises nothing, and a forked child finds it spent.
    """

    __slots__ = ("_box", "_process")

    def __init__(self, secret: T) -> None:
        self._box: list[T] = [secret]
        self._process = os.getpid()

    def take(self) -> T:
        """The secret; every later call raises LocalError `secret_spent`."""
        if self._process != os.getpid():
            self._box.clear()
        try:
            return self._box.pop()  # one atomic step, so two threads cannot both have it
        except IndexError:
            raise LocalError("secret_spent") from None

    def __repr__(self) -> str:
        return "OneTime()"

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("one-time secrets are not compared")

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("one-time secrets are neither copied nor serialised")


class Ledger(Protocol):
    """What was done with one-time secrets: all numbers below `next` are burned, whether they were used or not, and so many
    vectors were `answered`. Nothing takes either back."""

    @property
    def next(self) -> int: ...

    def burn(self, stop: int) -> None:
        """Put on record that every number below `stop` is burned; returns when that cannot be lost any more."""

    @property
    def answered(self) -> int: ...

    def answer(self, total: int) -> None:
        """Put on record that `total` vectors are answered, this time and before; returns when that cannot be lost."""


class Recorded:
    """On the record of a run (base/record.py), which raises LocalError when it cannot write; then nothing may be used."""

    def __init__(self, record: Record) -> None:
        self._record = record

    @property
    def next(self) -> int:
        return self._record.count("burned")

    def burn(self, stop: int) -> None:
        self._record.raise_to("burned", stop)

    @property
    def answered(self) -> int:
        return self._record.count("answered vectors")

    def answer(self, total: int) -> None:
        self._record.raise_to("answered vectors", total)


class MemoryLedger(Recorded):
    """A record that ends with the process: for a party that never begins again under the same job."""

    def __init__(self, first: int = 0) -> None:
        super().__init__(Forgetful())
        self.burn(first)
