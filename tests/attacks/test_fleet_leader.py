"""A leader that does whatever it likes, alone or with one helper, against devices and the other helper. (T16, T18, T20, P11)"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from isthmus.base.errors import IsthmusError, PeerError
from isthmus.crypto.seal import PartyKey
from isthmus.protocols import secure_sum
from isthmus.protocols.secure_sum import (
    Answer,
    Batch,
    Fault,
    Report,
    Terms,
    check_report,
    look,
    open_sum,
    seal,
    ticket,
    total,
)
from tests.attacks.weak.helpers import ModelBlindTerms, ReplicatedHelper, replicated
from tests.sums import LATER_MS, NOW_MS, Ints, World, key, resigned

CHI_SQUARE_MOST = 367.0
"""255 degrees of freedom: a uniform byte passes it once in 200,000 times."""


def chi_square(body: bytes) -> float:
    counts = np.bincount(np.frombuffer(body, dtype=np.uint8), minlength=256)
    expected = len(body) / 256
    return float(((counts - expected) ** 2 / expected).sum())


def cosine(one: Ints, other: Ints) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


def answer_of(world: World, batch: Batch) -> Any:
    return world.terms.ring.unpack(Answer.decode(world.answer(batch)).sum)


# What the leader and one helper see together


def seen_with(world: World, place: int, reports: list[Report]) -> bytes:
    """What is left of the vectors when the helper in that place opens all seeds that it can."""
    terms, left = world.terms, []
    for report in reports:
        info = secure_sum._seed_words(terms, report.id, place)
        seed = world.helpers[place].sealing.open(report.sealed[place].tobytes(), info)
        words = terms.ring.unpack(report.masked)
        terms.ring.subtract(words, secure_sum._mask_of(terms, report.id, seed))
        left.append(terms.ring.pack(words))
    return b"".join(left)


@pytest.mark.trust("T16")
@pytest.mark.parametrize("place", [0, 1])
def test_what_the_leader_and_one_helper_see_is_uniform(place: int) -> None:
    world = World(length=4096, width_bytes=2)
    zeros = np.zeros(world.length, dtype=np.int64)
    reports = [seal(world.terms, zeros, 1, d, world.ticket(d)) for d in world.devices]
    assert chi_square(b"".join(r.masked for r in reports)) < CHI_SQUARE_MOST
    assert chi_square(seen_with(world, place, reports)) < CHI_SQUARE_MOST


def test_with_one_mask_too_few_they_read_the_update() -> None:
    """The weak twin of the test above: the same eyes, and a device that leaves the other helper's mask out."""
    world = World(length=4096, width_bytes=2)
    device = world.devices[0]
    good = seal(world.terms, world.values(0), 1, device, world.ticket(device))
    words = world.terms.ring.lift(world.values(0))
    info = secure_sum._seed_words(world.terms, good.id, 0)
    seed = world.helpers[0].sealing.open(good.sealed[0].tobytes(), info)
    world.terms.ring.add(words, secure_sum._mask_of(world.terms, good.id, seed))
    weak = replace(good, masked=world.terms.ring.pack(words))
    body = seen_with(world, 0, [weak])
    assert chi_square(body) > CHI_SQUARE_MOST
    assert (world.terms.ring.lower(world.terms.ring.unpack(body)) == world.values(0)).all()


# K12: batches that differ by one device


@pytest.mark.trust("T16", "K12")
def test_k12_replicated_seeds_give_the_update_of_one_device() -> None:
    """Each of three helpers keeps the floor and uses each report once, and still: d is a difference at every pair."""
    world = World(count=41, length=64)
    ring, terms = world.terms.ring, world.terms
    reports = [replicated(terms, world.values(n)) for n in range(41)]
    d, x, y = reports[0], reports[1:21], reports[21:41]
    helpers = [ReplicatedHelper(own) for own in range(3)]
    first = [helpers[0].answer(terms, [d, *x])]
    second = [helpers[1].answer(terms, batch) for batch in (x, [d, *y])]
    third = [helpers[2].answer(terms, batch) for batch in (x, y)]
    words = d.masked.copy()
    # Of seed 2: at helpers 0 and 1. Of seed 1: at helpers 0 and 2. Of seed 0: at helpers 1 and 2.
    for with_d, without in (
        (first[0][2], second[0][2]),
        (first[0][1], third[0][1]),
        (second[1][0], third[1][0]),
    ):
        ring.subtract(words, with_d)
        ring.add(words, without)
    assert cosine(ring.lower(words), world.values(0)) > 0.99


@pytest.mark.trust("T16", "K12")
def test_k12_two_helpers_of_the_product_shown_different_batches_give_nothing() -> None:
    """The same choice of batches, and every way to add and take away what the helpers said."""
    world = World(count=41, length=64)
    terms, ring, reports = world.terms, world.terms.ring, world.reports()
    d, x, y = reports[0], reports[1:21], reports[21:41]
    sums = [
        answer_of(world, world.batch(0, [d, *x], b"1" * 16)),
        answer_of(world, world.batch(0, y, b"2" * 16)),
        answer_of(world, world.batch(1, x, b"3" * 16)),
        answer_of(world, world.batch(1, [d, *y], b"4" * 16)),
    ]
    vectors = [
        ring.unpack(d.masked),
        total(terms, (r.masked for r in x)),
        total(terms, (r.masked for r in y)),
    ]
    targets = [
        world.values(0),
        np.sum([world.values(n) for n in range(1, 21)], axis=0),
        np.sum([world.values(n) for n in range(21, 41)], axis=0),
    ]
    opened = []
    for signs in itertools.product((-1, 0, 1), repeat=len(sums) + len(vectors)):
        if not any(signs[len(sums) :]):
            continue
        words = ring.zeros(terms.length)
        for sign, part in zip(signs, (*sums, *vectors), strict=True):
            if sign:
                (ring.add if sign > 0 else ring.subtract)(words, part)
        numbers = ring.lower(words)
        weights = signs[len(sums) :]
        true = sum(w * t for w, t in zip(weights, targets, strict=True))
        if (numbers == true).all():
            opened.append(weights)
    # The one union of whole batches at both helpers is everybody, and it opens with either sign.
    assert sorted(opened) == [(-1, -1, -1), (1, 1, 1)]


@pytest.mark.trust("T16", "K12", "M27")
@pytest.mark.parametrize("place", [0, 1])
def test_k12_a_batch_that_differs_by_one_device_is_refused_a_second_use(place: int) -> None:
    world = World(count=21)
    reports = world.reports()
    kept = world.answer(world.batch(place, reports, b"1" * 16))
    fewer = world.batch(place, reports[1:], b"2" * 16)
    with pytest.raises(PeerError, match="bad_batch"):
        world.answer(fewer)
    assert set(look(world.helpers[place], fewer, world.ledgers[place], NOW_MS).rows().values()) == {
        Fault.SEEN
    }
    with pytest.raises(PeerError, match="bad_batch"):
        world.answer(world.batch(place, reports[1:], b"1" * 16))
    assert world.answer(world.batch(place, reports, b"1" * 16)) == kept


# K11: two models in one round


def two_models(cls: type[Terms]) -> tuple[World, list[Report], Ints, Callable[[], Ints]]:
    """A target is shown a model of its own; the others one that makes every update zero. What the leader then opens, if the
    helpers asked nothing."""
    world = World(length=256)
    fields = {name: getattr(world.terms, name) for name in world.terms.__dataclass_fields__}
    everyone = cls(**fields)
    target = cls(**{**fields, "model": key("a model for one").public})
    update = world.values(0)
    zeros = np.zeros(world.length, dtype=np.int64)
    reports = [seal(target, update, 1, world.devices[0], world.ticket(world.devices[0]))]
    reports += [seal(everyone, zeros, 1, d, world.ticket(d)) for d in world.devices[1:]]
    world.terms = everyone

    def without_checks() -> Ints:
        words = total(everyone, (r.masked for r in reports))
        for place in (0, 1):
            for report in reports:
                own = target if report is reports[0] else everyone
                info = secure_sum._seed_words(own, report.id, place)
                seed = world.helpers[place].sealing.open(report.sealed[place].tobytes(), info)
                everyone.ring.subtract(words, secure_sum._mask_of(everyone, report.id, seed))
        return everyone.ring.lower(words)

    return world, reports, update, without_checks


@pytest.mark.trust("T18", "K11")
def test_k11_masks_that_do_not_know_the_model_give_the_update_of_the_target() -> None:
    _, _, update, opened = two_models(ModelBlindTerms)
    assert cosine(opened(), update) > 0.99


@pytest.mark.trust("T18", "K11", "M29")
def test_k11_helpers_refuse_two_models_and_without_their_check_the_sum_is_noise() -> None:
    world, reports, update, opened = two_models(Terms)
    for place in (0, 1):
        batch = world.batch(place, reports)
        said = look(world.helpers[place], batch, world.ledgers[place], NOW_MS).rows()
        assert said == {reports[0].id: Fault.SIGNATURE}
        with pytest.raises(PeerError, match="bad_batch"):
            world.answer(batch)
    assert abs(cosine(opened(), update)) < 0.3
    body = world.terms.ring.pack(world.terms.ring.lift(opened()))
    assert chi_square(body) < CHI_SQUARE_MOST


# Fillings and forgeries: every move is refused by each helper alone, and uses nothing up


def honest(world: World) -> list[Report]:
    return world.reports()


def without_ticket(world: World) -> list[Report]:
    """The twentieth is the leader's own device, with a ticket of the leader's making."""
    own = key("the leader's device")
    forged = ticket(world.leader, world.terms.population, own.public, LATER_MS)
    return [*world.reports()[:19], seal(world.terms, world.values(0), 1, own, forged)]


def with_anothers_ticket(world: World) -> list[Report]:
    own = key("the leader's device")
    return [
        *world.reports()[:19],
        seal(world.terms, world.values(0), 1, own, world.ticket(world.devices[19])),
    ]


def of_another_population(world: World) -> list[Report]:
    given = ticket(world.authority, bytes(32), world.devices[19].public, LATER_MS)
    return [*world.reports()[:19], seal(world.terms, world.values(0), 1, world.devices[19], given)]


def with_a_ticket_that_has_expired(world: World) -> list[Report]:
    device = world.devices[19]
    given = ticket(world.authority, world.terms.population, device.public, NOW_MS)
    return [*world.reports()[:19], seal(world.terms, world.values(0), 1, device, given)]


def with_a_twin(world: World) -> list[Report]:
    return [*world.reports()[:19], world.report(18)]


def with_a_report_twice(world: World) -> list[Report]:
    reports = world.reports()[:19]
    return [*reports, reports[0]]


def nineteen(world: World) -> list[Report]:
    return world.reports()[:19]


def of_another_round(world: World) -> list[Report]:
    return [*world.reports()[:19], world.report(19, replace(world.terms, round=8))]


def under_a_lower_floor(world: World) -> list[Report]:
    """The devices were promised 25, the batch says 20."""
    return world.reports(replace(world.terms, reports_min=25))


def with_less_noise(world: World) -> list[Report]:
    """The devices were promised noise, the batch says none."""
    return world.reports(replace(world.terms, noise_std=2.0))


def for_another_helper(world: World) -> list[Report]:
    """The devices sealed to a first helper that is the leader itself; the batch names the right one."""
    first, second = world.terms.helpers
    own = replace(first, signing=key("own helper").public)
    return world.reports(replace(world.terms, helpers=(own, second)))


MOVES = (
    without_ticket, with_anothers_ticket, of_another_population, with_a_ticket_that_has_expired, with_a_twin,
    with_a_report_twice, nineteen, of_another_round, under_a_lower_floor, with_less_noise, for_another_helper,
)  # fmt: skip


@pytest.mark.trust("P11", "T16", "T20", "M28")
@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__)
@pytest.mark.parametrize("place", [0, 1])
def test_each_helper_alone_refuses(place: int, move: Callable[[World], list[Report]]) -> None:
    world = World()
    with pytest.raises(IsthmusError) as caught:
        world.answer(world.batch(place, move(world)))
    assert caught.value.code == ("cohort_too_small" if move is nineteen else "bad_batch")
    memory = world.memory[place]
    assert (memory.batches, memory.reports, memory.devices) == ({}, set(), {})
    world.answer(world.batch(place, honest(world)))


@pytest.mark.trust("P11", "T16")
@pytest.mark.parametrize("place", [0, 1])
def test_each_helper_alone_refuses_what_its_leader_did_not_sign(place: int) -> None:
    world = World()
    batch = world.batch(place, world.reports())
    stranger = PartyKey.generate()
    for forged in (
        replace(batch, signature=bytes(64)),
        replace(batch, id=b"1" * 16),
        resigned(batch, stranger),
        resigned(batch, world.helpers[1 - place].signing),
        resigned(batch, world.authority),
        resigned(batch, stranger, terms=replace(world.terms, leader=stranger.public).encode()),
    ):
        with pytest.raises(IsthmusError, match=r"bad_signature|leader_unknown"):
            world.answer(forged)
        with pytest.raises(IsthmusError, match=r"bad_signature|leader_unknown"):
            look(world.helpers[place], forged, world.ledgers[place], NOW_MS)
    assert world.memory[place].reports == set()


@pytest.mark.trust("T16")
@pytest.mark.parametrize("place", [0, 1])
def test_seeds_that_were_moved_to_another_report_or_helper_do_not_open(place: int) -> None:
    """A leader with a device of its own puts a victim's sealed seed into its own report."""
    world = World(count=21)
    reports = world.reports()
    own, victim = world.devices[0], reports[1]
    for sealed in (victim.sealed, reports[0].sealed[::-1]):
        digests = [secure_sum._sha(row.tobytes()) for row in sealed]
        head = reports[0]
        words = secure_sum._report_words(
            world.terms, head.id, head.weight, secure_sum._sha(head.masked), digests
        )
        forged = replace(head, sealed=sealed.copy(), signature=own.sign(words))
        check_report(world.terms, Report.decode(forged.encode()), NOW_MS)
        batch = world.batch(place, [Report.decode(forged.encode()), *reports[2:]])
        said = look(world.helpers[place], batch, world.ledgers[place], NOW_MS).rows()
        assert said == {forged.id: Fault.SEED}


@pytest.mark.trust("T19", "T16")
def test_the_quota_holds_when_the_leader_asks_again_and_again() -> None:
    world = World(per_device_max=3)
    for round in range(1, 7):
        terms = replace(world.terms, round=round)
        reports = world.reports(terms)
        if round <= 3:
            world.open(reports, bytes([round]) * 16, terms)
        else:
            with pytest.raises(PeerError, match="bad_batch"):
                world.open(reports, bytes([round]) * 16, terms)


@pytest.mark.trust("T16", "K12")
def test_batches_that_overlap_at_one_helper_leave_both_sums_closed() -> None:
    """A: devices 0 to 29; B: 10 to 39. The leader shows A to the first helper and B to the second."""
    world = World(count=40)
    reports = world.reports()
    first = world.answer(world.batch(0, reports[:30]))
    second = world.answer(world.batch(1, reports[10:]))
    for of in (reports[:30], reports[10:], reports):
        words = total(world.terms, (r.masked for r in of))
        with pytest.raises(PeerError, match="helper_mismatch"):
            open_sum(world.terms, words, bytes(16), [r.id for r in of], [first, second])
    for place, more in ((0, reports[20:]), (1, reports[:20])):
        with pytest.raises(PeerError, match="bad_batch"):
            world.answer(world.batch(place, more, b"2" * 16))


@pytest.mark.trust("T20")
def test_with_four_sybils_to_one_device_no_sum_has_fewer_enrolled_devices_than_the_floor() -> None:
    """100 devices, of which the vendor enrolled 20; the leader tries random batches."""
    world = World(count=20)
    rng = np.random.default_rng(20)
    good = world.reports()
    sybils = [key(f"sybil {n}") for n in range(80)]
    fakes = [
        seal(
            world.terms,
            world.values(0),
            1,
            s,
            ticket(world.leader, world.terms.population, s.public, LATER_MS),
        )
        for s in sybils
    ]
    for attempt in range(8):
        chosen = rng.choice(100, size=40, replace=False)
        reports = [(good + fakes)[n] for n in chosen]
        with pytest.raises(IsthmusError):
            world.answer(world.batch(0, reports, bytes([attempt]) * 16))
    assert world.memory[0].reports == set()
    world.answer(world.batch(0, good, b"g" * 16))
