"""Bytes and rounds, by kind of message and direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Count:
    messages: int = 0
    size_bytes: int = 0


class Meter:
    """Counts what one party sends and receives over one channel.

    A round is one turn of the line: this party waits for an answer after it has sent something.
    """

    def __init__(self) -> None:
        self.sent: dict[str, Count] = {}
        self.received: dict[str, Count] = {}
        self.rounds = 0
        self._sent_last = False

    def on_send(self, kind: str, size_bytes: int) -> None:
        self._add(self.sent, kind, size_bytes)
        self._sent_last = True

    def on_receive(self, kind: str, size_bytes: int) -> None:
        self._add(self.received, kind, size_bytes)
        if self._sent_last:
            self.rounds += 1
        self._sent_last = False

    @property
    def sent_bytes(self) -> int:
        return sum(c.size_bytes for c in self.sent.values())

    @property
    def received_bytes(self) -> int:
        return sum(c.size_bytes for c in self.received.values())

    def to_json(self) -> dict[str, Any]:
        tables = {"sent": self.sent, "received": self.received}
        return {n: {k: [c.messages, c.size_bytes] for k, c in t.items()} for n, t in tables.items()} | {
            "rounds": self.rounds
        }

    @staticmethod
    def from_json(known: dict[str, Any]) -> Meter:
        """A meter that goes on from what another one counted."""
        meter = Meter()
        for name, table in (("sent", meter.sent), ("received", meter.received)):
            table |= {kind: Count(*count) for kind, count in known[name].items()}
        meter.rounds = known["rounds"]
        return meter

    @staticmethod
    def _add(table: dict[str, Count], kind: str, size_bytes: int) -> None:
        count = table.setdefault(kind, Count())
        count.messages += 1
        count.size_bytes += size_bytes
