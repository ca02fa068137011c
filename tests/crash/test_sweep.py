"""A seeded sample of `./run sweep`: real nodes and workers, killed, and nobody who helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.cli.demo import redone_by
from tests.crash.__main__ import experiments, sweep
from tests.crash.lab import Lab, Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEED = 7
POINTS = {"boundaries": 6, "doubles": 2, "full-disk": 3, "line": 1}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Outcome]:
    made = Lab(tmp_path_factory.mktemp("lab"))
    wanted = made.run([])
    assert wanted.finished, wanted.errors
    assert (wanted.attempts, wanted.redone) == (1, 0)
    return made, wanted


@pytest.mark.trust("G1", "G2", "G4", "G5", "D1", "N4", "N7", "M1", "M2", "M6", "M7")
@pytest.mark.parametrize("kind", POINTS)
def test_a_job_survives_and_ends_in_the_same_bits(
    lab: tuple[Lab, Outcome], kind: str, tmp_path: Path
) -> None:
    made, wanted = lab
    line = sweep(made, kind, experiments(kind, wanted, False, SEED)[: POINTS[kind]], wanted)
    assert line["points"] > 0
    assert line["finished"] == line["identical"] == line["points"], line["failures"]
    assert line["max_steps_redone"] <= 1


def test_every_kind_of_process_has_writes_that_last(lab: tuple[Lab, Outcome]) -> None:
    _, wanted = lab
    assert set(wanted.passed) == {(p, r) for p in ("bank", "data-co") for r in ("node", "worker")}
    assert min(wanted.passed.values()) > 20


def test_steps_done_again_are_counted() -> None:
    def at(*barriers: int) -> list[dict[str, object]]:
        return [{"kind": "job.barrier", "data": {"barrier": b}} for b in barriers]

    again = {"kind": "job.attempt", "data": {}}
    assert redone_by([again, *at(1, 2, 3), again, *at(3, 4)]) == (1, 2)
    assert redone_by([again, *at(1, 2, 3), again, *at(2, 3), again, *at(4)]) == (2, 3)
