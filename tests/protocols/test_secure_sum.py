"""Sums over devices with two helpers: exact, refused wherever somebody deviates, and the same bytes everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from isthmus.base.errors import IsthmusError, PeerError, PolicyError
from isthmus.protocols import secure_sum
from isthmus.protocols.secure_sum import (
    ID_BYTES,
    REPORT_HEAD_MAX_BYTES,
    TERMS_BYTES,
    Answer,
    Batch,
    Fault,
    Head,
    Looked,
    Report,
    Terms,
    answer,
    check_answer,
    check_report,
    check_ticket,
    look,
    open_sum,
    seal,
    ticket,
    total,
)
from tests.protocols.secure_sum_vectors import FILE, made, message_of
from tests.sums import LATER_MS, NOW_MS, Ints, World, key, no_noise, resigned

VECTORS: dict[str, Any] = json.loads(FILE.read_text("utf-8"))


def plain_sum(world: World, who: range | None = None) -> list[int]:
    rows = np.array([world.values(n) for n in who or range(world.count)])
    return [int(v) for v in rows.sum(axis=0)]


def faults(world: World, place: int, batch: Batch) -> dict[bytes, Fault]:
    said = look(world.helpers[place], batch, world.ledgers[place], NOW_MS)
    return Looked.decode(said.encode()).rows()


@pytest.mark.parametrize("width", range(2, 9))
def test_the_sum_is_exact_in_every_ring(width: int) -> None:
    world = World(count=23, width_bytes=width, length=33)
    assert world.open(world.reports()).tolist() == plain_sum(world)


def test_a_sum_wraps_around_the_ring_and_no_further() -> None:
    world = World(width_bytes=2, length=2)
    big = np.array([2**15 - 1, -(2**15)], dtype=np.int64)
    reports = [seal(world.terms, big, 1, d, world.ticket(d)) for d in world.devices]
    assert world.open(reports).tolist() == [-20, 0]


def test_the_noise_of_both_helpers_is_all_that_a_sum_is_off_by() -> None:
    world = World(noise_std=3.0, plain_max=0)
    reports = world.reports()

    def noise(by: int) -> Any:
        def draw(std: float, size: int) -> Ints:
            assert (std, size) == (3.0, world.length)
            return np.full(size, by, dtype=np.int64)

        return draw

    answers = [world.answer(world.batch(p, reports), noise(by)) for p, by in ((0, 1000), (1, -7))]
    words = total(world.terms, (r.masked for r in reports))
    opened = open_sum(world.terms, words, bytes(16), [r.id for r in reports], answers)
    assert opened.tolist() == [v - 993 for v in plain_sum(world)]


@pytest.mark.trust("U9", "M30")
def test_a_batch_asked_again_gets_the_answer_that_it_had_with_its_noise() -> None:
    world = World(noise_std=3.0)
    batch = world.batch(0, world.reports())
    rng = np.random.default_rng(1)

    def noise(std: float, size: int) -> Ints:
        return rng.integers(-100, 100, size)

    first = world.answer(batch, noise)
    assert world.answer(batch, noise) == first
    assert world.memory[0].devices[world.terms.task, world.devices[0].public] == 1


@pytest.mark.trust("P11", "T16", "M27")
def test_a_batch_id_is_of_no_use_for_other_content() -> None:
    world = World(count=40)
    reports = world.reports()
    world.answer(world.batch(0, reports[:20]))
    with pytest.raises(PeerError, match="bad_batch"):
        world.answer(world.batch(0, reports[20:]))


@pytest.mark.trust("P11", "T16", "M27")
def test_a_report_is_answered_for_in_one_batch_only() -> None:
    world = World(count=40)
    reports = world.reports()
    world.answer(world.batch(0, reports[:20], b"1" * 16))
    again = world.batch(0, reports[19:], b"2" * 16)
    with pytest.raises(PeerError, match="bad_batch"):
        world.answer(again)
    assert faults(world, 0, again) == {reports[19].id: Fault.SEEN}
    world.answer(world.batch(0, reports[20:], b"2" * 16))


@pytest.mark.trust("P11", "T16")
def test_nineteen_devices_are_refused_and_twenty_answered() -> None:
    world = World()
    reports = world.reports()
    with pytest.raises(PolicyError, match="cohort_too_small"):
        world.answer(world.batch(0, reports[:19]))
    assert world.memory[0].reports == set()
    assert world.open(reports).tolist() == plain_sum(world)


def test_the_higher_of_two_floors_counts() -> None:
    for terms_min, own_min in ((21, 20), (20, 21)):
        world = World(count=21, reports_min=terms_min)
        helper = world.helpers[0]
        allowance = replace(helper.allowances[0], reports_min=own_min)
        world.helpers[0] = replace(helper, allowances=(allowance,))
        reports = world.reports()
        with pytest.raises(PolicyError, match="cohort_too_small"):
            world.answer(world.batch(0, reports[:20]))
        world.answer(world.batch(0, reports))


@pytest.mark.trust("P11", "T16", "T20", "M28")
def test_devices_are_counted_and_not_reports() -> None:
    """Nineteen devices, of which one sends twice under two ids."""
    world = World()
    reports = [*world.reports()[:19], world.report(0)]
    batch = world.batch(0, reports)
    assert faults(world, 0, batch) == {reports[19].id: Fault.TWIN}
    with pytest.raises(IsthmusError, match=r"bad_batch|cohort_too_small"):
        world.answer(batch)


def test_a_device_takes_part_as_often_as_the_task_allows() -> None:
    world = World(per_device_max=2)
    for round in (1, 2):
        terms = replace(world.terms, round=round)
        world.open(world.reports(terms), bytes([round]) * 16, terms)
    terms = replace(world.terms, round=3)
    reports = world.reports(terms)
    batch = world.batch(0, reports, b"3" * 16, terms)
    assert set(faults(world, 0, batch).values()) == {Fault.QUOTA}
    with pytest.raises(PeerError, match="quota"):
        world.answer(batch)
    other = replace(terms, task=key("other task").public)
    assert faults(world, 0, world.batch(0, world.reports(other), b"4" * 16, other)) == {}


def test_a_helper_gives_as_many_sums_without_noise_as_it_was_told() -> None:
    world = World(count=40, plain_max=1)
    reports = world.reports()
    world.answer(world.batch(0, reports[:20]))
    with pytest.raises(PolicyError, match="noise_needed"):
        world.answer(world.batch(0, reports[20:], b"2" * 16))


@pytest.mark.trust("T18", "K11", "M29")
def test_a_report_made_for_another_model_is_named_and_left_out() -> None:
    world = World(count=21)
    other = replace(world.terms, model=key("other model").public)
    reports = [world.report(0, other), *world.reports()[1:]]
    for place in (0, 1):
        batch = world.batch(place, reports)
        assert faults(world, place, batch) == {reports[0].id: Fault.SIGNATURE}
        with pytest.raises(PeerError, match="bad_batch"):
            world.answer(batch)
    assert world.open(reports[1:]).tolist() == plain_sum(world, range(1, 21))


@pytest.mark.trust("M29")
def test_a_mask_for_another_model_does_not_come_off() -> None:
    """As if a helper had no check: the masks themselves are of no use for other terms."""
    world = World()
    other = replace(world.terms, model=key("other model").public)
    seed = key("seed").to_bytes()
    one = secure_sum._mask_of(world.terms, bytes(16), seed)
    assert not (one == secure_sum._mask_of(other, bytes(16), seed)).any()
    assert not (one == secure_sum._mask_of(world.terms, b"1" * 16, seed)).any()


def test_an_expired_ticket_is_named_and_a_kept_answer_outlives_it() -> None:
    world = World()
    batch = world.batch(0, world.reports())
    first = world.answer(batch)
    args = (world.helpers[0], batch, world.ledgers[0])
    assert answer(*args, LATER_MS + 1, no_noise) == first
    late = look(world.helpers[1], world.batch(1, world.reports()), world.ledgers[1], LATER_MS)
    assert set(late.rows().values()) == {Fault.TICKET}


def test_looking_uses_nothing_up_and_may_be_done_in_parts() -> None:
    world = World()
    reports = world.reports()
    for part in (reports[:5], reports[5:], reports, reports):
        assert faults(world, 0, world.batch(0, part)) == {}
    assert world.open(reports).tolist() == plain_sum(world)


def test_what_the_helpers_name_can_be_left_out_and_the_rest_still_opens() -> None:
    world = World(count=23)
    reports = world.reports()
    spoilt = reports[3].sealed.copy()
    spoilt[1, 50] ^= 1
    device = world.devices[3]
    sealed = [secure_sum._sha(row.tobytes()) for row in spoilt]
    words = secure_sum._report_words(
        world.terms, reports[3].id, reports[3].weight, secure_sum._sha(reports[3].masked), sealed
    )
    reports[3] = Report.decode(replace(reports[3], sealed=spoilt, signature=device.sign(words)).encode())
    check_report(world.terms, reports[3], NOW_MS)  # what the leader sees is in order
    assert faults(world, 0, world.batch(0, reports)) == {}
    assert faults(world, 1, world.batch(1, reports)) == {reports[3].id: Fault.SEED}
    kept = reports[:3] + reports[4:]
    expected = np.array(plain_sum(world)) - world.values(3)
    assert world.open(kept).tolist() == expected.tolist()


def test_helpers_that_answered_for_different_reports_open_nothing() -> None:
    world = World(count=22)
    reports = world.reports()
    answers = [world.answer(world.batch(place, reports[place : place + 21])) for place in (0, 1)]
    words = total(world.terms, (r.masked for r in reports[:21]))
    with pytest.raises(PeerError, match="helper_mismatch"):
        open_sum(world.terms, words, bytes(16), [r.id for r in reports[:21]], answers)


def test_values_or_weights_that_do_not_fit_are_not_sealed() -> None:
    world = World()
    device = world.devices[0]
    for values, weight in (
        (np.zeros(4, dtype=np.int64), 1),
        (np.zeros(5, dtype=np.float64), 1),
        (np.zeros(5, dtype=np.int64), 0),
        (np.zeros(5, dtype=np.int64), 5),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            seal(world.terms, values, weight, device, world.ticket(device))  # type: ignore[arg-type]


def test_two_reports_of_the_same_values_share_nothing() -> None:
    world = World(length=64)
    one, two = world.report(0), world.report(0)
    assert one.id != two.id
    assert one.masked != two.masked
    assert not (one.sealed == two.sealed).all(axis=1).any()


def test_a_ticket_names_one_device_and_one_population() -> None:
    world = World()
    device, other = world.devices[:2]
    given = ticket(world.authority, world.terms.population, device.public, LATER_MS)
    args = (world.authority.public, world.terms.population)
    check_ticket(*args, device.public, given, NOW_MS)
    for bad in (
        (*args, other.public, given, NOW_MS),
        (world.authority.public, bytes(32), device.public, given, NOW_MS),
        (world.leader.public, args[1], device.public, given, NOW_MS),
        (*args, device.public, given, LATER_MS),
    ):
        with pytest.raises(PeerError, match="bad_signature"):
            check_ticket(*bad)


def test_the_head_of_a_report_is_all_that_a_batch_needs() -> None:
    world = World()
    report = world.report(0)
    head = Head.decode(report.head)
    assert head.encode() == report.head
    assert (head.id, head.device, head.weight) == (report.id, report.device, report.weight)
    assert len(report.encode()) - len(report.masked) <= REPORT_HEAD_MAX_BYTES
    with pytest.raises(PeerError, match="bad_message"):
        Head.decode(report.head[:-1])


@pytest.mark.parametrize(
    "changed",
    [
        {"reports_min": 19},
        {"weight_max": 0},
        {"per_device_max": 0},
        {"width_bytes": 0},
        {"length": 0},
        {"length": 2**22 + 1},
        {"length": 2**22, "width_bytes": 8, "round": 2**32},
        {"noise_std": -1.0},
        {"noise_std": float("inf")},
        {"model": b""},
        {"leader": World().terms.helpers[0].signing},
        {"helpers": (World().terms.helpers[0],) * 2},
        {"helpers": (replace(World().terms.helpers[0], name=""), World().terms.helpers[1])},
        {"helpers": (replace(World().terms.helpers[0], name="n" * 65), World().terms.helpers[1])},
        {"helpers": (replace(World().terms.helpers[0], name="a\nb"), World().terms.helpers[1])},
    ],
    ids=str,
)
def test_terms_that_cannot_be_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(PeerError, match="bad_message"):
        replace(World().terms, **changed)


def test_terms_have_one_spelling() -> None:
    terms = World().terms
    body = terms.encode()
    assert len(body) == TERMS_BYTES
    assert Terms.decode(body) == terms
    for bad in (body[:-1], body + b"\0", body[:-70] + b"\0x" + body[-68:]):
        with pytest.raises(PeerError, match="bad_message"):
            Terms.decode(bad)


def test_every_term_changes_the_digest() -> None:
    terms = World().terms
    second = replace(terms.helpers[0], name="other")
    changes: list[dict[str, Any]] = [
        {"population": bytes(32)}, {"task": bytes(32)}, {"round": 8}, {"model": bytes(32)}, {"length": 6},
        {"width_bytes": 4}, {"reports_min": 21}, {"weight_max": 5}, {"per_device_max": 5}, {"noise_std": 1.0},
        {"leader": bytes(32)}, {"authority": bytes(32)}, {"helpers": (second, terms.helpers[1])},
        {"helpers": terms.helpers[::-1]},
    ]  # fmt: skip
    digests = {replace(terms, **change).digest for change in changes} | {terms.digest}
    assert len(digests) == len(changes) + 1


def test_the_vectors_are_those_on_record() -> None:
    assert json.loads(json.dumps(made())) == VECTORS


def test_the_round_of_the_vectors_adds_up() -> None:
    terms = Terms.decode(bytes.fromhex(VECTORS["terms"]))
    assert terms.digest.hex() == VECTORS["terms_digest"]
    reports = [Report.decode(bytes.fromhex(d["report"])) for d in VECTORS["devices"]]
    for report in reports:
        check_report(terms, report, VECTORS["now_ms"])
    words = total(terms, (r.masked for r in reports))
    answers = [bytes.fromhex(body) for body in VECTORS["answers"]]
    opened = open_sum(terms, words, bytes(ID_BYTES), [r.id for r in reports], answers)
    assert opened.tolist() == VECTORS["sum"] == plain_sum(World())


@pytest.mark.trust("K17", "T21")
@pytest.mark.parametrize("case", VECTORS["bad_reports"], ids=lambda case: case["what"])
def test_a_bad_report_is_refused(case: dict[str, Any]) -> None:
    terms = Terms.decode(bytes.fromhex(VECTORS["terms"]))
    with pytest.raises(PeerError) as caught:
        check_report(
            terms, Report.decode(message_of(case, VECTORS["devices"][0]["report"])), VECTORS["now_ms"]
        )
    assert caught.value.code == case["code"]


@pytest.mark.trust("P11", "T16", "T18")
@pytest.mark.parametrize("case", VECTORS["bad_batches"], ids=lambda case: case["what"])
def test_a_bad_batch_is_refused_and_uses_nothing_up(case: dict[str, Any]) -> None:
    world = World()
    message = message_of(case, VECTORS["batches"][0])
    with pytest.raises((PeerError, PolicyError)) as caught:
        answer(world.helpers[0], Batch.decode(message), world.ledgers[0], NOW_MS, no_noise)
    assert caught.value.code == case["code"]
    assert world.memory[0].reports == set()
    good = Batch.decode(bytes.fromhex(VECTORS["batches"][0]))
    assert world.answer(good).hex() == VECTORS["answers"][0]


@pytest.mark.parametrize("case", VECTORS["bad_answers"], ids=lambda case: case["what"])
def test_a_bad_answer_opens_nothing(case: dict[str, Any]) -> None:
    terms = Terms.decode(bytes.fromhex(VECTORS["terms"]))
    reports = [Report.decode(bytes.fromhex(d["report"])) for d in VECTORS["devices"]]
    words = total(terms, (r.masked for r in reports))
    answers = [message_of(case, VECTORS["answers"][0]), bytes.fromhex(VECTORS["answers"][1])]
    with pytest.raises(PeerError) as caught:
        open_sum(terms, words, bytes(ID_BYTES), [r.id for r in reports], answers)
    assert caught.value.code == case["code"]


def test_faults_that_do_not_exist_are_refused() -> None:
    ids = np.zeros((1, ID_BYTES), dtype=np.uint8)
    for said in (Looked(ids, np.array([99], np.uint8)), Looked(ids, np.array([1, 1], np.uint8))):
        with pytest.raises(PeerError, match="bad_message"):
            Looked.decode(said.encode()).rows()


def test_an_answer_from_no_place_is_refused() -> None:
    world = World()
    reports = world.reports()
    said = Answer.decode(world.answer(world.batch(0, reports)))
    with pytest.raises(PeerError, match="bad_message"):
        check_answer(world.terms, bytes(16), [r.id for r in reports], replace(said, place=2))


def test_a_batch_for_another_helper_is_refused_though_its_leader_signed_it() -> None:
    world = World()
    batch = resigned(world.batch(1, world.reports()), world.leader, place=0)
    with pytest.raises(PeerError, match="bad_batch"):
        world.answer(batch)
