"""isthmus try: own files, temporary nodes, the real job."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isthmus.cli.main import run


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 people, ids with leading zeros; the partner knows what the bank does not."""
    folder = tmp_path_factory.mktemp("tables")
    draw = np.random.default_rng(5)
    own, theirs = draw.normal(size=(400, 2)), draw.normal(size=(400, 2))
    bad = (own[:, 0] + 2 * theirs[:, 0] + draw.normal(size=400) > 0.8).astype(int)

    def write(name: str, head: list[str], rows: list[list[object]]) -> None:
        with (folder / name).open("w", newline="") as out:
            csv.writer(out).writerows([head, *rows])

    write("bank.csv", ["ID", "a", "b", "bad"], [[f"{i:05d}", *own[i], bad[i]] for i in range(400)])
    order = draw.permutation(400)[:380]
    write("partner.csv", ["ID", "c", "d"], [[f"{i:05d}", *theirs[i]] for i in order])
    write("test.csv", ["ID"], [[f"{i:05d}"] for i in sorted(order[:60])])
    write("empty.csv", ["ID", "c"], [])
    return folder


def test_own_files_become_a_report_and_scores(tables: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "isthmus.cli.main", "try", "--label-table", tables / "bank.csv", "--feature-table",
         tables / "partner.csv", "--id", "ID", "--label", "bad", "--test-ids", tables / "test.csv", "--set", "trees=2",
         "--set", "depth=2", "--set", "max_bins=8", "--set", "paillier_bits=2048", "--lang", "zh", "--out", tmp_path],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["rows"]["common"] == 380
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json", "scores.csv"]
    with (tmp_path / "scores.csv").open(newline="") as scores:
        rows = list(csv.DictReader(scores))
    with (tables / "test.csv").open(newline="") as listed:
        assert [row["ID"] for row in rows] == [row["ID"] for row in csv.DictReader(listed)]
    assert all(0 < float(row["score"]) < 1 for row in rows)
    assert "done" in ended.stderr
    assert "<html" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("partner", "extra", "code"),
    [
        ("empty.csv", (), "too_small"),
        ("partner.csv", ("--label", "worse"), "missing_column"),
        ("partner.csv", ("--set", "tres=2"), "unknown_field"),
        ("partner.csv", ("--set", "trees=0"), "out_of_bounds"),
    ],
)
def test_what_cannot_be_tried_is_said_before_a_job_begins(
    tables: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    partner: str,
    extra: tuple[str, ...],
    code: str,
) -> None:
    arguments = ["try", "--label-table", str(tables / "bank.csv"), "--feature-table", str(tables / partner), "--key", "ID",
                 "--label", "bad", "--out", str(tmp_path), *extra]  # fmt: skip
    assert run(arguments) == 4
    assert f"[{code}]" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
