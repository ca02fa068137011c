"""A population for sums over devices: an authority, a leader, two helpers with a record in memory, devices."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from isthmus.crypto.hpke import SealingKey
from isthmus.crypto.seal import PartyKey
from isthmus.protocols import secure_sum
from isthmus.protocols.secure_sum import (
    Allowance,
    Answer,
    Batch,
    Helper,
    HelperKey,
    Ledger,
    Report,
    Terms,
    Ticket,
    answer,
    batch_for,
    open_sum,
    seal,
    ticket,
    total,
)

NOW_MS = 1_800_000_000_000
LATER_MS = NOW_MS + 86_400_000
Ints = NDArray[np.int64]


def secret(label: str) -> bytes:
    """32 bytes that follow from a label; stated in the vectors too."""
    return hashlib.sha256(f"isthmus/vectors/{label}".encode()).digest()


def key(label: str) -> PartyKey:
    return PartyKey.from_bytes(secret(label))


class MemoryPage:
    """One transaction of a MemoryLedger."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self.burned: list[tuple[bytes, bool, list[tuple[bytes, bytes]], bytes, bytes, bytes]] = []

    def answered(self, batch: bytes) -> tuple[bytes, bytes] | None:
        return self._ledger.batches.get(batch)

    def seen(self, reports: Sequence[bytes]) -> set[bytes]:
        return self._ledger.reports & set(reports)

    def taken_part(self, task: bytes, devices: Sequence[bytes]) -> dict[bytes, int]:
        return {d: self._ledger.devices.get((task, d), 0) for d in devices}

    def plain(self, task: bytes) -> int:
        return self._ledger.plain.get(task, 0)

    def burn(
        self,
        task: bytes,
        plain: bool,
        taken: Sequence[tuple[bytes, bytes]],
        batch: bytes,
        asked: bytes,
        answer: bytes,
    ) -> None:
        self.burned.append((task, plain, list(taken), batch, asked, answer))


@dataclass
class MemoryLedger:
    """The record of a helper that ends with the process."""

    batches: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    reports: set[bytes] = field(default_factory=set)
    devices: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    plain: dict[bytes, int] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def page(self) -> Iterator[MemoryPage]:
        with self._lock:
            page = MemoryPage(self)
            yield page
            for task, plain, taken, batch, asked, body in page.burned:
                self.batches[batch] = (asked, body)
                self.reports |= {report for report, _ in taken}
                for _, device in taken:
                    self.devices[task, device] = self.devices.get((task, device), 0) + 1
                self.plain[task] = self.plain.get(task, 0) + plain


def no_noise(std: float, size: int) -> Ints:
    raise AssertionError("no noise was agreed")


@dataclass
class World:
    """Everyone of a population. The keys of `count` devices and of the services follow from labels."""

    count: int = 20
    reports_min: int = 20
    plain_max: int = 1000
    length: int = 5
    width_bytes: int = 3
    weight_max: int = 4
    per_device_max: int = 4
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        self.leader, self.authority = key("leader"), key("authority")
        self.devices = [key(f"device {n}") for n in range(self.count)]
        allowance = Allowance(self.leader.public, self.authority.public, 20, self.plain_max)
        self.helpers = [
            Helper(key(f"signs {n}"), SealingKey.from_bytes(secret(f"seals {n}")), (allowance,))
            for n in (0, 1)
        ]
        self.memory = [MemoryLedger(), MemoryLedger()]
        self.ledgers: list[Ledger] = [*self.memory]
        first, second = (
            HelperKey(name, h.signing.public, h.sealing.public)
            for name, h in zip(("album-app", "audit-house"), self.helpers, strict=True)
        )
        self.terms = Terms(
            population=secret("population"),
            task=secret("task"),
            round=7,
            model=secret("model"),
            length=self.length,
            width_bytes=self.width_bytes,
            reports_min=self.reports_min,
            weight_max=self.weight_max,
            per_device_max=self.per_device_max,
            noise_std=self.noise_std,
            leader=self.leader.public,
            authority=self.authority.public,
            helpers=(first, second),
        )

    def ticket(self, device: PartyKey) -> Ticket:
        return ticket(self.authority, self.terms.population, device.public, LATER_MS)

    def values(self, n: int) -> Ints:
        """What device n holds: small integers of both signs."""
        words = np.frombuffer(hashlib.shake_256(secret(f"values {n}")).digest(self.length), dtype=np.int8)
        return words.astype(np.int64)

    def report(self, n: int, terms: Terms | None = None) -> Report:
        device = self.devices[n]
        return seal(terms or self.terms, self.values(n), 1 + n % self.weight_max, device, self.ticket(device))

    def reports(self, terms: Terms | None = None) -> list[Report]:
        return [self.report(n, terms) for n in range(self.count)]

    def batch(
        self, place: int, reports: Sequence[Report], id: bytes = bytes(16), terms: Terms | None = None
    ) -> Batch:
        return batch_for(terms or self.terms, place, id, [r.head for r in reports], self.leader)

    def answer(self, batch: Batch, noise: Callable[[float, int], Ints] = no_noise) -> bytes:
        return answer(self.helpers[batch.place], batch, self.ledgers[batch.place], NOW_MS, noise)

    def open(self, reports: Sequence[Report], id: bytes = bytes(16), terms: Terms | None = None) -> Ints:
        terms = terms or self.terms
        answers = [self.answer(self.batch(place, reports, id, terms)) for place in (0, 1)]
        words = total(terms, (r.masked for r in reports))
        return open_sum(terms, words, id, [r.id for r in reports], answers)


def resigned(batch: Batch, leader: PartyKey, **changed: object) -> Batch:
    """The batch with other content, signed again as the leader would."""
    made = replace(batch, **changed, signature=bytes(64))  # type: ignore[arg-type]
    return replace(made, signature=leader.sign(secure_sum._batch_words(made)))


def sign_answer(helper: PartyKey, terms: Terms, said: Answer, sum_: bytes) -> bytes:
    """The answer with another sum, signed as its helper would."""
    from isthmus.protocols import secure_sum

    words = secure_sum._answer_words(terms, said.batch, said.reports, sum_)
    return replace(said, sum=sum_, signature=helper.sign(words)).encode()
