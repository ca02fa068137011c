"""Cells that a spreadsheet shows and never calculates."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.report.cells import cell, neutral, write_csv


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1", "+1e5|calc", "-1-1"]
)
def test_text_that_begins_like_a_formula_is_neutralised(text: str) -> None:
    assert neutral(text) == "'" + text


@pytest.mark.parametrize("text", ["", "river-bank", "a=b", "13800000000", "-12.5", "+3", "1e-7", "客户"])
def test_plain_text_and_plain_numbers_stay_as_they_are(text: str) -> None:
    assert neutral(text) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back_exactly(value: float) -> None:
    assert float(cell(value)) == value
    assert float(cell(np.float64(value))) == value


def test_each_kind_of_value_has_its_text() -> None:
    assert [cell(v) for v in (None, True, False, 7, np.int64(-7), "=x")] == [
        "",
        "true",
        "false",
        "7",
        "-7",
        "'=x",
    ]


def test_a_written_file_is_read_back_with_its_quotes_and_breaks() -> None:
    stream = io.StringIO(newline="")
    write_csv(stream, ["id", "=score"], [["a,b", 0.1], ['say "x"\nnow', None]])
    stream.seek(0)
    assert list(csv.reader(stream)) == [["id", "'=score"], ["a,b", "0.1"], ['say "x"\nnow', ""]]
