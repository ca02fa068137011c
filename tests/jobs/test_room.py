"""Estimates of memory beside what workers were measured to take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from isthmus.jobs.engine import Facts, Share
from isthmus.jobs.room import rooms_of
from isthmus.jobs.spec import parse_job
from tests.jobs.examples import document

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "performance.md"


def measured() -> list[tuple[int, ...]]:
    """Rows, own columns, columns of the partner, bins, depth, and the peaks of both in MB, from the table of growth."""
    page = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (\d+) \| (\d) \|.*\| ([\d,]+) \+ ([\d,]+) \|", page, re.M)
    assert len(rows) == 9
    found = [tuple(int(cell.replace(",", "")) for cell in row) for row in rows]
    return [(n, 5, f, bins, depth, label, feature) for n, f, bins, depth, label, feature in found]


@pytest.mark.parametrize("case", [*measured(), (1_000_000, 50, 50, 32, 5, 1624, 1072)])
def test_an_estimate_lies_within_a_quarter_of_the_measured_peaks(case: tuple[int, ...]) -> None:
    rows, own, features, bins, depth, label, feature = case
    job = parse_job(document(model={"depth": depth}, features={"binning": {"max_bins": bins}}))
    facts = Facts(rows, (Share("data-co", features, "named"),), own_columns=own)
    rooms = {room.party: room for room in rooms_of(job, "lattice-hint", facts)}
    assert rooms["bank"].memory_bytes / 1e6 == pytest.approx(label, rel=0.25)
    assert rooms["data-co"].memory_bytes / 1e6 == pytest.approx(feature, rel=0.25)


def test_an_estimate_grows_with_what_it_counts_and_needs_a_registered_table() -> None:
    job = parse_job(document())
    assert rooms_of(job, "lattice-hint", None) == ()
    small, large = (
        rooms_of(job, "paillier", Facts(rows, (Share("data-co", 10, "named"),))) for rows in (1000, 100_000)
    )
    for one, other in zip(small, large, strict=True):
        assert one.memory_bytes < other.memory_bytes
        assert one.disk_bytes < other.disk_bytes
    lattice = rooms_of(job, "lattice-hint", Facts(1000, (Share("data-co", 10, "named"),)))
    assert lattice[1].disk_bytes > small[1].disk_bytes + 10 * 32 * 1024
