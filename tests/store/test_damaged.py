"""Databases that a disk, a copy or a person damaged: named at the start, and never gone on with. (D3)"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from isthmus.base.errors import LocalError
from isthmus.store.records import StoredPartner
from isthmus.store.sql import SqlStore

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PAGE = 4096


def filled(path: Path) -> Path:
    store = SqlStore(path)
    for number in range(300):
        store.put_partner(StoredPartner(f"p-{number}", b"k" * 32, None, b"c" * 900, ("a",) * 4, False, NOW))
    store.close()
    return path


def refusal(path: Path) -> LocalError:
    with pytest.raises(LocalError) as caught:
        SqlStore(path)
    return caught.value


def test_a_damaged_page_is_named_at_the_start(tmp_path: Path) -> None:
    whole = filled(tmp_path / "node.db").read_bytes()
    assert len(whole) > 20 * PAGE
    for page in range(len(whole) // PAGE):
        path = tmp_path / f"page-{page}.db"
        path.write_bytes(whole[: page * PAGE] + b"\xa5" * PAGE + whole[(page + 1) * PAGE :])
        assert refusal(path).code == "database_damaged", page


@pytest.mark.parametrize("kept", [0, 1, 100, 511, 512, 4096, 6000, -4096])
def test_a_file_that_was_cut_is_named_at_the_start(tmp_path: Path, kept: int) -> None:
    whole = filled(tmp_path / "node.db").read_bytes()
    path = tmp_path / "cut.db"
    path.write_bytes(whole[:kept])
    assert refusal(path).code == "database_damaged"
    assert str(path) in str(refusal(path))


def test_a_log_that_was_deleted_beside_a_closed_database_loses_nothing(tmp_path: Path) -> None:
    path = filled(tmp_path / "node.db")
    for part in ("-wal", "-shm"):
        path.with_name(path.name + part).unlink(missing_ok=True)
    store = SqlStore(path)
    assert len(store.partners()) == 300
    store.close()


@pytest.mark.parametrize("content", [b"", b"no log at all" * 1000, bytes(32) + b"\xff" * 4096])
def test_a_log_of_another_form_changes_nothing_that_was_written_before(
    tmp_path: Path, content: bytes
) -> None:
    path = filled(tmp_path / "node.db")
    path.with_name("node.db-wal").write_bytes(content)
    store = SqlStore(path)
    assert len(store.partners()) == 300
    store.close()


def test_a_database_of_a_later_version_or_of_something_else_is_not_touched(tmp_path: Path) -> None:
    later = filled(tmp_path / "later.db")
    with closing(sqlite3.connect(later)) as database:
        database.execute("PRAGMA user_version = 999")
    before = later.read_bytes()
    assert refusal(later).code == "database_newer"
    assert later.read_bytes() == before
