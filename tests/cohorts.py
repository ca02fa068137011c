"""A cohort for sums without a helper: devices of one authority, an honest leader, and a driver that lets some drop out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.crypto.seal import PartyKey
from isthmus.protocols.secagg_plus import (
    Agreement,
    Cohort,
    Dealt,
    Device,
    Keys,
    Roster,
    Survivors,
    Terms,
    keepers_for,
)
from isthmus.protocols.secure_sum import Ticket, ticket
from tests.sums import LATER_MS, NOW_MS, Ints, key, secret

CHECKING = 6


class Hasty(Device):
    """Believes every signature: most of the time of a round goes into them, and most tests look at the first few devices."""

    def _enrolled(self, members: list[Keys], now_ms: int) -> None: ...

    def _signed(self, numbers: list[int], signatures: Any, words: bytes) -> None: ...


@dataclass
class Fleet:
    """Everyone of one round; devices are named by where they stand in `party`, which is the order of the roster.

    With `hasty` all but the first CHECKING devices believe every signature.
    """

    count: int = 30
    degree: int = 0
    threshold: int = 0
    length: int = 5
    width_bytes: int = 3
    weight_max: int = 4
    drop_share: float = 0.2
    hasty: bool = True
    kind: type[Device] = Device
    terms_kind: type[Terms] = Terms

    def __post_init__(self) -> None:
        self.leader, self.authority = key("leader"), key("authority")
        self.party = sorted((key(f"device {n}") for n in range(self.count)), key=lambda k: k.public)
        if not self.degree:
            self.degree, self.threshold = keepers_for(self.count, self.drop_share)
        self.terms = self.terms_kind(
            population=secret("population"),
            task=secret("task"),
            round=7,
            model=secret("model"),
            length=self.length,
            width_bytes=self.width_bytes,
            devices=self.count,
            degree=self.degree,
            threshold=self.threshold,
            reports_min=20,
            weight_max=self.weight_max,
            leader=self.leader.public,
            authority=self.authority.public,
        )
        self.devices = [
            (Hasty if self.hasty and self.kind is Device and n >= CHECKING else self.kind)(
                self.terms, k, self.ticket(k)
            )
            for n, k in enumerate(self.party)
        ]
        self.cohort = Cohort(self.terms)

    def ticket(self, device: PartyKey) -> Ticket:
        return ticket(self.authority, self.terms.population, device.public, LATER_MS)

    def values(self, n: int) -> Ints:
        rng = np.random.default_rng(n)
        return rng.integers(-100, 101, self.length, dtype=np.int64)

    def weight(self, n: int) -> int:
        return 1 + n % self.weight_max

    def sum_of(self, who: Iterable[int]) -> list[int]:
        return [int(v) for v in np.array([self.values(n) for n in who]).sum(axis=0)]

    def keyed(self) -> Roster:
        for device in self.devices:
            self.cohort.add_keys(device.keys(), NOW_MS)
        return self.cohort.roster()

    def dealt(self, without: Collection[int] = ()) -> dict[int, Dealt]:
        """Up to what each sharer is dealt; those named do not share."""
        roster = self.keyed()
        for n, device in enumerate(self.devices):
            if n not in without:
                self.cohort.add_shares(self.party[n].public, device.share(roster, NOW_MS))
        dealt = self.cohort.deal()
        return {n: dealt[k.public] for n, k in enumerate(self.party) if k.public in dealt}

    def masked(self, without: Collection[int] = (), unshared: Collection[int] = ()) -> Survivors:
        for n, dealt in self.dealt(unshared).items():
            if n not in without:
                masked = self.devices[n].mask(dealt, self.values(n), self.weight(n))
                self.cohort.add_masked(self.party[n].public, masked)
        return self.cohort.survivors()

    def agreed(
        self, without: Collection[int] = (), unmasked: Collection[int] = (), unshared: Collection[int] = ()
    ) -> tuple[Survivors, Agreement]:
        survivors = self.masked(unmasked, unshared)
        for n in survivors.alive.tolist():
            if n not in without:
                self.cohort.add_agreed(self.party[n].public, self.devices[n].agree(survivors))
        return survivors, self.cohort.agreement()

    def opened(
        self,
        unshared: Collection[int] = (),
        unmasked: Collection[int] = (),
        unsigned: Collection[int] = (),
        unopened: Collection[int] = (),
    ) -> Ints:
        """A whole round; each of the four steps goes without the devices that are named for it."""
        survivors, agreement = self.agreed(unsigned, unmasked, unshared)
        for n in survivors.alive.tolist():
            if n not in unsigned and n not in unopened:
                self.cohort.add_opening(self.party[n].public, self.devices[n].open(agreement))
        return self.cohort.open()
