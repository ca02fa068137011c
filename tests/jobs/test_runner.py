"""A whole job between two tables, both sides in one process: files, figures, the same bits again."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.base.errors import DataError, PeerError
from isthmus.base.progress import Progress
from isthmus.jobs.plan import make_plan
from isthmus.jobs.runner import run_feature_owner, run_label_owner
from isthmus.jobs.spec import JobFile, job_digest, parse_job, resolve
from isthmus.jobs.twin import pooled_scores
from isthmus.learn.metrics import evaluate
from isthmus.learn.tree import FeatureHalf, LabelHalf, half_from_json
from isthmus.table.table import CategoryColumn, Column, NumericColumn, Table
from isthmus.wire.channel import Channel
from tests.worlds import run_pair

BANK, PARTNER = "river-bank", "data-co"
CANARY = "canary-7f3a"


def job_file(**changes: Any) -> JobFile:
    """A small job; `changes` replace whole sections."""
    document: dict[str, Any] = {
        "apiVersion": "isthmus/v1",
        "kind": "Job",
        "metadata": {"name": "trial", "purpose": "a trial on made-up people"},
        "parties": {"label_owner": BANK, "feature_owners": [PARTNER]},
        "inputs": {p: {"dataset": "people@1", "keys": [[{"column": "id"}]]} for p in (BANK, PARTNER)},
        "align": {"min_rows": 100},
        "sample": {"label": "bad"},
        "split": {"train": 0.6, "valid": 0.2, "test": 0.2},
        "model": {
            "kind": "boosted-trees",
            "trees": 3,
            "depth": 3,
            "min_child_rows": 20,
            "stop_after": 2,
            "local_trees": 0,
        },
        "features": {"binning": {"max_bins": 6}},
        "crypto": {"engine": "lattice-hint", "paillier_bits": 2048},
        "evaluate": {"bootstrap": 20},
    }
    return parse_job(resolve(parse_job({**document, **changes})))


def people(first: int, count: int, seed: int, with_label: bool = False) -> Table:
    """Rows first .. first+count; a person's traits follow from the number, so that tables agree on them."""
    draw = np.random.default_rng(99)
    traits = draw.normal(size=(1000, 6))
    noise = draw.normal(size=1000)
    rows = np.arange(first, first + count)
    rows = np.random.default_rng(seed).permutation(rows)
    mine = traits[rows]
    wanted = (0, 1, 2) if with_label else (3, 4, 5)
    columns: dict[str, Column] = {
        f"{CANARY}-{i}": NumericColumn(f"{CANARY}-{i}", mine[:, i].copy()) for i in wanted
    }
    kind = (mine[:, wanted[0]] > 0).astype(np.int32)
    columns[f"kind{seed}"] = CategoryColumn(f"kind{seed}", kind, ("high", "low"))
    bad = (traits @ np.array([1, 0.5, 0, 1, 0.7, 0]) + noise > 1).astype(float)[rows]
    ids = [f"138{n:08d}" for n in rows]
    raw = [f" {i}" for i in ids]
    label = bad if with_label else None
    return Table([i.encode() for i in ids], columns, label, {}, np.arange(1, count + 1), raw)


def run(
    job: JobFile, tmp: Path, test_ids: list[bytes] | None = None, digest: bytes | None = None
) -> tuple[Any, Any, Table]:
    chosen = digest or job_digest(resolve(job))
    bank, partner = people(0, 500, 1, with_label=True), people(100, 500, 2)
    here, there = tmp / "bank", tmp / "partner"
    here.mkdir()
    there.mkdir()

    async def label_owner(channel: Channel) -> Any:
        return await run_label_owner(job, chosen, bank, {PARTNER: channel}, here, Progress(), test_ids)

    async def feature_owner(channel: Channel) -> Any:
        return await run_feature_owner(job, chosen, PARTNER, partner, channel, there, Progress())

    return (*run_pair("memory", label_owner, feature_owner), bank)


def scores(path: Path) -> dict[str, float]:
    with path.open(newline="") as stream:
        return {row["id"]: float(row["score"]) for row in csv.DictReader(stream)}


def test_a_job_leaves_halves_reports_and_scores(tmp_path: Path) -> None:
    job = job_file()
    first, second, bank = run(job, tmp_path)
    assert isinstance(first, dict), first
    assert isinstance(second, dict), second
    assert first["rows"] | {"positive_rate_train": 0, "positive_rate_test": 0} == {
        "label": 500,
        "feature": [500],
        "common": 400,
        "train": 240,
        "valid": 80,
        "test": 80,
        "positive_rate_train": 0,
        "positive_rate_test": 0,
    }
    names = {"half.json", "report.json", "report.en.html", "report.zh.html"}
    assert {p.name for p in (tmp_path / "bank").iterdir()} == names | {"scores.csv"}
    assert {p.name for p in (tmp_path / "partner").iterdir()} == names
    report = json.loads((tmp_path / "bank" / "report.json").read_text())
    assert report["metrics"]["joint"]["auc"] == first["metrics"]["joint"]["auc"]
    found = scores(tmp_path / "bank" / "scores.csv")
    assert len(found) == 80
    assert bank.label is not None
    truth = dict(zip(bank.raw_ids, bank.label.tolist(), strict=True))
    again = evaluate([truth[i] for i in found], list(found.values()))
    assert again.auc == report["metrics"]["joint"]["auc"]
    order = {raw: row for row, raw in enumerate(bank.raw_ids)}
    assert [order[i] for i in found] == sorted(order[i] for i in found)
    assert report["bytes"]["sent_by_label"] == second["bytes"]["sent_by_label"]
    label_half = half_from_json(json.loads((tmp_path / "bank" / "half.json").read_text()), "label-owner")
    feature_half = half_from_json(
        json.loads((tmp_path / "partner" / "half.json").read_text()), "feature-owner"
    )
    assert isinstance(label_half, LabelHalf)
    assert isinstance(feature_half, FeatureHalf)


def test_no_name_of_a_column_crosses_into_the_others_files(tmp_path: Path) -> None:
    run(job_file(), tmp_path)
    here = "".join(p.read_text() for p in (tmp_path / "bank").iterdir())
    there = "".join(p.read_text() for p in (tmp_path / "partner").iterdir())
    for i in range(6):
        assert (f"{CANARY}-{i}" in here) == (i < 3)
        assert (f"{CANARY}-{i}" in there) == (i >= 3)


@pytest.mark.parametrize(("engine", "kind"), [("lattice-hint", "PieceOfWords"), ("paillier", "Encrypted")])
def test_only_planned_kinds_of_message_cross(tmp_path: Path, engine: str, kind: str) -> None:
    job = job_file(crypto={"engine": engine, "paillier_bits": 2048})
    run(job, tmp_path)
    report = json.loads((tmp_path / "bank" / "report.json").read_text())
    crossed = {row["kind"] for row in report["bytes"]["kinds"]}
    assert crossed <= set(make_plan(job).messages)
    assert kind in crossed


def test_a_rerun_gives_the_same_bits_and_another_seed_another_model(tmp_path: Path) -> None:
    folders = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        folder = tmp_path / name
        folder.mkdir()
        run(job_file(run={"seed": seed}), folder)
        folders.append(folder)
    one, two, other = [
        [(f / side / "half.json").read_bytes() for side in ("bank", "partner")]
        + [(f / "bank" / "scores.csv").read_bytes()]
        for f in folders
    ]
    assert one == two
    assert one[0] != other[0]


def test_named_test_rows_are_the_ones_scored(tmp_path: Path) -> None:
    wanted = people(200, 90, 5).ids
    split = {"by": "ids", "test_ids_sha256": "0" * 64, "valid": 0.2}
    first, _, _ = run(job_file(split=split), tmp_path, [*wanted, b"138999"])
    assert isinstance(first, dict), first
    assert {i.strip().encode() for i in scores(tmp_path / "bank" / "scores.csv")} == set(wanted)
    assert first["rows"]["valid"] == round(0.2 * 310)


def test_regression_gives_numbers_and_rmse(tmp_path: Path) -> None:
    model = {"kind": "boosted-trees", "objective": "regression", "trees": 3, "depth": 2, "stop_after": 0}
    first, second, _ = run(job_file(model=model), tmp_path)
    assert isinstance(first, dict), first
    assert isinstance(second, dict), second
    assert first["metrics"]["joint"]["rmse"] > 0


def test_test_rows_of_one_class_are_refused_at_both_sides(tmp_path: Path) -> None:
    bank = people(0, 500, 1, with_label=True)
    assert bank.label is not None
    split = {"by": "ids", "test_ids_sha256": "0" * 64, "valid": 0.2}
    one_class = [i for i, bad in zip(bank.ids, bank.label, strict=True) if not bad]
    first, second, _ = run(job_file(split=split), tmp_path, one_class[:150])
    assert isinstance(first, DataError)
    assert first.code == "one_class"
    assert isinstance(second, PeerError)
    assert second.fields["code"] == "one_class"


@pytest.mark.parametrize("local_trees", [0, 1])
def test_scores_equal_the_twin_on_pooled_tables_bit_for_bit(tmp_path: Path, local_trees: int) -> None:
    model = {
        "kind": "boosted-trees",
        "trees": 3,
        "depth": 3,
        "stop_after": 2,
        "local_trees": local_trees,
        "column_sample": 0.6,
    }
    job = job_file(model=model)
    run(job, tmp_path)
    tables = [people(0, 500, 1, with_label=True), people(100, 500, 2)]
    twin, labels = asyncio.run(pooled_scores(job, job_digest(resolve(job)), tables, None))
    found = scores(tmp_path / "bank" / "scores.csv")
    assert {i.strip(): s for i, s in found.items()} == {i.strip(): s for i, s in twin.items()}
    assert len(labels) == len(found)


def test_both_engines_give_the_same_model(tmp_path: Path) -> None:
    halves = []
    for engine in ("lattice-hint", "paillier"):
        folder = tmp_path / engine
        folder.mkdir()
        job = job_file(crypto={"engine": engine, "paillier_bits": 2048})
        digest = job_digest(resolve(job_file()))
        run(job, folder, digest=digest)
        halves.append([(folder / side / "half.json").read_bytes() for side in ("bank", "partner")])
    assert halves[0] == halves[1]


def test_column_reveal_gives_the_same_model_as_ids(tmp_path: Path) -> None:
    kept = []
    for reveal in ("ids", "column"):
        folder = tmp_path / reveal
        folder.mkdir()
        first, _, _ = run(job_file(crypto={"paillier_bits": 2048, "split_reveal": reveal}), folder)
        assert isinstance(first, dict), first
        kept.append(first["rows"]["common"])
    assert kept == [400, 400]


def test_the_partners_columns_lift_the_ranking(tmp_path: Path) -> None:
    first, _, _ = run(job_file(), tmp_path)
    assert first["metrics"]["joint"]["auc"] > first["metrics"]["alone"]["auc"]
