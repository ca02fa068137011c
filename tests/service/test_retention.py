"""What a node forgets, and what it never does. (D6)"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigError
from isthmus.crypto.seal import PartyKey
from isthmus.service.audit import Audit
from isthmus.service.node import Node
from isthmus.service.retention import DAY_S, Retention
from isthmus.store.audit import AuditCheck
from isthmus.store.folder import NodeFolder, RetentionConfig, make_config
from isthmus.store.memory import MemoryStore
from isthmus.store.records import STATES, JobState, StoredJob
from isthmus.wire.link import make_certificate

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = PartyKey.generate()
CONFIG: dict[str, Any] = {"party": "bank", "mode": "dial-out"}


class Calendar(SystemClock):
    """A day passes whenever somebody sleeps; after the last one sleep never ends."""

    def __init__(self, days: int = 0) -> None:
        self.at = NOW
        self.slept: list[float] = []
        self.days = days
        self.over = asyncio.Event()

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) > self.days:
            self.over.set()
            await asyncio.Event().wait()
        self.at += timedelta(seconds=seconds)


def job(state: JobState, days_old: float) -> StoredJob:
    at = NOW - timedelta(days=days_old)
    name = f"j-{state}-{days_old:g}".replace(".", "-")
    return StoredJob(
        name,
        hashlib.sha256(name.encode()).digest(),
        1,
        b"{}",
        "card",
        "label_owner",
        "bank",
        state,
        None,
        at,
        at,
    )


def keep(folder: Path, store: MemoryStore, jobs: list[StoredJob]) -> None:
    for kept in jobs:
        store.add_job(kept, [])
        (folder / kept.id).mkdir()
        (folder / kept.id / "scores.csv").write_text("id,score\n")


@contextmanager
def kept(folder: Path, days: int, clock: Calendar) -> Iterator[tuple[MemoryStore, Retention]]:
    store = MemoryStore()
    audit = Audit("bank", KEY, store, clock)
    yield (
        store,
        Retention(RetentionConfig(jobs_days=days), store, audit, clock, lambda job_id: folder / job_id),
    )


def names(store: MemoryStore) -> set[str]:
    return {found.id for found in store.jobs(limit=100)}


def test_ended_jobs_go_with_their_folders_when_they_are_old_and_no_other_does(tmp_path: Path) -> None:
    clock = Calendar()
    with kept(tmp_path, 30, clock) as (store, retention):
        keep(tmp_path, store, [job(state, age) for state in STATES for age in (29.9, 30.1)])
        old = {f"j-{state}-30-1" for state in ("done", "failed", "refused", "stopped")}
        everything = names(store)
        assert asyncio.run(retention.look()) == len(old)
        assert names(store) == everything - old == {path.name for path in tmp_path.iterdir()}
        assert {(line.kind, line.object) for line in store.audit()} == {("job.removed", name) for name in old}
        check = AuditCheck("bank", KEY.public)
        for line in store.audit():
            check.take(line)
        assert check.findings == []
        assert asyncio.run(retention.look()) == 0


def test_it_looks_when_it_begins_and_then_every_day(tmp_path: Path) -> None:
    async def play() -> None:
        clock = Calendar(days=2)
        with kept(tmp_path, 30, clock) as (store, retention):
            keep(tmp_path, store, [job("done", age) for age in (31, 29.5, 28.5, 27.5)])
            retention.begin()
            await clock.over.wait()
            assert names(store) == {"j-done-27-5"}
            assert clock.slept == [DAY_S] * 3
            await retention.close()

    asyncio.run(play())


def test_a_folder_that_cannot_be_removed_keeps_its_job_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        clock = Calendar(days=1)
        with kept(tmp_path, 30, clock) as (store, retention):
            keep(tmp_path, store, [job("done", 31)])
            tries: list[Path] = []

            def refuse(path: Path) -> None:
                tries.append(path)
                if len(tries) == 1:
                    raise PermissionError(13, "not allowed")
                path.rename(tmp_path / "gone")

            monkeypatch.setattr("isthmus.service.retention.shutil.rmtree", refuse)
            retention.begin()
            await clock.over.wait()
            assert (len(tries), names(store)) == (2, set())
            await retention.close()

    asyncio.run(play())


def test_a_node_keeps_everything_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    folder = NodeFolder.create(tmp_path / "node", make_config(CONFIG, "test"), make_certificate)

    async def play() -> list[str]:
        node = Node(folder)
        old = replace(job("done", 0), changed_at=datetime(2020, 1, 1, tzinfo=UTC))
        node.store.add_job(old, [])
        await node.start()
        for _ in range(100):
            await asyncio.sleep(0)
        left = [found.id for found in node.store.jobs()]
        await node.close()
        return left

    assert asyncio.run(play()) == ["j-done-0"]
    (folder.home / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"retention": {"jobs_days": 365}}))
    assert asyncio.run(play()) == []


@pytest.mark.parametrize(
    "retention", [{"jobs_days": -1}, {"jobs_days": "30"}, {"audit_days": 30}, {"days": 1}, 30]
)
def test_a_retention_that_is_none_is_refused(retention: object) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(CONFIG | {"retention": retention}, "test")
    assert caught.value.code in ("out_of_bounds", "unknown_field")
