"""Secrets that may be used once: taking one is removing it, and the numbers of those that were drawn are on record."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Generic, NoReturn, Protocol, SupportsIndex, TypeVar

from isthmus.base.errors import LocalError
from isthmus.base.files import write_file

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
    """The numbers of one-time secrets that are burned: all below `next`, whether they were used or not."""

    @property
    def next(self) -> int: ...

    def burn(self, stop: int) -> None:
        """Put on record that every number below `stop` is burned; returns when that cannot be lost any more."""


class MemoryLedger:
    """A record that ends with the process: for a party that never begins again under the same job."""

    def __init__(self, first: int = 0) -> None:
        self._next = first

    @property
    def next(self) -> int:
        return self._next

    def burn(self, stop: int) -> None:
        self._next = max(self._next, stop)


class FileLedger:
    """A record in a file, synced before `burn` returns. Raises LocalError `disk_error`, and then nothing may be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._next = int(path.read_text("ascii"))
        except FileNotFoundError:
            self._next = 0
        except (OSError, ValueError):
            raise LocalError(
                "disk_error", path=str(path), why="the record of burned numbers is damaged"
            ) from None

    @property
    def next(self) -> int:
        return self._next

    def burn(self, stop: int) -> None:
        if stop > self._next:
            write_file(self._path, b"%d" % stop)
            self._next = stop
