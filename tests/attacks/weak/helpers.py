"""Sums over devices with one rule left out each; everything else is the product's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from isthmus.protocols import secure_sum
from isthmus.protocols.secure_sum import REPORTS_FLOOR, Terms


class ModelBlindTerms(Terms):
    """The digest, and so masks, seals and signatures, leaves out which model was shown."""

    @cached_property
    def digest(self) -> bytes:
        return hashlib.sha256(replace(self, model=bytes(32)).encode()).digest()


@dataclass
class ReplicatedReport:
    """x under three masks; each helper holds the two seeds that are not its own number."""

    id: bytes
    masked: Any
    seeds: tuple[bytes, bytes, bytes]


def replicated(terms: Terms, values: Any) -> ReplicatedReport:
    """A report of the design with three helpers of which any two will do."""
    seeds = (os.urandom(32), os.urandom(32), os.urandom(32))
    id, words = os.urandom(16), terms.ring.lift(values)
    for seed in seeds:
        terms.ring.add(words, secure_sum._mask_of(terms, id, seed))
    return ReplicatedReport(id, words, seeds)


@dataclass
class ReplicatedHelper:
    """Keeps the floor and uses every report once; answers with the sum of the masks of either seed that it holds."""

    own: int
    seen: set[bytes] = field(default_factory=set)

    def answer(self, terms: Terms, batch: Sequence[ReplicatedReport]) -> dict[int, Any]:
        ids = {report.id for report in batch}
        assert len(ids) == len(batch) >= REPORTS_FLOOR
        assert not ids & self.seen
        self.seen |= ids
        sums = {}
        for seed in {0, 1, 2} - {self.own}:
            words = terms.ring.zeros(terms.length)
            for report in batch:
                terms.ring.add(words, secure_sum._mask_of(terms, report.id, report.seeds[seed]))
            sums[seed] = words
        return sums
