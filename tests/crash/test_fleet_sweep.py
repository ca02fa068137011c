"""Device rounds under kills: a seeded sample. `./run sweep --kind rounds --full` is the whole of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.fleet_lab import DEADLINE_S, NEXT_ROUND_S, FleetBlow, FleetLab

pytestmark = [pytest.mark.slow, pytest.mark.trust("G7", "N4")]


@pytest.mark.parametrize(
    "blows",
    [
        [FleetBlow("leader", 120), FleetBlow("album-app", 3)],
        [FleetBlow("leader", 160), FleetBlow("audit-house", 2, how="full")],
    ],
    ids=["killed", "killed while a disk is full"],
)
def test_rounds_end_and_their_sums_are_exact(tmp_path: Path, blows: list[FleetBlow]) -> None:
    outcome = FleetLab(tmp_path).run(blows)
    assert outcome.finished, outcome
    assert outcome.exact, outcome.errors
    assert outcome.struck == len(blows)
    assert outcome.gap_s < NEXT_ROUND_S
    assert outcome.over_s < DEADLINE_S
