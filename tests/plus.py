"""A round of sums without helpers, in one process: devices, a leader, and who falls out when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.crypto.seal import PartyKey
from isthmus.protocols.secagg_plus import (
    Consents,
    Delivered,
    Hello,
    Lists,
    Masked,
    PlusDevice,
    PlusLeader,
    PlusTerms,
    Revealed,
    Roster,
    Shares,
)
from isthmus.protocols.secure_sum import ticket
from tests.sums import LATER_MS, NOW_MS, Ints, World

STEPS = ("shares", "masked", "consent", "reveal")
Meddle = Callable[[int, Any], Any]


def nothing(device: int, message: Any) -> Any:
    return message


@dataclass
class PlusWorld:
    """`world` gives keys, values and weights; the sums are the same as of its own round."""

    world: World
    degree: int = 8
    threshold: int = 6

    def __post_init__(self) -> None:
        terms = self.world.terms
        self.terms = PlusTerms(
            *(terms.population, terms.task, terms.round, terms.model, terms.length, terms.width_bytes),
            *(
                terms.reports_min,
                terms.weight_max,
                self.degree,
                self.threshold,
                terms.leader,
                terms.authority,
            ),
        )
        self.leader = PlusLeader(self.terms, self.world.leader)
        self.devices = [self.device(key) for key in self.world.devices]

    def device(self, key: PartyKey, terms: PlusTerms | None = None) -> PlusDevice:
        given = ticket(self.world.authority, self.terms.population, key.public, LATER_MS)
        return PlusDevice(terms or self.terms, key, given)

    def play(
        self,
        gone: Mapping[str, set[int]] | None = None,
        meddle: Mapping[str, Meddle] | None = None,
    ) -> Ints:
        """The sum; `gone[step]` leave before that step, `meddle[name]` is the leader's hand on a message to a device."""
        gone, hand, leader = gone or {}, meddle or {}, self.leader
        left: set[int] = set()

        def here(step: str) -> list[int]:
            left.update(gone.get(step, ()))
            return [n for n in range(len(self.devices)) if n not in left]

        def shown(name: str, device: int, message: Any) -> Any:
            return hand.get(name, nothing)(device, message)

        roster = leader.roster([decoded(device.hello()) for device in self.devices], NOW_MS)
        for n in here("shares"):
            leader.take_shares(n, decoded(self.devices[n].shares(shown("roster", n, roster), NOW_MS)))
        for n in here("masked"):
            delivered = shown("delivered", n, leader.deliver(n))
            values, weight = self.world.values(n), 1 + n % self.terms.weight_max
            leader.take_masked(n, decoded(self.devices[n].masked(delivered, values, weight)))
        lists = leader.lists()
        for n in here("consent"):
            leader.take_consent(n, decoded(self.devices[n].consent(shown("lists", n, lists))))
        for n in here("reveal"):
            consents = shown("consents", n, leader.consents(n))
            leader.take_revealed(n, decoded(self.devices[n].reveal(consents)))
        return leader.open()


def decoded(message: Any) -> Any:
    """As it comes off the line."""
    assert (
        isinstance(message, Hello | Roster | Shares | Delivered | Masked | Lists | Consents | Revealed)
        or message
    )
    return type(message).decode(message.encode())
