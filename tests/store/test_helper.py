"""The record of a helper: used up is used up, whatever happens between."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.protocols.test_secure_sum import plain_sum
from tests.sums import World

from isthmus.base import files
from isthmus.base.errors import ConfigError, LocalError
from isthmus.store.helper import HelperRows, Served

SEALING = b"s" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "helper.db"


def burn(rows: HelperRows, batch: bytes, *reports: tuple[bytes, bytes], plain: bool = False) -> None:
    with rows.page() as page:
        page.burn(b"task", plain, reports, batch, b"asked", b"answer")


def test_what_was_burned_is_there_again(path: Path) -> None:
    rows = HelperRows(path, SEALING)
    burn(rows, b"b1", (b"r1", b"d1"), (b"r2", b"d2"), plain=True)
    burn(rows, b"b2", (b"r3", b"d1"))
    rows.close()
    again = HelperRows(path, SEALING)
    with again.page() as page:
        assert page.answered(b"b1") == (b"asked", b"answer")
        assert page.answered(b"b3") is None
        assert page.seen([b"r1", b"r3", b"r4"]) == {b"r1", b"r3"}
        assert page.taken_part(b"task", [b"d1", b"d2", b"d3"]) == {b"d1": 2, b"d2": 1}
        assert page.taken_part(b"other", [b"d1"]) == {}
        assert (page.plain(b"task"), page.plain(b"other")) == (1, 0)
    assert again.counts() == (2, 3)
    again.close()


def test_many_reports_are_found_at_once(path: Path) -> None:
    rows = HelperRows(path, SEALING)
    reports = [n.to_bytes(16, "big") for n in range(2001)]
    burn(rows, b"b", *((report, report) for report in reports))
    with rows.page() as page:
        assert page.seen([*reports, b"new"]) == set(reports)
        assert sum(page.taken_part(b"task", reports).values()) == 2001
    rows.close()


def test_an_error_in_the_transaction_takes_everything_back(path: Path) -> None:
    rows = HelperRows(path, SEALING)
    burn(rows, b"b1", (b"r1", b"d1"))
    with pytest.raises(sqlite3.IntegrityError):
        burn(rows, b"b2", (b"r2", b"d2"), (b"r1", b"d1"))
    with pytest.raises(RuntimeError), rows.page() as page:  # noqa: PT012
        page.burn(b"task", False, [(b"r3", b"d3")], b"b3", b"", b"")
        raise RuntimeError
    assert rows.counts() == (1, 1)
    rows.close()


@pytest.mark.trust("U2", "N4")
def test_an_answer_that_was_not_committed_is_as_if_it_had_never_been(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies just before the commit, and just after it."""

    class Died(Exception):
        pass

    world = World()
    batch = world.batch(0, world.reports())

    def die_at(point: str) -> None:
        def committed(what: str) -> None:
            if what == point:
                raise Died

        monkeypatch.setattr(files, "committed", committed)

    sealing = world.helpers[0].sealing.public
    rows = HelperRows(path, sealing)
    world.ledgers[0] = rows
    die_at("before helper")
    with pytest.raises(Died):
        world.answer(batch)
    rows.close()
    rows = world.ledgers[0] = HelperRows(path, sealing)
    assert rows.counts() == (0, 0)
    die_at("after helper")
    with pytest.raises(Died):
        world.answer(batch)
    monkeypatch.undo()
    rows.close()
    rows = world.ledgers[0] = HelperRows(path, sealing)
    assert rows.counts() == (1, 20)

    def never(std: float, size: int) -> None:
        raise AssertionError("noise is drawn once")

    kept = rows.answered(batch.id)
    assert kept is not None
    assert world.answer(batch, never) == kept[1]  # type: ignore[arg-type]
    rows.close()


def test_sums_open_with_a_record_on_disk(path: Path) -> None:
    world = World(count=25)
    for place in (0, 1):
        world.ledgers[place] = HelperRows(path.with_name(f"{place}.db"), world.helpers[place].sealing.public)
    assert world.open(world.reports()).tolist() == plain_sum(world)


@pytest.mark.trust("T16")
def test_a_record_is_of_no_use_with_another_sealing_key(path: Path) -> None:
    HelperRows(path, SEALING).close()
    with pytest.raises(ConfigError, match="helper_record"):
        HelperRows(path, b"t" * 32)


def test_a_damaged_record_is_named_and_not_begun_anew(path: Path) -> None:
    path.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(LocalError, match="database_damaged"):
        HelperRows(path, SEALING)


def test_leaders_are_allowed_changed_and_denied(path: Path) -> None:
    rows = HelperRows(path, SEALING)
    one = Served("cloud-co", b"l" * 32, b"a" * 32, 20, 0)
    two = Served("cloud-co", b"l" * 32, b"b" * 32, 50, 3)
    rows.allow("cloud-co", [one, two])
    assert rows.allowed() == [one, two]
    rows.allow("cloud-co", [two])
    assert rows.allowed() == [two]
    rows.allow("cloud-co", [])
    assert rows.allowed() == []
    rows.close()
