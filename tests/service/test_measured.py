"""What was measured of a line stays, with its time, and the one before it too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isthmus.base.clock import SystemClock
from isthmus.base.errors import LocalError
from isthmus.jobs.engine import Pace
from isthmus.service.measured import Measurement, Measurements
from isthmus.wire.link import Probe

FIRST = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class HourByHour(SystemClock):
    """Says the next full hour every time."""

    def __init__(self) -> None:
        self._hours = -1

    def now(self) -> datetime:
        self._hours += 1
        return FIRST + timedelta(hours=self._hours)


def probe(up: float | None, down: float | None, trip: float | None = 0.01) -> Probe:
    return Probe(trip, 2**20, up, down, 1, 0.0)


def test_the_last_two_of_each_line_are_there_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "lines.json"
    measured = Measurements(file, HourByHour())
    for up in (1e6, 2e6, 3e6):
        measured.keep("data-co", probe(up, 5e6))
    measured.keep("shop", probe(None, None))
    again = Measurements(file, HourByHour())
    assert again.last("data-co") == Measurement(FIRST + timedelta(hours=2), 0.01, 3e6, 5e6)
    assert again.before("data-co") == Measurement(FIRST + timedelta(hours=1), 0.01, 2e6, 5e6)
    assert again.last("shop") == Measurement(FIRST + timedelta(hours=3), 0.01)
    assert again.before("shop") is None
    assert again.last("mill") is None
    assert file.stat().st_mode & 0o077 == 0


def test_rates_that_were_not_measured_are_assumed_and_a_probe_without_an_answer_is_not_kept(
    tmp_path: Path,
) -> None:
    measured = Measurements(tmp_path / "lines.json", HourByHour())
    measured.keep("data-co", probe(None, None, 0.5))
    measured.keep("data-co", probe(1e6, 1e6, None))
    found = measured.last("data-co")
    assert found is not None
    assert (found.rated, found.pace) == (False, Pace(round_trip_s=0.5))
    measured.keep("data-co", probe(1e6, 2e6, 0.5))
    found = measured.last("data-co")
    assert found is not None
    assert (found.rated, found.pace) == (True, Pace(1e6, 2e6, 0.5, measured=True))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"data-co": 7}',
        '{"data-co": [{}]}',
        '{"data-co": [{"at": "today", "round_trip_s": 1, "up_bytes_per_s": 1, "down_bytes_per_s": 1}]}',
        *(
            f'{{"data-co": [{{"at": "2026-01-02T03:04:05+00:00", "round_trip_s": {trip}, "up_bytes_per_s": {up}, '
            f'"down_bytes_per_s": 1}}]}}'
            for trip, up in (("null", 1), (1, 0), (1, -1), (1, "NaN"), (1, "Infinity"), (1, '"fast"'))
        ),
    ],
)
def test_a_file_that_no_node_wrote_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "lines.json"
    file.write_text(text)
    with pytest.raises(LocalError) as caught:
        Measurements(file, SystemClock())
    assert caught.value.code == "database_damaged"


@pytest.mark.parametrize("trip_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_round_trip_without_sense_is_not_kept_and_keeps_no_node_from_starting(
    tmp_path: Path, trip_s: float
) -> None:
    Measurements(tmp_path / "lines.json", SystemClock()).keep(
        "bank", Probe(trip_s, None, None, None, None, None)
    )
    assert Measurements(tmp_path / "lines.json", SystemClock()).last("bank") is None
