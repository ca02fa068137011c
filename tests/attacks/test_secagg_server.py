"""A leader that does not follow the protocol of sums without a helper: each attack reads one device's vector from a weakened
copy, and gets fewer shares than it needs from the product. (T15, P8)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from isthmus.base.errors import PeerError
from isthmus.crypto.sharing import SHARE_BYTES, combine
from isthmus.protocols.secagg_plus import (
    Agreed,
    Agreement,
    Device,
    Masked,
    Phase,
    Survivors,
    Terms,
    _common,
    _pair_mask,
    _self_mask,
)
from tests.attacks.weak.secagg import AnyTerms, Credulous, Obedient, Patient, TwoLists
from tests.cohorts import Fleet
from tests.sums import NOW_MS, Ints

TARGET = 0


class Leader:
    """Runs a round honestly until everybody has masked, keeps all it sees, and takes the target's masks off if it can."""

    def __init__(self, **fleet: Any) -> None:
        self.fleet = Fleet(**fleet)
        self.cohort = self.fleet.cohort
        self.seeds: dict[int, bytes] = {}
        """Shares of the target's seed, by point."""
        self.keys: dict[int, bytes] = {}
        """Shares of the target's mask key."""

    def run(self) -> Survivors:
        self.masked: dict[int, Masked] = {}
        for n, dealt in self.fleet.dealt().items():
            device = self.fleet.devices[n]
            self.masked[n] = device.mask(dealt, self.fleet.values(n), 1)
            self.cohort.add_masked(self.fleet.party[n].public, self.masked[n])
        self.session = self.masked[TARGET].session
        return self.cohort.survivors()

    @staticmethod
    def without(survivors: Survivors, gone: Collection[int]) -> Survivors:
        keep = [n not in gone for n in survivors.alive.tolist()]
        return replace(survivors, alive=survivors.alive[keep], signatures=survivors.signatures[keep])

    def ask(self, n: int, survivors: Survivors, agreement: Agreement) -> None:
        """What device n opens for these lists."""
        opening = self.fleet.devices[n].open(agreement)
        for owner, share in zip(opening.owners.tolist(), opening.shares, strict=True):
            if owner == TARGET:
                (self.seeds if TARGET in survivors.alive else self.keys)[n + 1] = share.tobytes()

    def agreement(self, agreed: Mapping[int, Agreed]) -> Agreement:
        rows = [np.frombuffer(agreed[n].signature, dtype=np.uint8) for n in sorted(agreed)]
        return Agreement(
            self.session, np.array(sorted(agreed), dtype=np.uint16), np.array(rows).reshape(-1, 64)
        )

    @property
    def has_both(self) -> bool:
        """Whether the shares are enough for the seed and the mask key of the target."""
        return min(len(self.seeds), len(self.keys)) >= self.fleet.terms.threshold

    def read(self) -> Ints:
        """The target's vector, from enough shares of both of its secrets."""
        terms, seat = self.fleet.terms, self.cohort._seats[TARGET]
        t, public = terms.threshold, seat.keys.device
        seed = combine(dict(list(self.seeds.items())[:t]))
        private = X25519PrivateKey.from_private_bytes(combine(dict(list(self.keys.items())[:t])))
        words = terms.ring.unpack(self.masked[TARGET].masked)
        terms.ring.subtract(words, _self_mask(terms, self.session, public, seed))
        for n, other in enumerate(self.cohort._seats):
            if n != TARGET and (n in seat.keepers or TARGET in other.keepers):
                common = _common(private, other.keys.mask_key)
                pair = _pair_mask(terms, self.session, common, public, other.keys.device)
                (terms.ring.subtract if n > TARGET else terms.ring.add)(words, pair)
        return terms.ring.lower(words)

    def reads_the_target(self) -> bool:
        return bool(self.has_both and self.read().tolist() == self.fleet.values(TARGET).tolist())


def refused(*calls: Any) -> None:
    for call in calls:
        with pytest.raises(PeerError):
            call()


# Overlap: the target is alive and dead in one request


def test_overlapping_lists_read_a_device_where_the_lists_are_not_compared() -> None:
    leader = Leader(kind=TwoLists)
    leader.run()
    for n, device in enumerate(leader.fleet.devices):
        everybody = list(range(30))
        seeds, keys = cast(TwoLists, device).open_lists(everybody, [TARGET])
        if TARGET in seeds:
            leader.seeds[n + 1], leader.keys[n + 1] = seeds[TARGET], keys[TARGET]
    assert leader.reads_the_target()


@pytest.mark.trust("T15", "P8")
def test_a_list_that_overlaps_opens_nothing() -> None:
    leader = Leader()
    survivors = leader.run()
    twice = replace(
        survivors,
        alive=np.concatenate([survivors.alive[:1], survivors.alive]),
        signatures=np.concatenate([survivors.signatures[:1], survivors.signatures]),
    )
    for n, device in enumerate(leader.fleet.devices):
        refused(lambda d=device: d.agree(twice), lambda i=n: leader.ask(i, survivors, leader.agreement({})))
        assert device.phase is Phase.BURNED
    assert not leader.seeds
    assert not leader.keys


# Two lists: half of the devices are told that the target is dead


def two_lists(kind: type[Device], terms: type[Terms], threshold: int) -> Leader:
    leader = Leader(kind=kind, terms_kind=terms, degree=24, threshold=threshold, hasty=False)
    survivors = leader.run()
    lists = {
        n: survivors if n % 2 else Leader.without(survivors, [TARGET])
        for n in range(len(leader.fleet.devices))
        if n != TARGET
    }
    agreed = {}
    for n, told in lists.items():
        agreed[n] = leader.fleet.devices[n].agree(told)
    for n, told in lists.items():
        same = {m: agreed[m] for m, other in lists.items() if other.alive.tolist() == told.alive.tolist()}
        try:
            leader.ask(n, told, leader.agreement(same))
        except PeerError:
            assert leader.fleet.devices[n].phase is Phase.BURNED
    return leader


def test_two_lists_read_a_device_where_nobody_asks_for_a_quorum() -> None:
    assert two_lists(Credulous, AnyTerms, threshold=5).reads_the_target()


@pytest.mark.trust("T15")
@pytest.mark.parametrize(("terms", "threshold"), [(Terms, 17), (AnyTerms, 5)])
def test_two_lists_open_nothing_even_with_a_low_threshold(terms: type[Terms], threshold: int) -> None:
    leader = two_lists(Device, terms, threshold)
    assert not leader.seeds
    assert not leader.keys


@pytest.mark.trust("T15")
def test_signatures_over_one_list_do_not_stand_for_another() -> None:
    leader = Leader(hasty=False)
    survivors = leader.run()
    shorter = Leader.without(survivors, [TARGET])
    told = {n: shorter if n == 5 else survivors for n in range(30)}
    agreed = {n: device.agree(told[n]) for n, device in enumerate(leader.fleet.devices) if n != TARGET}
    others = leader.agreement({n: a for n, a in agreed.items() if n != 5})
    refused(lambda: leader.ask(5, shorter, others))
    assert not leader.keys


# Revival: the target is dead in the first request and back in the second


def revival(kind: type[Device]) -> Leader:
    leader = Leader(kind=kind)
    survivors = leader.run()
    dead = Leader.without(survivors, [TARGET])
    for told in (dead, survivors):
        agreed = {}
        for n, device in enumerate(leader.fleet.devices):
            if n != TARGET:
                try:
                    agreed[n] = device.agree(told)
                except PeerError:
                    assert device.phase is Phase.BURNED
        for n in agreed:
            leader.ask(n, told, leader.agreement(agreed))
    return leader


def test_a_revival_reads_a_device_where_steps_can_be_repeated() -> None:
    assert revival(Patient).reads_the_target()


@pytest.mark.trust("T15")
def test_a_revival_opens_nothing_more() -> None:
    leader = revival(Device)
    assert len(leader.keys) >= leader.fleet.terms.threshold  # of a device that is not in the sum
    assert not leader.seeds
    assert all(device._secrets is None for device in leader.fleet.devices[1:])


@pytest.mark.trust("T15")
def test_a_list_that_changes_between_signing_and_opening_opens_nothing() -> None:
    leader = Leader(hasty=False)
    survivors = leader.run()
    agreed = {n: device.agree(survivors) for n, device in enumerate(leader.fleet.devices) if n != TARGET}
    dead = Leader.without(survivors, [TARGET])
    for n in range(1, 30):
        refused(lambda i=n: leader.fleet.devices[i].agree(dead))
        refused(lambda i=n: leader.ask(i, dead, leader.agreement(agreed)))
    assert not leader.seeds
    assert not leader.keys


# Repeat: the same question again, and the next one


@pytest.mark.trust("T15", "U10")
@pytest.mark.parametrize("kind", [Patient, Device])
def test_a_second_request_is_answered_by_the_weak_copy_alone(kind: type[Device]) -> None:
    leader = Leader(kind=kind)
    survivors = leader.run()
    agreed = {n: device.agree(survivors) for n, device in enumerate(leader.fleet.devices)}
    agreement = leader.agreement(agreed)
    for n in agreed:
        leader.ask(n, survivors, agreement)
    leader.seeds.clear()
    for n in agreed:
        if kind is Patient:
            leader.ask(n, survivors, agreement)
        else:
            refused(lambda i=n: leader.ask(i, survivors, agreement))
    assert (len(leader.seeds) > 0) == (kind is Patient)


# Skip: from the masked vectors straight to the shares


def skip(kind: type[Device]) -> Leader:
    """Each device is asked for its shares under a list of its own, without anybody's signature."""
    leader = Leader(kind=kind, terms_kind=AnyTerms, degree=24, threshold=5)
    survivors = leader.run()
    for n in range(1, 30):
        told = survivors if n % 2 else Leader.without(survivors, [TARGET])
        try:
            if kind is Credulous:
                leader.fleet.devices[n].agree(told)
            leader.ask(n, told, leader.agreement({}))
        except PeerError:
            assert leader.fleet.devices[n].phase is Phase.BURNED
    return leader


def test_a_leader_that_skips_the_signatures_reads_a_device_where_nobody_asks_for_them() -> None:
    assert skip(Credulous).reads_the_target()


@pytest.mark.trust("T15")
def test_a_leader_that_skips_the_signatures_gets_nothing() -> None:
    leader = skip(Device)
    assert not leader.seeds
    assert not leader.keys


# Few shares are enough, and the leader's own devices hold them


def own_devices(leader: Leader, corrupt: Collection[int]) -> None:
    """What the leader's devices keep of the target: nobody else is asked."""
    for n in corrupt:
        device = leader.fleet.devices[n]
        sealed = device._kept.get(TARGET)
        if sealed is not None:
            assert device._secrets is not None
            body = device._cipher(device._secrets[1], TARGET, to=False).decrypt(bytes(12), sealed, None)
            leader.keys[n + 1], leader.seeds[n + 1] = body[:SHARE_BYTES], body[SHARE_BYTES:]


CORRUPT = range(24, 30)
"""A fifth of 30 devices."""


def test_a_threshold_of_two_lets_two_devices_of_the_leader_read_all_others() -> None:
    leader = Leader(terms_kind=AnyTerms, degree=29, threshold=2)
    leader.run()
    own_devices(leader, CORRUPT[:2])
    assert leader.reads_the_target()


@pytest.mark.trust("T15", "P8")
def test_a_fifth_of_all_devices_holds_too_few_shares() -> None:
    leader = Leader()
    leader.run()
    own_devices(leader, CORRUPT)
    assert max(len(leader.seeds), len(leader.keys)) < leader.fleet.terms.threshold
    for threshold in (0, 1, 2, 16):
        with pytest.raises(PeerError, match="bad_message"):
            replace(leader.fleet.terms, threshold=threshold)


def steered(kind: type[Device]) -> Leader:
    leader = Leader(kind=kind, terms_kind=AnyTerms, count=30, degree=6, threshold=6)
    if kind is Obedient:
        for n, device in enumerate(leader.fleet.devices):
            cast(Obedient, device).told = [m for m in range(23, 30) if m != n][-6:]
    roster = leader.fleet.keyed()
    for device in leader.fleet.devices:
        sent = device.share(roster, NOW_MS)
        leader.cohort.add_shares(device._key.public, sent)
    dealt = leader.cohort.deal()
    leader.masked = {}
    for n, device in enumerate(leader.fleet.devices):
        try:
            leader.masked[n] = device.mask(dealt[device._key.public], leader.fleet.values(n), 1)
        except PeerError:
            continue
    leader.session = roster.session
    own_devices(leader, [n for n in CORRUPT if n in leader.masked])
    return leader


def test_a_graph_of_the_leaders_puts_its_own_devices_around_one() -> None:
    assert steered(Obedient).reads_the_target()


@pytest.mark.trust("T15")
def test_a_device_that_draws_its_keepers_is_out_of_reach_of_six_of_thirty() -> None:
    leader = steered(Device)  # all six keepers corrupt by chance: once in 475,020
    assert not leader.has_both
