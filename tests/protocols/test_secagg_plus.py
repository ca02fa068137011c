"""Sums without a helper: exact whoever drops out, refused wherever somebody deviates, and the same bytes everywhere."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from isthmus.base.errors import ConfigError, IsthmusError, PeerError, PolicyError
from isthmus.crypto.masks import mask
from isthmus.crypto.sharing import combine
from isthmus.crypto.words import Ring
from isthmus.protocols import secagg_plus
from isthmus.protocols.secagg_plus import (
    CORRUPT_SHARE,
    TERMS_BYTES,
    Agreement,
    Cohort,
    Dealt,
    Device,
    Keys,
    Masked,
    Opening,
    Phase,
    Roster,
    Stage,
    Survivors,
    Terms,
    check_keys,
    keepers_for,
)
from isthmus.wire.message import Message
from tests.cohorts import Fleet
from tests.protocols.secagg_plus_vectors import FILE, made
from tests.sums import LATER_MS, NOW_MS, World, key, secret

VECTORS: dict[str, Any] = json.loads(FILE.read_text("utf-8"))


def numbers(found: list[int]) -> Any:
    return np.array(found, dtype=np.uint16)


# The sum


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
def test_the_sum_is_exact_in_every_ring(width: int) -> None:
    fleet = Fleet(count=20, width_bytes=width, length=33)
    found = fleet.opened()
    ring = fleet.terms.ring
    assert found.tolist() == ring.lower(ring.lift(np.array(fleet.sum_of(range(20))))).tolist()
    assert fleet.cohort.weight == sum(fleet.weight(n) for n in range(20))


@pytest.mark.trust("G7")
@pytest.mark.parametrize(
    ("count", "unshared", "unmasked", "unsigned", "unopened"),
    [
        (60, [0, 13], [], [], []),
        (30, [], [1, 2, 29], [], []),
        (30, [], [], [4, 5], []),
        (30, [], [], [], [28, 3]),
        (40, [0], [1, 39], [2], [3, 38]),
    ],
)
def test_a_sum_is_over_the_survivors_wherever_others_drop_out(
    count: int, unshared: list[int], unmasked: list[int], unsigned: list[int], unopened: list[int]
) -> None:
    fleet = Fleet(count=count, hasty=False)
    found = fleet.opened(unshared, unmasked, unsigned, unopened)
    left = [n for n in range(count) if n not in {*unshared, *unmasked}]
    assert found.tolist() == fleet.sum_of(left)
    assert fleet.cohort.weight == sum(fleet.weight(n) for n in left)


def test_the_sum_is_bit_for_bit_that_of_two_helpers() -> None:
    world = World(count=24, length=50, width_bytes=4)
    with_helpers = world.open(world.reports())
    fleet = Fleet(count=24, length=50, width_bytes=4, hasty=False)
    fleet.values = world.values  # type: ignore[method-assign]
    alone = fleet.opened(unsigned=[3])
    assert alone.dtype == with_helpers.dtype
    assert alone.tobytes() == with_helpers.tobytes()


def run_to(fleet: Fleet, step: str, gone: Collection[int]) -> None:
    match step:
        case "shared":
            fleet.dealt(gone)
        case "masked":
            fleet.masked(gone)
        case _:
            fleet.agreed(gone)


@pytest.mark.trust("G7")
@pytest.mark.parametrize("step", ["shared", "masked", "agreed"])
def test_a_round_that_loses_a_third_of_its_devices_ends_cleanly(step: str) -> None:
    with pytest.raises(PolicyError, match="cohort_too_small"):
        run_to(Fleet(), step, range(10))


def test_a_round_without_enough_keepers_at_the_end_ends_cleanly() -> None:
    fleet = Fleet(drop_share=0.1)
    with pytest.raises(PolicyError, match="cohort_too_small"):
        fleet.opened(unopened=range(18))


def test_one_keeper_that_lies_spoils_nothing() -> None:
    fleet = Fleet()
    survivors, agreement = fleet.agreed()
    for n, device in enumerate(fleet.devices):
        opening = device.open(agreement)
        if n == 4:
            opening = replace(opening, shares=opening.shares ^ np.uint8(1))
        fleet.cohort.add_opening(fleet.party[n].public, opening)
    assert fleet.cohort.open().tolist() == fleet.sum_of(survivors.alive.tolist())


def test_more_liars_than_can_be_left_out_are_noticed() -> None:
    fleet = Fleet()
    _, agreement = fleet.agreed()
    for n, device in enumerate(fleet.devices):
        opening = device.open(agreement)
        if n % 2:
            opening = replace(opening, shares=opening.shares ^ np.uint8(1))
        fleet.cohort.add_opening(fleet.party[n].public, opening)
    with pytest.raises(PeerError, match="answer_inconsistent"):
        fleet.cohort.open()


def test_a_share_that_somebody_spoiled_is_left_out() -> None:
    fleet = Fleet()
    for n, dealt in fleet.dealt().items():
        if n == 2:
            dealt = replace(dealt, sealed=dealt.sealed ^ np.uint8(1))
        fleet.cohort.add_masked(
            fleet.party[n].public, fleet.devices[n].mask(dealt, fleet.values(n), fleet.weight(n))
        )
    survivors = fleet.cohort.survivors()
    for n, device in enumerate(fleet.devices):
        fleet.cohort.add_agreed(fleet.party[n].public, device.agree(survivors))
    agreement = fleet.cohort.agreement()
    openings = [device.open(agreement) for device in fleet.devices]
    assert len(openings[2].owners) == 0
    for n, opening in enumerate(openings):
        fleet.cohort.add_opening(fleet.party[n].public, opening)
    assert fleet.cohort.open().tolist() == fleet.sum_of(range(30))


@pytest.mark.trust("T15")
def test_what_a_device_sends_is_uniform_whatever_it_holds() -> None:
    fleet = Fleet(count=20, length=4096, width_bytes=2)
    dealt = fleet.dealt()
    words = [
        fleet.terms.ring.unpack(fleet.devices[n].mask(dealt[n], np.zeros(4096, dtype=np.int64), 1).masked)
        for n in range(20)
    ]
    counts = np.bincount(np.concatenate(words) >> 8, minlength=256)
    expected = 20 * 4096 / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * np.sqrt(2 * 255)


@pytest.mark.trust("U1")
def test_another_round_over_the_same_devices_shares_no_key_seal_or_mask() -> None:
    first, second = Fleet(), Fleet()
    one, other = first.dealt(), second.dealt()
    assert not {m.mask_key for m in first.devices[0]._members} & {
        m.mask_key for m in second.devices[0]._members
    }
    assert not {row.tobytes() for d in one.values() for row in d.sealed} & {
        row.tobytes() for d in other.values() for row in d.sealed
    }
    values = first.values(0)
    assert (
        first.devices[0].mask(one[0], values, 1).masked != second.devices[0].mask(other[0], values, 1).masked
    )


def test_every_device_draws_its_own_keepers() -> None:
    fleet = Fleet(count=60)
    fleet.dealt()
    drawn = [tuple(seat.keepers) for seat in fleet.cohort._seats]
    assert len(set(drawn)) == 60
    for n, keepers in enumerate(drawn):
        assert len(set(keepers)) == fleet.terms.degree
        assert n not in keepers


# Terms


@pytest.mark.trust("P8", "T15")
@pytest.mark.parametrize(
    "changed",
    [
        {"threshold": 0},
        {"threshold": 1},
        {"threshold": 16},  # two thirds of 24 and no more
        {"threshold": 25},
        {"threshold": 31},
        {"degree": 30, "threshold": 21},
        {"degree": 31, "threshold": 22},
        {"degree": 3, "threshold": 3},
        {"degree": 0, "threshold": 0},
        {"devices": 19, "degree": 18, "threshold": 13},
        {"devices": 5000},
        {"reports_min": 19},
        {"reports_min": 2},
        {"reports_min": 31},
        {"weight_max": 0},
        {"length": 0},
        {"width_bytes": 0},
        {"width_bytes": 9},
        {"leader": b""},
    ],
)
def test_terms_that_are_not_safe_do_not_exist(changed: dict[str, Any]) -> None:
    terms = Fleet().terms
    assert (terms.degree, terms.threshold) == (24, 17)
    with pytest.raises(PeerError, match="bad_message"):
        replace(terms, **changed)


def test_terms_have_one_spelling() -> None:
    terms = Fleet().terms
    assert len(terms.encode()) == TERMS_BYTES
    assert Terms.decode(terms.encode()) == terms
    for body in (b"", terms.encode()[:-1], terms.encode() + b"\0"):
        with pytest.raises(PeerError, match="bad_message"):
            Terms.decode(body)


def test_keepers_are_chosen_for_a_fifth_of_all_devices() -> None:
    assert CORRUPT_SHARE == 0.2
    assert keepers_for(100, 0.1) == (33, 23)
    with pytest.raises(ConfigError, match="out_of_bounds"):
        keepers_for(100, 0.4)


# What a device refuses: its secrets are gone then, and no share has left


def refuses(device: Device, step: str, *arguments: Any, code: str = "bad_cohort") -> None:
    with pytest.raises(PeerError, match=code):
        getattr(device, step)(*arguments)
    burned(device)


def burned(device: Device) -> None:
    assert device.phase is Phase.BURNED
    assert device._secrets is None
    assert device._kept == {}


def rerostered(fleet: Fleet, roster: Roster, members: list[Keys]) -> Roster:
    rows = np.frombuffer(b"".join(map(secagg_plus._row, members)), dtype=np.uint8)
    return Roster(roster.terms, rows.reshape(-1, roster.rows.shape[1]))


def resigned(fleet: Fleet, n: int, keys: Keys, **changed: Any) -> Keys:
    """The keys of device n with other content, signed again by it."""
    keys = replace(keys, **changed)
    words = secagg_plus._keys_words(keys.terms, keys.mask_key, keys.share_key)
    return replace(keys, signature=fleet.party[n].sign(words))


@pytest.mark.trust("P8", "T15")
@pytest.mark.parametrize("size", [0, 1, 2, 29])
def test_a_roster_of_another_size_is_refused(size: int) -> None:
    fleet = Fleet()
    roster = fleet.keyed()
    refuses(fleet.devices[0], "share", rerostered(fleet, roster, roster.members()[:size]), NOW_MS)


@pytest.mark.trust("P8")
def test_a_roster_without_the_own_keys_is_refused() -> None:
    fleet = Fleet()
    roster = fleet.keyed()
    members = roster.members()
    other = X25519PrivateKey.generate().public_key().public_bytes_raw()
    members[3] = resigned(fleet, 3, members[3], mask_key=other)
    refuses(fleet.devices[3], "share", rerostered(fleet, roster, members), NOW_MS)


@pytest.mark.trust("P8")
@pytest.mark.parametrize("twin", ["device", "mask_key", "share_key", "both", "order"])
def test_twins_on_the_roster_are_refused(twin: str) -> None:
    fleet = Fleet()
    roster = fleet.keyed()
    members = roster.members()
    if twin == "device":
        members[6] = members[5]
    elif twin == "order":
        members[5], members[6] = members[6], members[5]
    elif twin == "both":
        members[6] = resigned(fleet, 6, members[6], mask_key=members[6].share_key)
    else:
        members[6] = resigned(fleet, 6, members[6], **{twin: getattr(members[5], twin)})
    refuses(fleet.devices[0], "share", rerostered(fleet, roster, members), NOW_MS)


@pytest.mark.trust("P8")
@pytest.mark.parametrize("low", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
@pytest.mark.parametrize("which", ["mask_key", "share_key"])
def test_a_key_of_low_order_is_refused(low: bytes, which: str) -> None:
    fleet = Fleet(count=20, degree=19, threshold=13)
    roster = fleet.keyed()
    members = roster.members()
    with pytest.raises(PeerError, match="bad_key"):
        Cohort(fleet.terms).add_keys(resigned(fleet, 6, members[6], **{which: low}), NOW_MS)
    members[6] = resigned(fleet, 6, members[6], **{which: low})
    roster = rerostered(fleet, roster, members)
    if which == "share_key":
        refuses(fleet.devices[0], "share", roster, NOW_MS, code="bad_key")
        return
    fleet.devices[0].share(roster, NOW_MS)
    dealt = Dealt(
        *(roster.session, numbers(list(range(20))), numbers([]), np.zeros((0, 82), dtype=np.uint8)),
    )
    refuses(fleet.devices[0], "mask", dealt, fleet.values(0), 1, code="bad_key")


@pytest.mark.trust("T15", "T20")
@pytest.mark.parametrize("wrong", ["signature", "ticket", "expired", "terms"])
def test_a_member_that_is_not_enrolled_or_did_not_sign_is_refused(wrong: str) -> None:
    fleet = Fleet()
    roster = fleet.keyed()
    members = roster.members()
    now, keys = NOW_MS, members[8]
    if wrong == "signature":
        keys = replace(keys, signature=bytes(64))
    elif wrong == "ticket":
        keys = replace(keys, ticket=members[9].ticket)
    elif wrong == "expired":
        now = LATER_MS
    else:
        other = replace(fleet.terms, round=8).digest
        keys = resigned(fleet, 8, keys, terms=other)
    with pytest.raises(PeerError):
        check_keys(fleet.terms, keys, now)
    with pytest.raises(PeerError):
        Cohort(fleet.terms).add_keys(keys, now)
    members[8] = keys
    refuses(fleet.devices[0], "share", rerostered(fleet, roster, members), now, code="bad_signature")


def test_a_roster_for_other_terms_is_refused() -> None:
    fleet = Fleet()
    roster = fleet.keyed()
    refuses(fleet.devices[0], "share", replace(roster, terms=secret("other")), NOW_MS)


def shorter(dealt: Dealt, size: int) -> Dealt:
    return replace(dealt, sharers=dealt.sharers[:size], senders=numbers([]), sealed=dealt.sealed[:0])


@pytest.mark.trust("P8", "T15")
@pytest.mark.parametrize(
    "wrong",
    ["session", "one", "two", "quorum", "without us", "twice", "stranger", "own share", "more", "sender"],
)
def test_a_dealt_list_that_no_honest_leader_makes_is_refused(wrong: str) -> None:
    fleet = Fleet()
    dealt = fleet.dealt()[0]
    everybody = dealt.sharers.tolist()
    bad = {
        "session": replace(dealt, session=secret("other")),
        "one": shorter(dealt, 1),
        "two": shorter(dealt, 2),
        "quorum": shorter(dealt, 20),
        "without us": replace(dealt, sharers=numbers(everybody[1:])),
        "twice": replace(dealt, sharers=numbers([0, 0, *everybody[2:]])),
        "stranger": replace(dealt, sharers=numbers([*everybody[:-1], 30])),
        "own share": replace(dealt, senders=numbers([0, *dealt.senders.tolist()[1:]])),
        "more": replace(dealt, senders=dealt.senders[:-1]),
        "sender": replace(
            dealt,
            sharers=numbers([n for n in everybody if n != dealt.senders[0]]),
        ),
    }[wrong]
    refuses(fleet.devices[0], "mask", bad, fleet.values(0), 1)


@pytest.mark.trust("T15")
def test_a_list_of_sharers_without_enough_of_the_own_keepers_is_refused() -> None:
    fleet = Fleet(count=60, drop_share=0.1)
    dealt = fleet.dealt()[0]
    keepers = fleet.devices[0]._keepers
    gone = set(keepers[: len(keepers) - fleet.terms.threshold + 1])
    left = [n for n in range(60) if n not in gone]
    assert len(left) >= fleet.terms.quorum
    kept = [(s, row) for s, row in zip(dealt.senders.tolist(), dealt.sealed, strict=True) if s not in gone]
    short = replace(
        dealt,
        sharers=numbers(left),
        senders=numbers([s for s, _ in kept]),
        sealed=np.array([row for _, row in kept], dtype=np.uint8).reshape(-1, 82),
    )
    refuses(fleet.devices[0], "mask", short, fleet.values(0), 1)


def test_what_a_device_got_wrong_itself_burns_nothing() -> None:
    fleet = Fleet(count=20)
    dealt = fleet.dealt()
    device = fleet.devices[0]
    for values, weight in (
        (fleet.values(0)[:-1], 1),
        (fleet.values(0).astype(np.float64), 1),
        (fleet.values(0), 0),
        (fleet.values(0), 5),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            device.mask(dealt[0], values, weight)  # type: ignore[arg-type]
    assert device.phase is Phase.SHARED
    device.mask(dealt[0], fleet.values(0), 1)


def cut(survivors: Survivors, keep: list[int]) -> Survivors:
    alive = survivors.alive.tolist()
    rows = [survivors.signatures[alive.index(n)] for n in keep]
    return replace(survivors, alive=numbers(keep), signatures=np.array(rows, dtype=np.uint8).reshape(-1, 64))


@pytest.mark.trust("P8", "T15")
@pytest.mark.parametrize("keep", [[0], [0, 1], list(range(20)), list(range(1, 30))])
def test_a_list_of_survivors_that_is_short_or_without_us_is_refused(keep: list[int]) -> None:
    fleet = Fleet()
    refuses(fleet.devices[0], "agree", cut(fleet.masked(), keep))


@pytest.mark.trust("P8", "T15")
def test_a_device_that_is_alive_and_dead_at_once_is_refused() -> None:
    # Who is not alive is dead, so an overlap can only be said by naming somebody twice.
    fleet = Fleet()
    survivors = fleet.masked()
    refuses(fleet.devices[0], "agree", cut(survivors, [*range(10), 9, *range(10, 29)]))


@pytest.mark.trust("T15")
def test_a_survivor_that_has_not_shared_is_refused() -> None:
    fleet = Fleet(count=60)
    survivors = fleet.masked(unshared=[7])
    alive = sorted([*survivors.alive.tolist(), 7])
    rows = [*survivors.signatures, survivors.signatures[0]]
    back = replace(survivors, alive=numbers(alive), signatures=np.array(rows, dtype=np.uint8))
    refuses(fleet.devices[0], "agree", back)


@pytest.mark.trust("T15")
def test_survivors_that_masked_for_other_sharers_are_refused() -> None:
    fleet = Fleet(count=60)
    dealt = fleet.dealt()
    leader = fleet.cohort
    for n, device in enumerate(fleet.devices):
        given = dealt[n]
        if n == 5:  # is told that device 9 has not shared
            keep = [s != 9 for s in given.senders]
            given = replace(
                given,
                sharers=given.sharers[given.sharers != 9],
                senders=given.senders[keep],
                sealed=given.sealed[keep],
            )
        masked = device.mask(given, fleet.values(n), 1)
        if n == 5:
            with pytest.raises(PeerError, match="bad_signature"):
                leader.add_masked(fleet.party[n].public, masked)
            leader._seats[n].signature = masked.signature
            leader._note(Stage.MASKED, n, masked)
        else:
            leader.add_masked(fleet.party[n].public, masked)
    refuses(fleet.devices[0], "agree", leader.survivors(), code="bad_signature")


@pytest.mark.trust("T15")
@pytest.mark.parametrize("wrong", ["session", "few", "stranger", "twice", "forged", "count"])
def test_an_agreement_that_is_not_one_is_refused(wrong: str) -> None:
    fleet = Fleet()
    _, agreement = fleet.agreed(unmasked=[29])
    signers, rows = agreement.signers, agreement.signatures
    bad = {
        "session": replace(agreement, session=secret("other")),
        "few": replace(agreement, signers=signers[:20], signatures=rows[:20]),
        "stranger": replace(agreement, signers=numbers([*signers.tolist()[:-1], 29])),
        "twice": replace(agreement, signers=numbers([0, 0, *signers.tolist()[2:]])),
        "forged": replace(agreement, signatures=rows ^ np.uint8(1)),
        "count": replace(agreement, signatures=rows[:-1]),
    }[wrong]
    code = "bad_signature" if wrong == "forged" else "bad_cohort"
    refuses(fleet.devices[0], "open", bad, code=code)


@pytest.mark.trust("T15")
def test_an_agreement_without_enough_of_the_own_keepers_is_refused() -> None:
    fleet = Fleet(count=60, drop_share=0.1)
    _, agreement = fleet.agreed()
    keepers = fleet.devices[0]._keepers
    gone = set(keepers[: len(keepers) - fleet.terms.threshold + 1])
    keep = [n not in gone for n in agreement.signers.tolist()]
    assert sum(keep) >= fleet.terms.quorum
    fewer = replace(agreement, signers=agreement.signers[keep], signatures=agreement.signatures[keep])
    refuses(fleet.devices[0], "open", fewer)


@pytest.mark.trust("T15", "U10")
@pytest.mark.parametrize("done", range(5))
def test_a_step_that_is_repeated_or_left_out_burns_the_secrets(done: int) -> None:
    fleet = Fleet(count=20)
    if done == 1:
        fleet.keyed()
    elif done == 2:
        fleet.dealt()
    elif done == 3:
        fleet.masked()
    elif done == 4:
        fleet.agreed()
    nobody, none = numbers([]), np.zeros((0, 64), dtype=np.uint8)
    asked: dict[int, tuple[Any, ...]] = {
        0: ("keys",),
        1: ("share", Roster(fleet.terms.digest, np.zeros((0, 232), dtype=np.uint8)), NOW_MS),
        2: ("mask", Dealt(bytes(32), nobody, nobody, np.zeros((0, 82), dtype=np.uint8)), fleet.values(0), 1),
        3: ("agree", Survivors(bytes(32), nobody, none)),
        4: ("open", Agreement(bytes(32), nobody, none)),
    }
    for step, call in asked.items():
        device = fleet.devices[step]
        assert device.phase == done
        if step != done:
            refuses(device, *call)
            refuses(device, *call)


@pytest.mark.trust("U10")
def test_the_second_opening_is_refused_and_the_secrets_are_gone_after_the_first() -> None:
    fleet = Fleet(count=20)
    _, agreement = fleet.agreed()
    device = fleet.devices[0]
    device.open(agreement)
    burned(device)
    refuses(device, "open", agreement)


@pytest.mark.trust("U10")
def test_a_device_is_neither_copied_nor_serialised_nor_shown() -> None:
    fleet = Fleet(count=20)
    fleet.keyed()
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither"):
            attempt(fleet.devices[0])
    assert repr(fleet.devices[0]) == "Device(KEYED)"
    assert repr(fleet.cohort) == "Cohort(SHARES)"


# The leader


def test_the_same_bytes_again_change_nothing_and_others_are_refused() -> None:
    fleet = Fleet(count=20)
    cohort, publics = fleet.cohort, [k.public for k in fleet.party]
    keys = [d.keys() for d in fleet.devices]
    for k in keys:
        cohort.add_keys(k, NOW_MS)
        cohort.add_keys(k, NOW_MS)
    with pytest.raises(PeerError, match="bad_cohort"):
        cohort.add_keys(Device(fleet.terms, fleet.party[0], fleet.ticket(fleet.party[0])).keys(), NOW_MS)
    roster = cohort.roster()
    shares = [d.share(roster, NOW_MS) for d in fleet.devices]
    for public, sent in zip(publics, shares, strict=True):
        cohort.add_shares(public, sent)
        cohort.add_shares(public, sent)
    with pytest.raises(PeerError, match="bad_cohort"):
        cohort.add_shares(publics[0], replace(shares[0], check=bytes(32)))
    dealt = cohort.deal()
    cohort.add_shares(publics[0], shares[0])
    masked = [d.mask(dealt[publics[n]], fleet.values(n), 1) for n, d in enumerate(fleet.devices)]
    for public, vector in zip(publics, masked, strict=True):
        cohort.add_masked(public, vector)
        cohort.add_masked(public, vector)
    assert cohort.weight == 20
    with pytest.raises(PeerError, match="bad_cohort"):
        cohort.add_masked(publics[0], replace(masked[0], weight=2))


def test_a_vector_that_cannot_be_is_left_out_and_the_round_goes_on() -> None:
    fleet = Fleet()
    dealt = fleet.dealt()
    leader = fleet.cohort
    masked = [d.mask(dealt[n], fleet.values(n), 1) for n, d in enumerate(fleet.devices)]
    public = fleet.party[0].public
    for changed in (
        {"masked": masked[0].masked[:-1]},
        {"masked": b""},
        {"weight": 0},
        {"weight": 5},
        {"session": bytes(32)},
        {"signature": bytes(64)},
    ):
        with pytest.raises(PeerError):
            leader.add_masked(public, replace(masked[0], **changed))
    with pytest.raises(PeerError, match="bad_cohort"):
        leader.add_masked(key("nobody").public, masked[0])
    for n in range(1, 30):
        leader.add_masked(fleet.party[n].public, masked[n])
    assert 0 not in leader.survivors().alive


@pytest.mark.parametrize("wrong", ["itself", "twice", "fewer", "more"])
def test_a_device_with_other_keepers_than_agreed_is_left_out(wrong: str) -> None:
    fleet = Fleet()
    shares = [d.share(roster, NOW_MS) for roster in [fleet.keyed()] for d in fleet.devices]
    good = shares[0].keepers.tolist()
    spare = next(n for n in range(1, 30) if n not in good)
    keepers = {
        "itself": [0, *good[1:]],
        "twice": [good[1], *good[1:]],
        "fewer": good[:-1],
        "more": sorted([*good, spare]),
    }[wrong]
    rows = np.resize(shares[0].sealed, (len(keepers), 82))
    with pytest.raises(PeerError, match="bad_cohort"):
        fleet.cohort.add_shares(
            fleet.party[0].public, replace(shares[0], keepers=numbers(keepers), sealed=rows)
        )


def test_shares_of_devices_that_did_not_draw_the_sender_are_refused() -> None:
    fleet = Fleet(count=60)
    _, agreement = fleet.agreed()
    opening = fleet.devices[0].open(agreement)
    stranger = next(n for n in range(60) if n not in opening.owners.tolist())
    owners = sorted([*opening.owners.tolist()[1:], stranger])
    with pytest.raises(PeerError, match="bad_cohort"):
        fleet.cohort.add_opening(fleet.party[0].public, replace(opening, owners=numbers(owners)))


def test_a_stage_is_closed_once_and_in_order() -> None:
    fleet = Fleet(count=20)
    with pytest.raises(PolicyError, match="cohort_too_small"):
        fleet.cohort.roster()
    for early in (fleet.cohort.deal, fleet.cohort.survivors, fleet.cohort.agreement, fleet.cohort.open):
        with pytest.raises((PeerError, AttributeError)):
            early()
    fleet.keyed()
    with pytest.raises(PeerError, match="bad_cohort"):
        fleet.cohort.roster()


# Bytes


def test_every_message_comes_back_as_it_was_and_damage_is_noticed() -> None:
    fleet = Fleet(count=20)
    keys = [d.keys() for d in fleet.devices]
    for one in keys:
        fleet.cohort.add_keys(one, NOW_MS)
    roster = fleet.cohort.roster()
    shares = [d.share(roster, NOW_MS) for d in fleet.devices]
    for k, sent in zip(fleet.party, shares, strict=True):
        fleet.cohort.add_shares(k.public, sent)
    dealt = fleet.cohort.deal()[fleet.party[0].public]
    masked = fleet.devices[0].mask(dealt, fleet.values(0), 1)
    messages: list[Message] = [keys[0], roster, shares[0], dealt, masked]
    for message in messages:
        body = message.encode()
        assert type(message).decode(body).encode() == body
        for damaged in (body[:-1], body + b"\0", b"", b"\0\0" + body[2:]):
            with pytest.raises(PeerError, match="bad_message"):
                type(message).decode(damaged)


def test_hostile_bytes_raise_nothing_but_peer_errors() -> None:
    fleet = Fleet(count=20)
    dealt = fleet.dealt()
    rng = np.random.default_rng(5)
    bodies = [dealt[1].encode(), fleet.devices[0].mask(dealt[0], fleet.values(0), 1).encode()]
    steps: list[tuple[Any, Any]] = [
        (Dealt, lambda m: fleet.devices[1].mask(m, fleet.values(1), 1)),
        (Masked, None),
    ]
    for body, (cls, step) in zip(bodies, steps, strict=True):
        for _ in range(300):
            hurt = bytearray(body)
            for at in rng.integers(0, len(hurt), 3):
                hurt[at] = int(rng.integers(0, 256))
            try:
                message = cls.decode(bytes(hurt))
                if step is not None:
                    step(message)
                else:
                    fleet.cohort.add_masked(fleet.party[0].public, message)
            except PeerError:
                continue
            except IsthmusError as error:
                raise AssertionError(error) from error


def test_the_vectors_are_what_this_program_makes() -> None:
    assert made() == VECTORS


def test_the_vectors_alone_are_enough_to_follow_a_device() -> None:
    """From the file and the primitives: nothing of the protocol's own code takes part."""
    found = VECTORS["device"]
    ring = Ring(VECTORS["terms"]["width_bytes"])
    session, own = bytes.fromhex(found["session"]), bytes.fromhex(found["device"])
    words = ring.lift(np.array(found["values"]))
    seed = bytes.fromhex(found["seed"])
    ring.add(words, mask(ring, len(words), seed, b"isthmus/secagg-plus/self-mask/v1\0" + session + own))
    for pair in found["pairs"]:
        other, common = bytes.fromhex(pair["device"]), bytes.fromhex(pair["common"])
        info = b"isthmus/secagg-plus/pair-mask/v1\0" + session + min(own, other) + max(own, other)
        (ring.add if own < other else ring.subtract)(words, mask(ring, len(words), common, info))
    masked = Masked.decode(bytes.fromhex(found["masked"]))
    assert masked.masked == ring.pack(words)

    dealt = Dealt.decode(bytes.fromhex(found["dealt"]))
    opening = Opening.decode(bytes.fromhex(found["opening"]))
    alive = Survivors.decode(bytes.fromhex(found["survivors"])).alive.tolist()
    for n, sealed, share in zip(dealt.senders.tolist(), dealt.sealed, opening.shares, strict=True):
        sender = bytes.fromhex(VECTORS["devices"][n]["device"])
        common = bytes.fromhex(found["share_commons"][str(n)])
        info = b"isthmus/secagg-plus/share/v1\0" + session + sender + own
        wrapping = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(common)
        body = ChaCha20Poly1305(wrapping).decrypt(bytes(12), sealed.tobytes(), None)
        assert share.tobytes() == (body[33:] if n in alive else body[:33])
    assert 7 not in alive


def test_the_vectors_of_shares_give_their_secret() -> None:
    for case in VECTORS["sharing"]:
        shares = {point: bytes.fromhex(share) for point, share in case["shares"]}
        for points in itertools.combinations(shares, case["threshold"]):
            assert combine({point: shares[point] for point in points}).hex() == case["secret"]
    for case in VECTORS["bad_shares"]:
        with pytest.raises(PeerError, match="bad_message"):
            combine({point: bytes.fromhex(share) for point, share in case["shares"]})
