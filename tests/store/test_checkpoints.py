"""The record of a run: together or not at all, sealed, and closed to workers whose turn is over."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.records import KEY

from isthmus.base.errors import LocalError
from isthmus.base.record import ALIGNED, BINNED, WEIGHED
from isthmus.store.checkpoints import Checkpoints

CANARY = b"canary-9c1e"


def test_what_was_kept_is_there_after_it_was_opened_again(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "r", KEY) as record:
        record.keep(ALIGNED, rows=b"one", sizes=b"two")
        record.keep(ALIGNED, rows=b"three")
        record.raise_to("burned", 7)
        record.raise_to("burned", 5)
    with Checkpoints(tmp_path / "r", KEY) as record:
        assert (record.barrier, record.attempt, record.count("burned")) == (ALIGNED, 0, 7)
        assert record.found("rows") == [b"one", b"three"]
        assert record.found("nothing") == []


def test_a_new_attempt_drops_what_is_later_and_keeps_numbers(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "r", KEY) as record:
        for tree in range(1, 4):
            record.keep(WEIGHED + tree, tree=b"%d" % tree)
        record.raise_to("burned", 99)
        record.begin(1, WEIGHED + 2)
        assert record.found("tree") == [b"1", b"2"]
        assert (record.barrier, record.attempt, record.count("burned")) == (WEIGHED + 2, 1, 99)
        for late in (0, 1):
            with pytest.raises(LocalError, match="superseded"):
                record.begin(late, ALIGNED)
        assert record.barrier == WEIGHED + 2


@pytest.mark.trust("N6", "M31")
def test_a_worker_whose_turn_is_over_can_write_nothing(tmp_path: Path) -> None:
    """Not even when its own check passed before the later attempt began: the check is part of the write."""
    with Checkpoints(tmp_path / "r", KEY) as node:
        node.begin(1, 0)
        with Checkpoints(tmp_path / "r", KEY, attempt=1) as worker:
            worker.keep(ALIGNED, rows=b"mine")
            node.begin(2, ALIGNED)
            for write in (
                lambda: worker.keep(BINNED, shapes=b"late"),
                lambda: worker.raise_to("burned", 10),
                lambda: worker.keep_spent(BINNED, b"{}"),
            ):
                with pytest.raises(LocalError, match="superseded"):
                    write()  # type: ignore[no-untyped-call]
            assert (worker.barrier, worker.count("burned"), worker.found("shapes")) == (ALIGNED, 0, [])
        with Checkpoints(tmp_path / "r", KEY, attempt=2) as worker:
            worker.keep(BINNED, shapes=b"in turn")


@pytest.mark.trust("M31")
def test_an_attempt_cannot_begin_within_a_write_of_the_one_before(tmp_path: Path) -> None:
    """The writes of two processes are one after the other, so no write can pass its check under one and land under the next."""
    with Checkpoints(tmp_path / "r", KEY) as node:
        node.begin(1, 0)
        with Checkpoints(tmp_path / "r", KEY, attempt=1) as worker:
            node._db.execute("PRAGMA busy_timeout = 50")
            with worker._write(own=True), pytest.raises(LocalError, match="disk_error"):
                node.begin(2, 0)
            node.begin(2, 0)


class Between:
    """A connection before whose next transaction something else happens."""

    def __init__(self, db: sqlite3.Connection, happens: Callable[[], None]) -> None:
        self._db, self._happens = db, happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, statement: str, *values: Any) -> Any:
        if statement == "BEGIN IMMEDIATE":
            self._happens()
        return self._db.execute(statement, *values)


@pytest.mark.trust("M31")
def test_an_attempt_that_begins_just_before_a_write_shuts_it_out(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "r", KEY) as node:
        node.begin(1, 0)
        with Checkpoints(tmp_path / "r", KEY, attempt=1) as worker:
            worker._db = Between(worker._db, lambda: node.begin(2, 0))  # type: ignore[assignment]
            with pytest.raises(LocalError, match="superseded"):
                worker.keep(ALIGNED, rows=b"late")
        assert (node.attempt, node.barrier, node.found("rows")) == (2, 0, [])


def test_bodies_are_sealed_and_bound_to_their_place(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "r", KEY) as record:
        record.keep(ALIGNED, rows=CANARY, other=CANARY)
        record.keep(ALIGNED, rows=CANARY)
    files = [path for path in tmp_path.iterdir() if path.name.startswith("r")]
    assert not any(CANARY in path.read_bytes() for path in files)
    assert (tmp_path / "r").stat().st_mode & 0o077 == 0
    db = sqlite3.connect(tmp_path / "r")
    bodies = [body for (body,) in db.execute("SELECT body FROM part")]
    assert len(set(bodies)) == 3
    db.execute("UPDATE part SET name = 'rows' WHERE name = 'other'")
    db.commit()
    db.close()
    with Checkpoints(tmp_path / "r", KEY) as record, pytest.raises(LocalError, match="checkpoint_damaged"):
        record.found("rows")


@pytest.mark.trust("D2")
def test_a_damaged_record_or_another_key_is_named(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "r", KEY) as record:
        record.keep(ALIGNED, rows=b"x" * 5000)
    with (
        Checkpoints(tmp_path / "r", bytes(32)) as record,
        pytest.raises(LocalError, match="checkpoint_damaged"),
    ):
        record.found("rows")
    for damaged in (b"not a database at all" * 100, (tmp_path / "r").read_bytes()[:700]):
        (tmp_path / "d").write_bytes(damaged)
        with (
            pytest.raises(LocalError, match=r"checkpoint_damaged|disk_error"),
            Checkpoints(tmp_path / "d", KEY) as d,
        ):
            d.keep(ALIGNED)


@pytest.mark.trust("D1")
def test_a_full_disk_leaves_the_record_as_it_was_and_it_goes_on_afterwards(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "r", KEY) as record:
        record.keep(ALIGNED, rows=b"before")
        (pages,) = record._db.execute("PRAGMA page_count").fetchone()
        record._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LocalError, match="disk_full"):
            record.keep(BINNED, rows=bytes(100_000))
        assert (record.barrier, record.found("rows")) == (ALIGNED, [b"before"])
        record._db.execute("PRAGMA max_page_count = 100000")
        record.keep(BINNED, shapes=bytes(100_000))
        assert record.barrier == BINNED


def test_what_an_alignment_needed_is_gone_once_every_party_is_past_it(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "r", KEY) as record:
        record.keep(0, blinding=CANARY)
        record.keep(ALIGNED, rows=b"r")
        assert record.found("blinding") == [CANARY]
        record.keep(BINNED, shapes=b"s")
        assert record.found("blinding") == []
        assert record.found("rows") == [b"r"]
