"""Who is asked: eligibility, quota, gap, over-selection, what becomes of devices, and how check-ins are spread."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.base.errors import PeerError, PolicyError
from isthmus.crypto.seal import PartyKey
from isthmus.fleet.desk import Desk, OpenRound, Pace
from isthmus.fleet.manifest import make_manifest
from isthmus.protocols.device_round import CheckIn, Conditions, Manifest, Outcome, Round
from isthmus.protocols.secure_sum import HelperKey
from tests.fleet.world import READY, task_of

HELPERS = [HelperKey(name, PartyKey.generate().public, bytes([i]) * 32) for i, name in enumerate("ab", 1)]
MANIFEST = make_manifest(
    task_of(rounds={"max_per_device": 2, "min_gap_h": 1}), PartyKey.generate().public, bytes(32), HELPERS
)
NOW = 1_000_000_000


def device(number: int) -> bytes:
    return number.to_bytes(32, "big")


def opened(
    manifest: Manifest = MANIFEST, kept: float = 1.0, share: float = 1.0, number: int = 1
) -> OpenRound:
    shown = Round(manifest.digest, number, "train", (bytes(32),), None)
    return OpenRound(manifest, shown, NOW + 10_000_000, 20, kept, 60_000, share)


def said(conditions: Conditions = READY, version: str = "8.2", outcome: Outcome | None = None) -> CheckIn:
    return CheckIn("phones", version, conditions, outcome, 0)


def desk(each: OpenRound | None = None, **kwargs: float) -> Desk:
    made = Desk(Pace(**kwargs), chance=lambda: 0.5)
    made.open(each or opened())
    return made


def asked(of: Desk, number: int, now_ms: int = NOW, **kwargs: object) -> bool:
    return of.check_in(device(number), said(**kwargs), None, now_ms).offer is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"charging": False}, {"unmetered": False}, {"idle": False}, {"free_mb": 49}, {"battery_c": 40.1}],
)
def test_a_device_in_the_wrong_condition_is_not_asked(change: dict[str, object]) -> None:
    made = desk()
    assert not asked(made, 1, conditions=replace(READY, **change))  # type: ignore[arg-type]
    assert made.drain() == {opened().key: {"checked_in": 1, "not_eligible": 1}}
    assert asked(made, 1)


def test_only_versions_that_the_task_names_are_asked() -> None:
    made = desk(opened(replace(MANIFEST, app_version=">=8.2")))
    assert not asked(made, 1, version="8.1.9")
    assert asked(made, 1, version="8.2")
    assert asked(made, 2, version="10.0")
    with pytest.raises(PeerError, match="bad_message"):
        asked(made, 3, version="8.x")


def test_no_more_are_asked_than_needed_and_the_lost_are_replaced() -> None:
    made = desk(opened(kept=0.5))
    assert sum(asked(made, number) for number in range(100)) == 40, "half of them will fall out"
    for number in range(10):
        made.took(opened().key, device(number), NOW)
    assert sum(asked(made, number) for number in range(100, 200)) == 0, "30 are at it, 10 reports are missing"
    # A device that does not come back is given up after a while; one that says what happened, at once.
    assert sum(asked(made, number, NOW + 60_000) for number in range(200, 300)) == 20
    gone = Outcome(MANIFEST.digest, 1, "interrupted")
    assert not asked(made, 200, NOW + 60_000, outcome=gone)
    assert asked(made, 300, NOW + 60_000)
    counts = made.drain()[opened().key]
    assert (counts["gone"], counts["interrupted"], counts["uploaded"]) == (30, 1, 10)


def test_the_same_device_is_offered_the_same_round_again_until_it_has_reported() -> None:
    made = desk()
    assert asked(made, 1)
    assert asked(made, 1)
    assert made.drain()[opened().key]["offered"] == 1
    made.took(opened().key, device(1), NOW)
    assert not asked(made, 1)


def test_a_device_takes_part_as_often_as_it_may_and_not_too_soon() -> None:
    made = desk()
    made.took(opened().key, device(1), NOW)
    made.open(opened(number=2))
    answer = made.check_in(device(1), said(), None, NOW + 60_000)
    assert answer.offer is None
    assert answer.retry_after_ms >= 59 * 60_000, "not before its hour is over"
    made.close(opened().key)
    assert asked(made, 1, NOW + 3_600_000)
    made.check(opened(number=2).key, device(1))
    made.took(opened(number=2).key, device(1), NOW + 3_600_000)
    made.open(opened(number=3))
    assert not asked(made, 1, NOW + 9_000_000 // 2)
    with pytest.raises(PolicyError, match="device_rounds_spent"):
        made.check(opened(number=3).key, device(1))


def test_what_was_known_before_a_restart_counts() -> None:
    made = desk()
    made.know(MANIFEST.digest, [(device(1), 2, 0), (device(2), 1, 0)])
    assert not asked(made, 1)
    assert asked(made, 2)


def test_a_share_of_devices_is_always_the_same_one() -> None:
    first = {number for number in range(400) if asked(desk(opened(share=0.25)), number)}
    again = {number for number in range(400) if asked(desk(opened(share=0.25)), number)}
    assert first == again
    assert 60 <= len(first) <= 140


def test_check_ins_are_spread_over_a_window_that_grows_with_the_fleet() -> None:
    made = Desk(Pace(least_s=10, per_s=100), chance=lambda: 0.0)
    assert made.check_in(device(1), said(), None, NOW).retry_after_ms == 5_000
    made.devices = 100_000
    assert made.check_in(device(1), said(), None, NOW).retry_after_ms == 500_000
    made.stopped = True
    answer = made.check_in(device(1), said(), None, NOW)
    assert (answer.stopped, answer.retry_after_ms) == (True, 6 * 3600_000)


def test_an_outcome_that_there_is_not_is_refused() -> None:
    with pytest.raises(PeerError, match="bad_message"):
        asked(desk(), 1, outcome=Outcome(MANIFEST.digest, 1, "abducted"))


def test_a_device_that_is_late_for_every_round_is_not_asked() -> None:
    assert not asked(desk(), 1, NOW + 10_000_000)


def test_a_device_whose_ticket_ends_before_the_helpers_have_answered_is_not_asked() -> None:
    made = desk(replace(opened(), ends_ms=NOW + 20_000_000))
    for ticket_ms, is_asked in ((NOW + 20_000_000, False), (NOW + 20_000_001, True)):
        answer = made.check_in(device(1), said(), None, NOW, ticket_ms)
        assert (answer.offer is not None) == is_asked
    assert made.drain()[opened().key]["ticket_ends"] == 1
