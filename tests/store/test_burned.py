"""Numbers of one-time secrets that are burned: on disk before they may be used, and never lower again. (U2, U4)"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from isthmus.base.errors import LocalError
from isthmus.crypto.onetime import Recorded
from isthmus.store.checkpoints import Checkpoints

KEY = b"k" * 32


def test_every_burned_number_is_synced_and_there_again(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "run", KEY, 0) as record:
        record.begin(1, 0)
        assert record._db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert record._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        Recorded(record).burn(4711)
        # Another connection sees it at once: nothing waits for the end of the process.
        with sqlite3.connect(tmp_path / "run") as other:
            assert other.execute("SELECT value FROM number WHERE name = 'burned'").fetchone() == (4711,)
    with Checkpoints(tmp_path / "run", KEY, 1) as again:
        assert Recorded(again).next == 4711
        Recorded(again).burn(8)
        assert Recorded(again).next == 4711


def test_a_barrier_that_is_gone_back_to_brings_no_number_back(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "run", KEY, 0) as record:
        record.begin(1, 0)
        Recorded(record).burn(64)
        record.keep(1, part=b"aligned")
        Recorded(record).burn(128)
        record.begin(2, 0)
        assert Recorded(record).next == 128


def test_nothing_is_burned_by_a_worker_whose_time_is_over(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "run", KEY, 0) as old, Checkpoints(tmp_path / "run", KEY, 0) as new:
        old.begin(1, 0)
        new.begin(2, 0)
        with pytest.raises(LocalError) as caught:
            Recorded(old).burn(64)
        assert caught.value.code == "superseded"
        assert Recorded(new).next == 0


@pytest.mark.parametrize("content", [b"not a record at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_record_that_is_damaged_is_said_and_not_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").write_bytes(content)
    with pytest.raises(LocalError) as caught, Checkpoints(tmp_path / "run", KEY, 1):
        pass
    assert caught.value.code == "checkpoint_damaged"
    assert (tmp_path / "run").read_bytes()[:100] == content[:100]


def test_what_is_put_by_under_another_key_or_changed_is_damaged(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "run", KEY, 0) as record:
        record.begin(1, 0)
        record.keep(1, part=b"what was put by")
        assert record.found("part") == [b"what was put by"]
    assert b"what was put by" not in (tmp_path / "run").read_bytes()
    with Checkpoints(tmp_path / "run", b"o" * 32, 1) as other, pytest.raises(LocalError) as caught:
        other.found("part")
    assert caught.value.code == "checkpoint_damaged"
