"""Registered tables: only allowed files, versions, what takes part in a job. (F6, F12)"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigError, DataError
from isthmus.crypto.seal import PartyKey
from isthmus.jobs.spec import parse_job
from isthmus.service.audit import Audit
from isthmus.service.datasets import Datasets, columns_in
from isthmus.store.memory import MemoryStore
from tests.jobs.examples import document


@pytest.fixture
def datasets(tmp_path: Path) -> Datasets:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "risk.csv").write_text("phone,x1,x2,staff,same\n" + "".join(
        f"1380000{i:04d},{i},{i % 3},{i % 2},7\n" for i in range(20)))  # fmt: skip
    (tmp_path / "outside.csv").write_text("phone,x\n1,2\n2,3\n")
    (tmp_path / "data" / "way-out.csv").symlink_to(tmp_path / "outside.csv")
    (tmp_path / "database").mkdir()
    store, clock = MemoryStore(), SystemClock()
    return Datasets(store, [tmp_path / "data"], Audit("bank", PartyKey.generate(), store, clock), clock)


@pytest.mark.parametrize(
    "path",
    [
        "{root}/outside.csv",
        "{root}/data/../outside.csv",
        "{root}/data/%2e%2e/outside.csv",
        "{root}/data/%252e%252e/outside.csv",
        "{root}/data/way-out.csv",
        "{root}/database/x.csv",
        "file://{root}/data/risk.csv",
        "http://example.org/risk.csv",
        "//server/share/risk.csv",
        "\\\\server\\share\\risk.csv",
        "{root}\\data\\risk.csv",
        "data/risk.csv",
        "risk.csv",
        "{root}/data",
        "{root}/data/none.csv",
        "{root}/data/risk.csv\0.txt",
        "/etc/passwd",
        "",
    ],
)
def test_a_path_outside_the_allowed_folders_is_refused(datasets: Datasets, tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        asyncio.run(datasets.add("risk", path.format(root=tmp_path), key="phone"))
    assert caught.value.code == "bad_path"
    assert datasets.all() == []


def test_a_table_is_read_hashed_and_numbered(datasets: Datasets, tmp_path: Path) -> None:
    file = str(tmp_path / "data" / "risk.csv")
    for version in (1, 2):
        added = asyncio.run(datasets.add("risk", file, key="phone", form="phone-cn"))
        assert (added.title, added.profile["rows"]) == (f"risk@{version}", 20)
    assert datasets.find("risk").version == 2
    assert datasets.find("risk@1").version == 1
    with pytest.raises(ConfigError):
        datasets.find("risk@3")
    with pytest.raises(ConfigError):
        asyncio.run(datasets.add("Risk Table", file, key="phone"))


def test_a_file_that_cannot_be_used_is_not_registered(datasets: Datasets, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        asyncio.run(datasets.add("risk", str(tmp_path / "data" / "risk.csv"), key="mobile"))
    assert caught.value.code == "missing_column"
    assert datasets.all() == []


def test_a_change_of_one_byte_is_noticed(datasets: Datasets, tmp_path: Path) -> None:
    file = tmp_path / "data" / "risk.csv"
    added = asyncio.run(datasets.add("risk", str(file), key="phone"))
    asyncio.run(datasets.check_unchanged(added))
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(DataError) as caught:
        asyncio.run(datasets.check_unchanged(added))
    assert caught.value.code == "dataset_changed"


def test_the_columns_that_take_part_are_those_of_the_job_without_key_and_useless_ones(
    datasets: Datasets, tmp_path: Path
) -> None:
    added = asyncio.run(datasets.add("risk", str(tmp_path / "data" / "risk.csv"), key="phone"))
    assert columns_in(parse_job(document()), "data-co", added) == ["x1", "x2"]
