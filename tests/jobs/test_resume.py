"""A job whose parties die at any point of their record goes on from the oldest of their barriers, to the same bits."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from isthmus.base.progress import Progress
from isthmus.base.record import ALIGNED, BINNED, FINISHED, STAGES, TRAINED
from isthmus.crypto import curve
from isthmus.jobs.runner import run_feature_owner, run_label_owner
from isthmus.jobs.spec import JobFile, job_digest, resolve
from isthmus.protocols import align
from isthmus.store.checkpoints import Checkpoints
from isthmus.wire.channel import Channel
from tests.jobs.test_runner import PARTNER, job_file, people
from tests.records import KEY
from tests.worlds import run_pair

SIDES = ("bank", "partner")


class Killed(Exception):
    """Stands for SIGKILL."""


class Mortal:
    """A record whose owner dies just before or just after one of its writes, counted from 1; 0: never."""

    def __init__(self, record: Checkpoints, fatal: int, before: bool) -> None:
        self._record, self._fatal, self._before = record, fatal, before
        self.writes, self.passed = 0, list[int]()
        self.found, self.count = record.found, record.count

    @property
    def barrier(self) -> int:
        return self._record.barrier

    def keep(self, barrier: int, **parts: bytes) -> None:
        with _Write(self):
            self._record.keep(barrier, **parts)
        self.passed.append(barrier)

    def raise_to(self, name: str, value: int) -> None:
        with _Write(self):
            self._record.raise_to(name, value)


class _Write:
    def __init__(self, mortal: Mortal) -> None:
        self._mortal = mortal

    def __enter__(self) -> None:
        self._mortal.writes += 1
        if self._mortal._before and self._mortal.writes == self._mortal._fatal:
            raise Killed

    def __exit__(self, *ended: object) -> None:
        if not self._mortal._before and self._mortal.writes == self._mortal._fatal:
            raise Killed


class Play:
    """Two parties, their folders and their records, over as many attempts as it takes."""

    def __init__(self, folder: Path, job: JobFile) -> None:
        self.job, self.digest = job, job_digest(resolve(job))
        self.folders = {side: folder / side for side in SIDES}
        for place in self.folders.values():
            place.mkdir(parents=True)
        self.tables = {"bank": people(0, 500, 1, with_label=True), "partner": people(100, 500, 2)}
        self.attempt = 0

    def go(
        self, fatal: dict[str, int] | None = None, before: bool = False, since: int = FINISHED
    ) -> dict[str, Any]:
        """One attempt from the oldest barrier, or an earlier one; what became of both sides, and their records."""
        self.attempt += 1
        records = {s: Checkpoints(f / "record.db", KEY) for s, f in self.folders.items()}
        common = min(since, *(record.barrier for record in records.values()))
        mortals = {}
        for side, record in records.items():
            record.begin(self.attempt, common)
            mortals[side] = Mortal(record, (fatal or {}).get(side, 0), before)

        async def bank(channel: Channel) -> Any:
            given = (self.job, self.digest, self.tables["bank"], {PARTNER: channel}, self.folders["bank"])
            return await run_label_owner(*given, Progress(), None, mortals["bank"])

        async def partner(channel: Channel) -> Any:
            given = (self.job, self.digest, PARTNER, self.tables["partner"], channel, self.folders["partner"])
            return await run_feature_owner(*given, Progress(), mortals["partner"], self.attempt)

        results = dict(zip(SIDES, run_pair("memory", bank, partner), strict=True))
        for record in records.values():
            record.__exit__()
        return {"results": results, "mortals": mortals, "common": common}

    def halves(self) -> list[bytes]:
        return [(folder / "half.json").read_bytes() for folder in self.folders.values()]


def small(engine: str = "lattice-hint") -> JobFile:
    model = {
        "kind": "boosted-trees", "trees": 3, "depth": 3, "min_child_rows": 20, "stop_after": 2, "local_trees": 1,
    }  # fmt: skip
    return job_file(model=model, crypto={"engine": engine, "paillier_bits": 2048})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    play = Play(tmp_path_factory.mktemp("undisturbed"), small())
    told = play.go()
    assert all(isinstance(result, dict) for result in told["results"].values()), told["results"]
    return {"halves": play.halves(), "writes": {s: told["mortals"][s].writes for s in SIDES}}


def test_the_writes_of_a_job_are_as_many_as_its_barriers_and_its_secrets_need(
    undisturbed: dict[str, Any],
) -> None:
    assert undisturbed["writes"]["bank"] >= 12
    assert undisturbed["writes"]["partner"] >= 12


@pytest.mark.slow
@pytest.mark.trust("G1", "U4", "M3")
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
def test_a_side_that_dies_at_any_write_redoes_one_step_at_most(
    side: str, before: bool, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    points = range(1 + before, undisturbed["writes"][side] + 1, 2)
    for point in points:
        play = Play(tmp_path / str(point), small())
        first = play.go({side: point}, before)
        assert isinstance(first["results"][side], Killed), (point, first["results"])
        second = play.go()
        assert all(isinstance(r, dict) for r in second["results"].values()), (point, second["results"])
        assert play.halves() == undisturbed["halves"], point
        for name in SIDES:
            again = set(second["mortals"][name].passed) & set(first["mortals"][name].passed)
            # Nothing is computed between the last tree and `trained`.
            assert len(again - {0, TRAINED}) <= 1, (point, name, again)


@pytest.mark.slow
@pytest.mark.trust("G2")
def test_both_sides_may_die_again_and_again(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    play = Play(tmp_path, small())
    for turn in itertools.count(3):
        told = play.go({"bank": turn, "partner": turn + 1})
        if all(isinstance(r, dict) for r in told["results"].values()):
            break
        assert play.attempt < 20
    assert play.attempt > 2
    assert play.halves() == undisturbed["halves"]


@pytest.mark.parametrize("stage", STAGES)
def test_all_from_a_stage_on_is_done_again_to_the_same_bits(
    stage: str, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    play = Play(tmp_path, small())
    play.go()
    for folder in play.folders.values():
        (folder / "half.json").unlink()
    told = play.go(since=STAGES[stage])
    assert told["common"] == {"bin": ALIGNED, "train": BINNED, "evaluate": TRAINED}[stage]
    assert play.halves() == undisturbed["halves"]
    assert told["mortals"]["bank"].passed[0] > STAGES[stage]


@pytest.mark.slow
def test_the_paillier_engine_goes_on_too(tmp_path: Path) -> None:
    wanted = Play(tmp_path / "wanted", small("paillier"))
    wanted.go()
    play = Play(tmp_path / "play", small("paillier"))
    assert isinstance(play.go({"partner": 9})["results"]["partner"], Killed)
    play.go()
    assert play.halves() == wanted.halves()


def test_an_alignment_goes_on_where_the_label_owner_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In small blocks: at most one block of points is blinded again, by either side."""
    monkeypatch.setattr(align, "CHUNK_POINTS", 20)
    blinded = {"points": 0, "ids": 0}
    points, ids = curve.blind_points, curve.blind_ids

    def count_points(given: Any, secret: Any) -> Any:
        blinded["points"] += len(given)
        return points(given, secret)

    def count_ids(given: Any, digest: bytes, secret: Any) -> Any:
        blinded["ids"] += len(given)
        return ids(given, digest, secret)

    monkeypatch.setattr(align, "blind_points", count_points)
    monkeypatch.setattr(align, "blind_ids", count_ids)
    play = Play(tmp_path, small())
    for fatal in ({"bank": 9}, {"partner": 20}, {"bank": 6}, {}):
        play.go(fatal)
    whole, block = 1000, 20 * align.BLOCK_CHUNKS
    assert whole <= blinded["points"] <= whole + 3 * 2 * block
    assert whole <= blinded["ids"] <= whole + 3 * 2 * block
