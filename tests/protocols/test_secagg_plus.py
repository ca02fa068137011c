"""Sums without helpers: the same sum as with them, whoever falls out, and a leader that deviates gets no share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from isthmus.base.errors import IsthmusError, LocalError, PeerError
from isthmus.crypto.seal import PartyKey
from isthmus.protocols import secagg_plus
from isthmus.protocols.secagg_plus import Consents, Delivered, Hello, Lists, PlusLeader, PlusTerms, Roster
from tests.plus import PlusWorld, decoded
from tests.sums import LATER_MS, NOW_MS, World, key


def plain(world: World, who: set[int]) -> list[int]:
    return [int(v) for v in np.sum([world.values(n) for n in sorted(who)], axis=0)]


def test_the_sum_is_that_of_two_helpers_bit_for_bit() -> None:
    world = World(count=24, length=17)
    with_helpers = world.open(world.reports())
    assert PlusWorld(world).play().tolist() == with_helpers.tolist() == plain(world, set(range(24)))


@pytest.mark.trust("G7")
@pytest.mark.parametrize("step", ["shares", "masked", "consent", "reveal"])
def test_devices_that_vanish_before_any_step_cost_their_own_value_and_no_more(step: str) -> None:
    gone = {3, 11, 19, 27}
    world = World(count=30, length=9, width_bytes=4)
    opened = PlusWorld(world, degree=20, threshold=14).play({step: gone})
    counted = set(range(30)) - (gone if step in ("shares", "masked") else set())
    assert opened.tolist() == plain(world, counted)


def test_devices_vanish_at_every_step_together() -> None:
    world = World(count=32, length=5)
    gone = {"shares": {0, 9}, "masked": {1, 10, 20}, "consent": {2}, "reveal": {3}}
    opened = PlusWorld(world, degree=30, threshold=21).play(gone)
    assert opened.tolist() == plain(world, set(range(32)) - {0, 9, 1, 10, 20})


def test_a_cohort_smaller_than_the_degree_is_a_full_graph() -> None:
    world = World(count=20, length=5)
    assert PlusWorld(world, degree=26, threshold=18).play().tolist() == plain(world, set(range(20)))


def test_the_graph_is_regular_mutual_and_of_the_whole_cohort() -> None:
    plus = PlusWorld(World(count=50), degree=8)
    roster = plus.leader.roster([device.hello() for device in plus.devices], NOW_MS)
    group = plus.leader._group
    for device in range(50):
        near = group.neighbours(device)
        assert len(near) == len(set(near)) == 8
        assert device not in near
        assert all(device in group.neighbours(other) for other in near)
    other = PlusWorld(World(count=50), degree=8)
    other.leader.roster([device.hello() for device in other.devices], NOW_MS)
    assert any(group.neighbours(n) != other.leader._group.neighbours(n) for n in range(50))
    assert roster.rows() == plus.leader.hellos


def test_a_share_that_lies_is_found_and_done_without() -> None:
    world = World(count=24, length=5)
    plus = PlusWorld(world, degree=12, threshold=9)
    take, spoilt = plus.leader.take_revealed, 5

    def taken(sender: int, said: Any) -> None:
        if sender == spoilt:
            said = replace(said, of_alive=said.of_alive ^ np.uint8(1), of_dead=said.of_dead ^ np.uint8(1))
        take(sender, said)

    plus.leader.take_revealed = taken  # type: ignore[method-assign]
    assert plus.play({"masked": {2}}).tolist() == plain(world, set(range(24)) - {2})


def test_too_few_shares_leave_the_sum_closed() -> None:
    plus = PlusWorld(World(count=24), degree=8, threshold=6)
    with pytest.raises(PeerError, match="sum_check_failed"):
        plus.play({"reveal": set(range(0, 24, 2))})


# P8 and T15: a leader that deviates


def rostered(
    change: Callable[[PlusWorld, list[Hello]], list[Hello]], signed: PartyKey | None = None
) -> PlusWorld:
    """A leader that shows device 0 another roster; its own checks are its own business."""
    plus = PlusWorld(World(count=24))
    hellos = change(plus, [device.hello() for device in plus.devices])
    rows = np.frombuffer(b"".join(h.row() for h in hellos), np.uint8).reshape(-1, secagg_plus._HELLO.size)
    digest = hashlib.sha256(rows.tobytes()).digest()
    words = secagg_plus._ROSTER_LABEL + plus.terms.digest + digest
    plus.roster = Roster(rows, (signed or plus.world.leader).sign(words))  # type: ignore[attr-defined]
    return plus


def hello_of(plus: PlusWorld, owner: PartyKey, **changed: Any) -> Hello:
    """A hello that its owner signs, whatever keys are in it."""
    made = replace(plus.device(owner).hello(), **changed)
    words = secagg_plus._hello_words(plus.terms, made.sealing, made.masking)
    return replace(made, signature=owner.sign(words))


def low_order(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return [*hellos[:-1], hello_of(plus, plus.world.devices[-1], masking=bytes(32))]


def low_order_for_shares(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return [*hellos[:-1], hello_of(plus, plus.world.devices[-1], sealing=(1).to_bytes(32, "little"))]


def twin_keys(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return [*hellos[:-1], hello_of(plus, plus.world.devices[-1], sealing=hellos[1].sealing)]


def own_key_as_a_twin(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return [*hellos[:-1], hello_of(plus, plus.world.devices[-1], masking=hellos[0].masking)]


def a_device_twice(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return [*hellos[:-1], hello_of(plus, plus.world.devices[1])]


def own_missing(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return hellos[1:]


def own_with_other_keys(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return [hello_of(plus, plus.world.devices[0]), *hellos[1:]]


def one(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return hellos[:1]


def two(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return hellos[:2]


def nineteen(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return hellos[:19]


def not_signed(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return [*hellos[:-1], replace(hellos[-1], signature=bytes(64))]


def not_enrolled(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return [*hellos[:-1], hello_of(plus, plus.world.devices[-1], ticket=hellos[0].ticket)]


def enrolled_long_ago(plus: PlusWorld, hellos: list[Hello]) -> list[Hello]:
    return [*hellos[:-1], replace(hellos[-1], expires_ms=NOW_MS)]


@pytest.mark.trust("P8", "T15")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (low_order, "bad_key"), (low_order_for_shares, "bad_key"), (twin_keys, "bad_key"),
        (own_key_as_a_twin, "bad_key"), (a_device_twice, "bad_key"), (own_missing, "bad_message"),
        (own_with_other_keys, "bad_message"), (one, "cohort_too_small"), (two, "cohort_too_small"),
        (nineteen, "cohort_too_small"), (not_signed, "bad_signature"), (not_enrolled, "bad_signature"),
        (enrolled_long_ago, "bad_signature"),
    ],
)  # fmt: skip
def test_a_roster_that_does_not_fit_ends_the_session(change: Any, code: str) -> None:
    plus = rostered(change)
    device = plus.devices[0]
    with pytest.raises(IsthmusError) as caught:
        device.shares(plus.roster, NOW_MS)  # type: ignore[attr-defined]
    assert caught.value.code == code
    burned(device)


@pytest.mark.trust("P8", "T15")
def test_a_roster_that_the_leader_did_not_sign_ends_the_session() -> None:
    plus = rostered(lambda plus, hellos: hellos, PartyKey.generate())
    with pytest.raises(PeerError, match="bad_signature"):
        plus.devices[0].shares(plus.roster, NOW_MS)  # type: ignore[attr-defined]
    burned(plus.devices[0])


@pytest.mark.trust("P8", "T15")
def test_devices_under_other_terms_are_in_no_roster_together() -> None:
    """A leader that tells one device another threshold: its hello does not hold for the others, nor theirs for it."""
    plus = PlusWorld(World(count=24), degree=8, threshold=6)
    plus.devices[0] = plus.device(plus.world.devices[0], replace(plus.terms, threshold=8))
    with pytest.raises(PeerError, match="bad_signature"):
        plus.leader.roster([device.hello() for device in plus.devices], NOW_MS)


@pytest.mark.trust("P8", "T15")
@pytest.mark.parametrize(
    ("degree", "threshold"), [(8, 0), (8, 1), (8, 5), (8, 9), (9, 7), (2, 2), (1002, 700), (12, 8)]
)
def test_a_threshold_that_is_too_low_or_too_high_makes_no_terms(degree: int, threshold: int) -> None:
    with pytest.raises(PeerError, match="bad_message"):
        PlusWorld(World(), degree, threshold)


def burned(device: secagg_plus.PlusDevice) -> None:
    """Nothing is left in the session and nothing more comes out of it."""
    assert (device._sealing, device._masking, device._self_seed, device._held) == (None, None, b"", {})
    empty = np.zeros(0, np.uint32)
    calls: list[Callable[[], Any]] = [
        device.hello,
        lambda: device.shares(Roster(np.zeros((0, 232), np.uint8), bytes(64)), NOW_MS),
        lambda: device.masked(Delivered(empty, np.zeros((0, 82), np.uint8)), np.zeros(5, np.int64), 1),
        lambda: device.consent(Lists(empty, empty)),
        lambda: device.reveal(Consents(empty, np.zeros((0, 64), np.uint8))),
    ]
    for call in calls:
        with pytest.raises(LocalError, match="secret_spent"):
            call()


class Deviation(Exception):
    """Stops the play once the device under attack has spoken."""


def attacked(name: str, change: Callable[[PlusWorld, Any], Any], gone: set[int] | None = None) -> str:
    """The code with which device 0 ends when the leader changes one message to it; it is burned then."""
    plus = PlusWorld(World(count=24), degree=12, threshold=9)
    device = plus.devices[0]

    def hand(n: int, message: Any) -> Any:
        return change(plus, message) if n == 0 else message

    with pytest.raises(IsthmusError) as caught:
        plus.play({"masked": gone or set()}, {name: hand})
    burned(device)
    assert plus.leader._revealed == {}
    return caught.value.code


def near(plus: PlusWorld) -> list[int]:
    return plus.leader._group.neighbours(0)


@pytest.mark.trust("P8", "T15")
def test_lists_that_overlap_leave_one_out_or_hold_strangers_get_no_consent() -> None:
    def both(plus: PlusWorld, lists: Lists) -> Lists:
        return replace(lists, dead=np.array([near(plus)[0]], np.uint32))

    def neither(plus: PlusWorld, lists: Lists) -> Lists:
        return replace(lists, alive=lists.alive[lists.alive != near(plus)[0]])

    def without_itself(plus: PlusWorld, lists: Lists) -> Lists:
        return Lists(lists.alive[1:], lists.alive[:1])

    def beyond(plus: PlusWorld, lists: Lists) -> Lists:
        return replace(lists, alive=np.append(lists.alive, np.uint32(24)))

    def twice(plus: PlusWorld, lists: Lists) -> Lists:
        return replace(lists, alive=np.append(lists.alive, np.uint32(23)))

    def few(plus: PlusWorld, lists: Lists) -> Lists:
        return Lists(lists.alive[:19], lists.alive[19:])

    for change in (both, neither, without_itself, beyond, twice):
        assert attacked("lists", change) == "bad_message", change
    assert attacked("lists", few) == "cohort_too_small"


@pytest.mark.trust("P8", "T15")
def test_shares_from_strangers_or_from_too_few_get_no_vector() -> None:
    def strange(plus: PlusWorld, delivered: Delivered) -> Delivered:
        stranger = next(n for n in range(1, 24) if n not in near(plus))
        senders = sorted([*delivered.senders.tolist()[:-1], stranger])
        return replace(delivered, senders=np.array(senders, np.uint32))

    def few(plus: PlusWorld, delivered: Delivered) -> Delivered:
        return Delivered(delivered.senders[:8], delivered.sealed[:8])

    def unequal(plus: PlusWorld, delivered: Delivered) -> Delivered:
        return replace(delivered, sealed=delivered.sealed[:-1])

    assert attacked("delivered", strange) == "bad_message"
    assert attacked("delivered", unequal) == "bad_message"
    assert attacked("delivered", few) == "cohort_too_small"


@pytest.mark.trust("T15")
def test_no_share_leaves_without_enough_consents_over_the_same_lists() -> None:
    def few(plus: PlusWorld, consents: Consents) -> Consents:
        return Consents(consents.senders[:8], consents.signatures[:8])

    def forged(plus: PlusWorld, consents: Consents) -> Consents:
        signatures = consents.signatures.copy()
        signatures[0] ^= 1
        return replace(consents, signatures=signatures)

    def repeated(plus: PlusWorld, consents: Consents) -> Consents:
        return Consents(np.repeat(consents.senders[:1], 9), np.repeat(consents.signatures[:1], 9, axis=0))

    def swapped(plus: PlusWorld, consents: Consents) -> Consents:
        return replace(consents, signatures=consents.signatures[::-1])

    assert attacked("consents", few) == "cohort_too_small"
    assert attacked("consents", forged) == "bad_signature"
    assert attacked("consents", repeated) == "bad_message"
    assert attacked("consents", swapped) == "bad_signature"


@pytest.mark.trust("T15")
def test_two_lists_for_two_halves_get_no_share_from_anybody() -> None:
    """A leader that wants b and s of device 1: half of the devices hear that it is alive, the others that it is dead."""
    plus = PlusWorld(World(count=24), degree=24, threshold=17)
    leader, devices = plus.leader, plus.devices
    roster = leader.roster([device.hello() for device in devices], NOW_MS)
    for n, device in enumerate(devices):
        leader.take_shares(n, device.shares(roster, NOW_MS))
    for n, device in enumerate(devices):
        leader.take_masked(n, device.masked(leader.deliver(n), plus.world.values(n), 1))
    one = leader.lists()
    other = Lists(one.alive[one.alive != 1], np.array([1], np.uint32))
    # Device 1 itself signs the first list alone.
    signed = {n: devices[n].consent(one if n % 2 else other).signature for n in range(24)}
    for n, device in enumerate(devices):
        for peers in (
            [p for p in range(24) if p != n and p % 2 == n % 2],
            [p for p in range(24) if p not in (n, 1)],
        ):
            if device._next == "over":
                continue
            rows = np.frombuffer(b"".join(signed[p] for p in peers), np.uint8).reshape(-1, 64)
            with pytest.raises(IsthmusError) as caught:
                device.reveal(Consents(np.array(peers, np.uint32), rows))
            assert caught.value.code == "cohort_too_small"
        burned(device)


@pytest.mark.trust("T15", "U1")
def test_a_session_answers_once_and_in_order() -> None:
    plus = PlusWorld(World(count=24))
    plus.play()
    for device in plus.devices:
        burned(device)
    early = PlusWorld(World(count=24)).devices[0]
    with pytest.raises(LocalError, match="secret_spent"):
        early.consent(Lists(np.zeros(0, np.uint32), np.zeros(0, np.uint32)))
    burned(early)


@pytest.mark.trust("T15")
def test_a_peer_that_is_dead_loses_its_pair_key_and_one_that_is_alive_its_own_seed_only() -> None:
    """What leaves about each device is shares of one kind."""
    plus = PlusWorld(World(count=24), degree=12, threshold=9)
    plus.play({"masked": {5}})
    said = plus.leader._revealed.values()
    assert {int(n) for each in said for n in each.dead} == {5}
    assert 5 not in {int(n) for each in said for n in each.alive}
    assert all(not set(each.alive.tolist()) & set(each.dead.tolist()) for each in said)


def test_vectors_and_hellos_of_others_are_refused_by_the_leader() -> None:
    plus = PlusWorld(World(count=24))
    roster = plus.leader.roster([device.hello() for device in plus.devices], NOW_MS)
    for n in (0, 1):
        plus.leader.take_shares(n, plus.devices[n].shares(roster, NOW_MS))
    plus2 = PlusWorld(World(count=24))
    roster2 = plus2.leader.roster([device.hello() for device in plus2.devices], NOW_MS)
    for n in range(24):
        plus2.leader.take_shares(n, plus2.devices[n].shares(roster2, NOW_MS))
    sent = plus2.devices[0].masked(plus2.leader.deliver(0), plus2.world.values(0), 1)
    for leader, sender, message in (
        (plus2.leader, 1, sent),
        (plus.leader, 0, sent),
        (plus2.leader, 0, replace(sent, weight=2)),
        (plus2.leader, 0, replace(sent, weight=0)),
        (plus2.leader, 0, replace(sent, masked=sent.masked[:-3])),
        (plus.leader, 9, sent),
    ):
        with pytest.raises(PeerError):
            leader.take_masked(sender, decoded(message))
    with pytest.raises(PeerError, match="bad_message"):
        plus2.leader.take_shares(3, plus2.leader._shares[3])


@pytest.mark.trust("T15")
def test_what_the_leader_sees_of_a_device_is_uniform() -> None:
    world = World(count=20, length=4096, width_bytes=2)
    world.values = lambda n: np.zeros(4096, np.int64)  # type: ignore[method-assign]
    plus = PlusWorld(world)
    plus.play()
    body = np.frombuffer(b"".join(m.masked for m in plus.leader._masked.values()), np.uint8)
    counts = np.bincount(body, minlength=256)
    expected = len(body) / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 367


def test_every_term_changes_the_digest() -> None:
    terms = PlusWorld(World()).terms
    changes: list[dict[str, Any]] = [
        {"population": bytes(32)}, {"task": bytes(32)}, {"round": 8}, {"model": bytes(32)}, {"length": 6},
        {"width_bytes": 4}, {"reports_min": 21}, {"weight_max": 5}, {"degree": 10, "threshold": 7},
        {"threshold": 7}, {"leader": bytes(32)}, {"authority": bytes(32)},
    ]  # fmt: skip
    digests = {replace(terms, **change).digest for change in changes} | {terms.digest}
    assert len(digests) == len(changes) + 1
    assert isinstance(terms, PlusTerms)


def test_a_session_shows_nothing_of_its_secrets() -> None:
    plus = PlusWorld(World())
    assert repr(plus.devices[0]) == "PlusDevice(hello)"
    assert "masked" not in repr(PlusLeader(plus.terms, key("leader")))
    with pytest.raises(PeerError, match="bad_key"):
        secagg_plus.exchange(X25519PrivateKey.generate(), bytes(32))
    assert LATER_MS > NOW_MS
