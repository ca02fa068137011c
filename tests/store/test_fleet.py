"""The rows of a leader: what is written is there after a restart, all of it or nothing; and the spool beside them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.base.errors import ConfigError, LocalError
from isthmus.store.fleet import (
    FINISHED,
    RUNNING,
    STOPPED,
    Device,
    FleetRows,
    Population,
    ReleaseRow,
    ReportRow,
    RoundRow,
    Spool,
    Task,
)

PHONES = Population("phones", b"a" * 32, 8.0, 1e-6, False, 1)
TASK = Task(b"t" * 32, "taste", "phones", "{}", "{}", b"s" * 64, RUNNING, "", b"m" * 32, b"", 1.0, 2)
ROUND = RoundRow(b"t" * 32, 1, "train", "{}", "{}", "collecting", 3, None, "{}")


def report(number: int, device: bytes | None = None) -> ReportRow:
    id = number.to_bytes(16, "big")
    return ReportRow(
        id, TASK.digest, 1, device or id * 2, 1, b"head", b"d" * 32, 10 * number, 10, 4, "taken", None
    )


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[FleetRows]:
    found = FleetRows(tmp_path)
    found.add_population(PHONES)
    found.add_task(TASK, {b"m" * 32: b"model"}, "spent 0")
    found.add_round(ROUND, "spent 1")
    yield found
    found.close()


def test_what_was_written_is_there_for_another_process(rows: FleetRows, tmp_path: Path) -> None:
    other = FleetRows(tmp_path)
    before = other.version()
    assert other.populations() == [PHONES]
    assert (other.task("taste"), other.task_of(TASK.digest), other.tasks("phones")) == (TASK, TASK, [TASK])
    assert (other.rounds(TASK.digest), other.spent("phones")) == ([ROUND], ["spent 1"])
    assert other.blob(b"m" * 32) == b"model"
    rows.stop_population("phones", True)
    assert other.version() != before
    assert other.population("phones") == replace(PHONES, stopped=True)
    other.close()


def test_a_name_is_taken_once_and_nothing_of_the_second_stays(rows: FleetRows) -> None:
    with pytest.raises(ConfigError, match="already_there"):
        rows.add_population(PHONES)
    with pytest.raises(ConfigError, match="already_there"):
        rows.add_task(replace(TASK, digest=b"u" * 32), {b"n" * 32: b"other"}, "spent 0")
    assert rows.blob(b"n" * 32) is None
    assert rows.spent("phones") == ["spent 1"]


def test_a_task_that_has_ended_stays_as_it_is(rows: FleetRows) -> None:
    rows.end_task(TASK.digest, STOPPED, "asked")
    rows.end_task(TASK.digest, FINISHED, "")
    task = rows.task("taste")
    assert task is not None
    assert (task.state, task.reason) == (STOPPED, "asked")


def test_a_revoked_device_does_not_come_back(rows: FleetRows) -> None:
    device = Device("phones", b"k" * 32, b"ticket", 9, "8.2", False)
    assert rows.enrol(device, 5)
    assert rows.enrol(replace(device, app_version="8.3"), 6)
    assert rows.devices("phones") == [replace(device, app_version="8.3")]
    assert rows.count_devices("phones") == 1
    assert rows.revoke("phones", device.key)
    assert not rows.enrol(device, 7)
    assert rows.count_devices("phones") == 0
    assert not rows.revoke("phones", b"x" * 32)


@pytest.mark.trust("U2")
def test_reports_are_taken_all_or_none(rows: FleetRows) -> None:
    rows.take([report(1), report(2)], '{"taken": 2}', "collecting")
    with pytest.raises(Exception, match="UNIQUE"):
        rows.take([report(3), report(4, device=report(2).device)], '{"taken": 4}', "looking")
    assert [each.id for each in rows.reports(TASK.digest, 1)] == [report(1).id, report(2).id]
    found = rows.round(TASK.digest, 1)
    assert found is not None
    assert (found.state, found.phase) == ('{"taken": 2}', "collecting")
    assert rows.taken_part(TASK.digest) == [(report(1).device, 1, 4), (report(2).device, 1, 4)]


def test_batches_hold_the_reports_that_are_good(rows: FleetRows) -> None:
    rows.take([report(number) for number in range(1, 6)], "{}", "looking")
    rows.leave_out(TASK.digest, 1, [report(2).id], "{}", "forming")
    assert len(rows.reports(TASK.digest, 1)) == 4
    rows.form(TASK.digest, 1, "{}", "answering", None, {b"b" * 16: (report(1).id, report(3).id)})
    assert [each.id for each in rows.reports(TASK.digest, 1, b"b" * 16)] == [report(1).id, report(3).id]
    rows.answered(TASK.digest, 1, "{}", "answering", b"b" * 16, 1, b"second")
    with pytest.raises(KeyError):
        rows.answers(b"b" * 16)
    rows.answered(TASK.digest, 1, "{}", "answering", b"b" * 16, 0, b"first")
    assert rows.answers(b"b" * 16) == (b"first", b"second")
    release = ReleaseRow("phones", 1, TASK.digest, b"n" * 32, "{}", 0, 8, "live", "{}")
    rows.finish_round(
        replace(ROUND, phase="opened", figures='{"a": 1}', ended_ms=8),
        replace(TASK, model=b"n" * 32, strategy=b"state"),
        {b"n" * 32: b"next"},
        release,
    )
    fates = {each.id: each.fate for each in rows.reports(TASK.digest, 1)}
    assert fates[report(1).id] == fates[report(3).id] == "counted"
    assert fates[report(4).id] == "taken"
    assert {each.head for each in rows.reports(TASK.digest, 1)} == {b""}, "its seeds are of no use any more"
    task = rows.task("taste")
    assert task is not None
    assert (task.model, task.strategy) == (b"n" * 32, b"state")
    assert rows.releases("phones") == [release]
    rows.roll_back("phones", 1, replace(release, number=2, model=b"m" * 32))
    assert [(each.number, each.state) for each in rows.releases("phones")] == [
        (2, "live"),
        (1, "rolled_back"),
    ]


def test_what_became_of_devices_adds_up(rows: FleetRows) -> None:
    rows.add_lost(TASK.digest, 1, {"offered": 3, "late": 1})
    rows.add_lost(TASK.digest, 1, {"offered": 2})
    assert rows.lost(TASK.digest, 1) == {"offered": 5, "late": 1}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "fleet.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(LocalError, match="database_damaged"):
        FleetRows(tmp_path)


def test_a_spool_forgets_what_no_row_points_at(tmp_path: Path) -> None:
    path = tmp_path / "round.spool"
    spool = Spool(path, 0)
    assert (spool.add(b"first"), spool.add(b"second")) == (0, 5)
    spool.sync()
    spool.close()
    again = Spool(path, 5)
    assert again.add(b"third") == 5
    assert (again.read(0, 5), again.read(5, 5)) == (b"first", b"third")
    with pytest.raises(LocalError, match="disk_error"):
        again.read(8, 5)
    again.remove()
    assert not path.exists()


def test_a_file_is_closed_after_what_another_thread_is_at(tmp_path: Path) -> None:
    rows = FleetRows(tmp_path)
    began, ended = threading.Event(), threading.Event()

    def write() -> None:
        with rows.write():
            began.set()
            time.sleep(0.2)
            rows.put("INSERT INTO helper VALUES ('a', '{}', 0)")
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    began.wait()
    rows.close()
    assert ended.wait(1.0), "the write went to its end first"
    thread.join()
    again = FleetRows(tmp_path)
    assert again.helpers() == [("a", "{}")]
    again.close()
