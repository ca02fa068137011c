"""The real table, and the two files made of it."""

from __future__ import annotations

import csv
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from isthmus.base.errors import DataError
from isthmus.scenarios.credit_card import data, make_data
from isthmus.scenarios.portfolio import DemoTables


def tidy(phone: str) -> str:
    digits = re.sub(r"[\s-]", "", unicodedata.normalize("NFKC", phone))
    return digits.removeprefix("+86")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> DemoTables:
    return data.write_tables(tmp_path_factory.mktemp("credit card"), seed=1)


def test_the_table_has_the_rows_columns_and_share_of_bad_of_the_original() -> None:
    portfolio = data.load_portfolio()
    assert portfolio.rows == 30_000
    assert int(portfolio.bad.sum()) == 6_636
    assert len(portfolio.bank) == 17
    assert tuple(portfolio.partner) == data.PARTNER_COLUMNS
    assert {len(column) for column in (portfolio.bank | portfolio.partner).values()} == {30_000}
    assert set(np.unique(portfolio.bank["sex"])) == {1, 2}


def test_a_table_with_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "credit_default.parquet"
    changed.write_bytes(data.FILE.read_bytes() + b"\0")
    monkeypatch.setattr(data, "FILE", changed)
    with pytest.raises(DataError, match="bad_array"):
        data.load_portfolio()


def test_each_side_knows_nine_in_ten_and_the_overlap_is_counted(tables: DemoTables) -> None:
    bank, partner = read(tables.label_csv), read(tables.feature_csv)
    assert len(bank) == len(partner) == 27_000
    shared = {tidy(row["phone"]) for row in bank} & {tidy(row["phone"]) for row in partner}
    assert len(shared) == tables.true_overlap
    assert 24_000 < tables.true_overlap < 24_600


def test_the_columns_of_the_two_sides_are_apart_and_the_label_stays_with_the_bank(tables: DemoTables) -> None:
    bank, partner = read(tables.label_csv)[0], read(tables.feature_csv)[0]
    assert set(bank) & set(partner) == {"phone"}
    assert data.LABEL in bank
    assert data.LABEL not in partner


def test_phones_are_unique_mainland_mobiles_once_tidied_and_some_are_untidy(tables: DemoTables) -> None:
    for path in (tables.label_csv, tables.feature_csv):
        raw = [row["phone"] for row in read(path)]
        clean = [tidy(phone) for phone in raw]
        assert len(set(clean)) == len(clean)
        assert all(re.fullmatch(r"1[3-9][0-9]{9}", phone) for phone in clean)
        untidy = sum(a != b for a, b in zip(raw, clean, strict=True))
        assert 0.02 < untidy / len(raw) < 0.06


def test_the_test_ids_are_a_fifth_of_the_shared_and_as_bad_as_the_rest(tables: DemoTables) -> None:
    label = {tidy(row["phone"]): int(row["bad"]) for row in read(tables.label_csv)}
    partner = {tidy(row["phone"]) for row in read(tables.feature_csv)}
    held_out = [row["phone"] for row in read(tables.test_ids_csv)]
    assert len(held_out) == len(set(held_out)) == pytest.approx(tables.true_overlap / 5, abs=1)
    assert set(held_out) <= set(label) & partner
    shared = [label[phone] for phone in set(label) & partner]
    assert np.mean([label[phone] for phone in held_out]) == pytest.approx(np.mean(shared), abs=0.001)


def test_the_same_seed_writes_the_same_files_and_another_seed_others(
    tables: DemoTables, tmp_path: Path
) -> None:
    again = data.write_tables(tmp_path / "again", seed=1)
    other = data.write_tables(tmp_path / "other", seed=2)
    assert again.label_csv.read_bytes() == tables.label_csv.read_bytes()
    assert again.feature_csv.read_bytes() == tables.feature_csv.read_bytes()
    assert again.test_ids_csv.read_bytes() == tables.test_ids_csv.read_bytes()
    assert other.feature_csv.read_bytes() != tables.feature_csv.read_bytes()


def test_the_maker_refuses_a_source_with_another_checksum(tmp_path: Path) -> None:
    source = tmp_path / "UCI_Credit_Card.csv"
    source.write_text("ID,LIMIT_BAL\n1,20000\n", encoding="utf-8")
    with pytest.raises(ValueError, match="SHA-256"):
        make_data.read_source(source)


def test_one_hot_columns_that_are_not_one_hot_are_refused() -> None:
    import pyarrow as pa

    with pytest.raises(ValueError, match="one-hot"):
        make_data.from_one_hot(pa.table({"A_0": [1, 0], "A_1": [1, 0]}), "A", 2)
