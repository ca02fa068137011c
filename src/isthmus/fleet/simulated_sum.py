"""The secure sum of the product inside a simulation: every report is sealed, both helpers answer, the sum is opened.

Keys are real and live as long as the simulation; the helpers' records are kept in memory. It is the slow way, to see that the
fast one (`simulate.PlainSum`) gives the same sums and what the masks cost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from isthmus.crypto.hpke import SealingKey
from isthmus.crypto.seal import PartyKey
from isthmus.crypto.words import Ring
from isthmus.fleet.crowd import Ints
from isthmus.fleet.simulate import Chunk
from isthmus.privacy.noise import discrete_gaussian
from isthmus.protocols.secure_sum import (
    REPORTS_FLOOR,
    Allowance,
    Helper,
    HelperKey,
    Page,
    Terms,
    Ticket,
    answer,
    batch_for,
    check_report,
    open_sum,
    seal,
    ticket,
    total,
)

_YEAR_MS = 365 * 86_400_000


class SplitTrustSum:
    """An Adder: devices, leader, enrolment authority and two helpers in one process. CPU seconds of each side are counted."""

    def __init__(self, per_device_max: int, weight_max: int, rounds: int) -> None:
        self._per_device_max, self._weight_max = per_device_max, weight_max
        self._leader, self._authority = PartyKey.generate(), PartyKey.generate()
        self._population, self._task = os.urandom(32), os.urandom(32)
        allowance = Allowance(
            self._leader.public, self._authority.public, REPORTS_FLOOR, plain_max=64 * rounds
        )
        self._helpers = [Helper(PartyKey.generate(), SealingKey.generate(), (allowance,)) for _ in range(2)]
        self._records = [Record(), Record()]
        self._devices: dict[int, tuple[PartyKey, Ticket]] = {}
        self._now_ms = time.time_ns() // 1_000_000
        self.device_s = self.leader_s = self.helper_s = 0.0
        self.reports = self.report_bytes = 0

    def __call__(
        self, round_: int, model: bytes, ring: Ring, noise_std: float, chunks: Iterator[Chunk]
    ) -> Ints:
        terms: Terms | None = None
        reports = []
        for devices, values, weights in chunks:
            terms = terms or self._terms(round_, model, ring, noise_std, values.shape[1])
            known = [self._enrolled(int(device)) for device in devices]
            began = time.process_time()
            for (key, admission), row, weight in zip(known, values, weights, strict=True):
                reports.append(seal(terms, row, int(weight), key, admission))
            self.device_s += time.process_time() - began
        if terms is None:
            raise ValueError("a sum is over at least one report")
        self.reports += len(reports)
        self.report_bytes += sum(len(report.encode()) for report in reports)

        began = time.process_time()
        for report in reports:
            check_report(terms, report, self._now_ms)
        words = total(terms, (report.masked for report in reports))
        heads, id_ = [report.head for report in reports], os.urandom(16)
        batches = [batch_for(terms, place, id_, heads, self._leader) for place in (0, 1)]
        self.leader_s += time.process_time() - began

        began = time.process_time()
        answers = [
            answer(helper, batch, record, self._now_ms, discrete_gaussian)
            for helper, batch, record in zip(self._helpers, batches, self._records, strict=True)
        ]
        self.helper_s += time.process_time() - began

        began = time.process_time()
        opened = open_sum(terms, words, id_, [report.id for report in reports], answers)
        self.leader_s += time.process_time() - began
        return opened

    def _terms(self, round_: int, model: bytes, ring: Ring, noise_std: float, length: int) -> Terms:
        first, second = (
            HelperKey(f"helper-{place}", helper.signing.public, helper.sealing.public)
            for place, helper in enumerate(self._helpers, 1)
        )
        return Terms(
            population=self._population, task=self._task, round=round_, model=model, length=length,
            width_bytes=ring.width_bytes, reports_min=REPORTS_FLOOR, weight_max=self._weight_max,
            per_device_max=self._per_device_max, noise_std=noise_std, leader=self._leader.public,
            authority=self._authority.public, helpers=(first, second),
        )  # fmt: skip

    def _enrolled(self, device: int) -> tuple[PartyKey, Ticket]:
        if device not in self._devices:
            key = PartyKey.generate()
            admission = ticket(self._authority, self._population, key.public, self._now_ms + _YEAR_MS)
            self._devices[device] = (key, admission)
        return self._devices[device]


class Record:
    """What one helper has answered, as its ledger and as the page of every transaction."""

    def __init__(self) -> None:
        self._batches: dict[bytes, tuple[bytes, bytes]] = {}
        self._reports: set[bytes] = set()
        self._taken: dict[bytes, int] = {}
        self._plain = 0

    @contextmanager
    def page(self) -> Iterator[Page]:
        yield self

    def answered(self, batch: bytes) -> tuple[bytes, bytes] | None:
        return self._batches.get(batch)

    def seen(self, reports: Sequence[bytes]) -> set[bytes]:
        return self._reports & set(reports)

    def taken_part(self, task: bytes, devices: Sequence[bytes]) -> dict[bytes, int]:
        return {device: self._taken.get(device, 0) for device in devices}

    def plain(self, task: bytes) -> int:
        return self._plain

    def burn(
        self,
        task: bytes,
        plain: bool,
        taken: Sequence[tuple[bytes, bytes]],
        batch: bytes,
        asked: bytes,
        answer: bytes,
    ) -> None:
        self._batches[batch] = (asked, answer)
        self._plain += plain
        for report, device in taken:
            self._reports.add(report)
            self._taken[device] = self._taken.get(device, 0) + 1
