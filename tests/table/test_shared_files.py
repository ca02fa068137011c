"""The reader on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.shared_data import shared_data

from isthmus.base.errors import DataError
from isthmus.table import CategoryColumn, NumericColumn, ReadOptions, read_ids, read_table


def numbered(source: Path, target: Path) -> Path:
    """The same file with a column `row` in front; it has no id of its own."""
    lines = source.read_bytes().decode("utf-8-sig").splitlines()
    body = [f"{'row' if i == 0 else f'{i:05d}'},{line}" for i, line in enumerate(lines)]
    target.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(body).encode())
    return target


def test_the_two_sides_of_credit_default_share_27000_ids() -> None:
    bank = read_table(
        shared_data("credit_default", "bank.csv"), ReadOptions("id", label="bad", id_form="phone-cn")
    )
    partner = read_table(shared_data("credit_default", "partner.csv"), ReadOptions("id", id_form="phone-cn"))
    tests = read_ids(shared_data("credit_default", "test_ids.csv"), ReadOptions("id", id_form="phone-cn"))
    assert (bank.rows, len(bank.columns), partner.rows, len(partner.columns)) == (30_000, 17, 33_000, 6)
    assert bank.label is not None
    assert round(float(bank.label.mean()), 4) == 0.2212
    assert len(set(bank.ids) & set(partner.ids)) == 27_000
    assert len(tests) == 5_400
    assert set(tests) <= set(bank.ids) & set(partner.ids)


def test_hmeq_is_read_as_found(tmp_path: Path) -> None:  # F1
    path = numbered(shared_data("hmeq", "hmeq.csv"), tmp_path / "hmeq.csv")
    table = read_table(path, ReadOptions("row", label="BAD"))
    assert (table.rows, len(table.columns), table.dropped) == (5_960, 12, {})
    assert table.ids[0] == b"00001"
    assert table.label is not None
    assert round(float(table.label.mean()), 4) == 0.1995
    categories = {name: c.levels for name, c in table.columns.items() if isinstance(c, CategoryColumn)}
    assert categories == {
        "REASON": ("DebtCon", "HomeImp"),
        "JOB": ("Mgr", "Office", "Other", "ProfExe", "Sales", "Self"),
    }
    debt = table.columns["DEBTINC"]
    assert isinstance(debt, NumericColumn)
    assert int(np.isnan(debt.values).sum()) == 1_267


def test_german_credit_keeps_commas_inside_quotes(tmp_path: Path) -> None:
    path = numbered(shared_data("german_credit", "germancredit.csv"), tmp_path / "german.csv")
    table = read_table(path, ReadOptions("row", label="creditability", positive="bad"))
    assert (table.rows, len(table.columns)) == (1_000, 20)
    assert table.label is not None
    assert table.label.mean() == 0.3
    assert sum(isinstance(c, CategoryColumn) for c in table.columns.values()) == 13
    phone = table.columns["telephone"]
    assert isinstance(phone, CategoryColumn)
    assert phone.levels == ("none", "yes, registered under the customers name")


def test_both_sides_of_fates_credit_default_are_read() -> None:
    guest = read_table(
        shared_data("credit_default_fate", "default_credit_hetero_guest.csv"), ReadOptions("id", label="y")
    )
    host = read_table(shared_data("credit_default_fate", "default_credit_hetero_host.csv"), ReadOptions("id"))
    assert (guest.rows, len(guest.columns), len(host.columns)) == (30_000, 13, 10)
    assert set(guest.ids) == set(host.ids)


def test_a_match_key_that_repeats_is_refused_and_can_be_resolved() -> None:  # F2
    path = shared_data("breast", "breast_hetero_guest_repeated_id.csv")
    with pytest.raises(DataError) as caught:
        read_table(path, ReadOptions("id", label="y", exclude=("mock_id",)))
    assert caught.value.code == "duplicate_id"
    assert (
        read_table(path, ReadOptions("id", label="y", exclude=("mock_id",), duplicates="first")).rows == 569
    )
    assert read_table(path, ReadOptions("mock_id", label="y", exclude=("id",))).rows == 2_139
