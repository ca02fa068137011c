"""What a role puts by at a barrier of its work, so that a new process can take the work up there.

A job passes its barriers in one order, the same at every party: begun, aligned, binned, weighed, one after each tree, trained,
finished. A party that comes back names the last one it has on record; the parties go on from the oldest of them, and whatever
was put by after it is dropped. What may be used once is never put by (crypto/onetime.py).
"""

from __future__ import annotations

from typing import Final, Protocol

from isthmus.base.errors import PeerError

BEGUN: Final = 0
ALIGNED: Final = 1
BINNED: Final = 2
WEIGHED: Final = 3
"""Tree k is complete at WEIGHED + k."""
TRAINED: Final = 1 << 16
FINISHED: Final = 1 << 17

NUMBERS_MOST: Final = 1 << 31
"""No number of a run that only rises (attempts, burned secrets) comes near this; what lies above has room on the wire."""

STAGES: Final = {"bin": ALIGNED, "train": BINNED, "evaluate": TRAINED}
"""Where a job stands when one of its stages begins."""


class Record(Protocol):
    """The record of one party in one run of a job. Raises LocalError `disk_full`, `disk_error`, `checkpoint_damaged` or
    `superseded`; nothing is recorded then."""

    @property
    def barrier(self) -> int:
        """The last barrier on record."""

    def keep(self, barrier: int, **parts: bytes) -> None:
        """Put the parts, as of `barrier`, behind what is there under their names, and stand there unless this party is past it
        already; together, and lasting on return."""

    def found(self, name: str) -> list[bytes]:
        """What was put by under this name, oldest first."""

    def count(self, name: str) -> int:
        """A number that only rises, whatever is dropped; 0 at first."""

    def raise_to(self, name: str, value: int) -> None:
        """Raise that number; lasting on return. A lower value changes nothing."""


def check_told(told: int, known: int) -> None:
    """A partner names a number that only rises and stands at `known` here. Taken as it comes, one near the end of its field
    would leave the next number no room. Raises PeerError."""
    if told > max(known, NUMBERS_MOST):
        raise PeerError("bad_message", why=f"a number of {told}, which no run comes to")


class Forgetful:
    """A record that ends with the process: for roles whose process is not begun again."""

    def __init__(self) -> None:
        self._barrier = BEGUN
        self._parts: dict[str, list[bytes]] = {}
        self._counts: dict[str, int] = {}

    @property
    def barrier(self) -> int:
        return self._barrier

    def keep(self, barrier: int, **parts: bytes) -> None:
        self._barrier = max(self._barrier, barrier)
        for name, body in parts.items():
            self._parts.setdefault(name, []).append(body)

    def found(self, name: str) -> list[bytes]:
        return self._parts.get(name, [])

    def count(self, name: str) -> int:
        return self._counts.get(name, 0)

    def raise_to(self, name: str, value: int) -> None:
        self._counts[name] = max(value, self.count(name))
