"""Secrets that may be used once: taking one is removing it."""

from __future__ import annotations

import os
from typing import Generic, NoReturn, SupportsIndex, TypeVar

from isthmus.base.errors import LocalError

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
