from __future__ import annotations

import dataclasses
import datetime
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isthmus.base.errors import DataError
from isthmus.table import CategoryColumn, NumericColumn, ReadOptions, Table, read_ids, read_table

ID = ReadOptions("id")


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def refusal(path: Path, options: ReadOptions = ID) -> DataError:
    with pytest.raises(DataError) as caught:
        read_table(path, options)
    assert str(path.parent) not in str(caught.value)
    return caught.value


def numbers(table: Table, name: str) -> list[float | None]:
    column = table.columns[name]
    assert isinstance(column, NumericColumn)
    return [None if np.isnan(v) else float(v) for v in column.values]


def words(table: Table, name: str) -> list[str | None]:
    column = table.columns[name]
    assert isinstance(column, CategoryColumn)
    return [None if code < 0 else column.levels[code] for code in column.codes]


def test_typed_columns_become_numbers_and_categories(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        {
            "id": pa.array(["a", "b", "c"]),
            "whole": pa.array([1, None, 3], pa.int64()),
            "real": pa.array([0.5, float("nan"), None]),
            "money": pa.array([Decimal("1.25"), None, Decimal("-3.00")]),
            "flag": pa.array([True, False, None]),
            "text": pa.array([" u ", None, "v"]),
            "pandas": pa.array(["u", "v", None]).dictionary_encode(),
            "digits": pa.array(["1", "NA", "2.5"]),
            "day": pa.array([datetime.date(2024, 1, 1), None, datetime.date(2024, 2, 1)]),
            "nothing": pa.nulls(3),
            "y": pa.array([1, 0, 1], pa.int8()),
        },
    )
    table = read_table(path, ReadOptions("id", label="y"))
    assert numbers(table, "whole") == [1.0, None, 3.0]
    assert numbers(table, "real") == [0.5, None, None]
    assert numbers(table, "money") == [1.25, None, -3.0]
    assert numbers(table, "flag") == [1.0, 0.0, None]
    assert words(table, "text") == ["u", None, "v"]
    assert words(table, "pandas") == ["u", "v", None]
    assert numbers(table, "digits") == [1.0, None, 2.5]
    assert words(table, "day") == ["2024-01-01", None, "2024-02-01"]
    assert table.dropped == {"nothing": "empty"}
    assert table.label is not None
    assert table.label.tolist() == [1.0, 0.0, 1.0]


def test_whole_numbers_can_be_declared_categories(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pq", {"id": [1, 2, 3], "code": [10, 9, None], "f": [1.0, 2.5, 1.0]})
    table = read_table(path, dataclasses.replace(ID, categorical=("code", "f")))
    assert words(table, "code") == ["10", "9", None]
    assert words(table, "f") == ["1", "2.5", "1"]


def test_whole_number_ids_become_their_decimal_text(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.parquet", {"id": [12000027248, 7, -1], "x": [1, 2, 3]}), ID)
    assert table.ids == [b"12000027248", b"7", b"-1"]
    assert table.raw_ids == ["12000027248", "7", "-1"]


def test_floating_point_ids_are_refused(tmp_path: Path) -> None:
    error = refusal(write(tmp_path / "a.parquet", {"id": [1.0, 2.0], "x": [1, 2]}))
    assert (error.code, error.fields["count"]) == ("malformed_id", 2)
    assert "double" in str(error)


def test_gaps_and_repeats_in_ids_are_found(tmp_path: Path) -> None:  # F2
    assert refusal(write(tmp_path / "a.parquet", {"id": ["a", None, ""], "x": [1, 2, 3]})).fields["rows"] == [
        2,
        3,
    ]
    assert refusal(write(tmp_path / "b.parquet", {"id": [5, 6, 5], "x": [1, 2, 3]})).fields["rows"] == [1, 3]
    path = write(
        tmp_path / "c.parquet", {"id": pa.array(["a", "b", "a"]).dictionary_encode(), "x": [1, 2, 3]}
    )
    assert read_table(path, dataclasses.replace(ID, duplicates="last")).source_rows.tolist() == [2, 3]


def test_infinity_is_refused_with_its_row(tmp_path: Path) -> None:  # F4
    error = refusal(write(tmp_path / "a.parquet", {"id": [1, 2, 3], "x": [1.0, float("inf"), 2.0]}))
    assert (error.code, error.fields["rows"]) == ("not_a_number", [2])


def test_a_date_declared_numeric_is_refused(tmp_path: Path) -> None:  # F4
    days = [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]
    path = write(tmp_path / "a.parquet", {"id": [1, 2], "day": days})
    assert refusal(path, dataclasses.replace(ID, numeric=("day",))).code == "not_a_number"


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1], [2]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([[("k", 1)], [("k", 2)]], pa.map_(pa.string(), pa.int64())),
        pa.array([b"\x80\x04.", b"\x80\x04."]),
    ],
)
def test_nested_and_binary_columns_are_refused_by_name(tmp_path: Path, values: Any) -> None:
    path = write(tmp_path / "a.parquet", {"id": [1, 2], "x": [1, 2], "odd": values})
    error = refusal(path)
    assert error.code == "unsupported_format"
    assert "column odd" in str(error)
    assert numbers(read_table(path, dataclasses.replace(ID, exclude=("odd",))), "x") == [1.0, 2.0]


def test_text_that_is_not_utf8_is_refused_with_its_row(tmp_path: Path) -> None:  # F1
    raw = pa.array([b"ok", b"ok", "上".encode("gbk"), b"x"])
    text = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    error = refusal(write(tmp_path / "a.parquet", {"id": [1, 2, 3, 4], "x": text}))
    assert (error.code, error.fields["row"]) == ("encoding_error", 3)
    assert refusal(write(tmp_path / "b.parquet", {"id": text, "x": [1, 2, 3, 4]})).fields["row"] == 3


def test_repeated_columns_and_no_rows_are_refused(tmp_path: Path) -> None:  # F3
    twice = pa.Table.from_arrays(
        [pa.array([1, 2]), pa.array([1, 2]), pa.array([1, 2])], names=["id", "x", "x"]
    )
    pq.write_table(twice, tmp_path / "a.parquet")
    assert refusal(tmp_path / "a.parquet").code == "repeated_column"
    path = write(tmp_path / "b.parquet", {"id": pa.array([], pa.string()), "x": pa.array([], pa.int64())})
    assert refusal(path).code == "too_small"
    (tmp_path / "c.parquet").touch()
    assert refusal(tmp_path / "c.parquet").code == "too_small"


def test_a_million_repeats_of_a_large_cell_stay_small(tmp_path: Path) -> None:  # F5 F7
    indices = pa.array(np.zeros(200_000, np.int32))
    large = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 900_000]))  # 180 GB when written out
    path = write(
        tmp_path / "a.parquet", {"id": np.arange(200_000), "x": np.arange(200_000) % 7, "large": large}
    )
    table = read_table(path, ID)
    assert table.dropped == {"large": "constant"}


def test_a_file_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path: Path) -> None:  # F7, M37
    columns = {name: np.zeros(1_000_000) for name in ("id", *(f"x{i}" for i in range(20)))}
    path = write(
        tmp_path / "a.parquet", columns, use_dictionary=False, compression="zstd", data_page_size=1 << 26
    )
    assert 1000 * path.stat().st_size < 21 * 8_000_000
    error = refusal(path)
    assert error.code == "bad_array"
    assert "unpack" in str(error)


def test_a_cell_over_the_cap_is_refused(tmp_path: Path) -> None:  # F5
    path = write(tmp_path / "a.parquet", {"id": [1, 2], "x": ["a", "b" * 1_000_001]})
    assert refusal(path).code == "too_large"


def test_a_cut_file_is_refused(tmp_path: Path) -> None:  # F6 F9
    whole = write(tmp_path / "a.parquet", {"id": np.arange(1000), "x": np.random.default_rng(1).random(1000)})
    content = whole.read_bytes()
    for size in (4, 11, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.parquet").write_bytes(content[:size])
        assert refusal(tmp_path / "cut.parquet").code == "bad_array"
    (tmp_path / "hole.parquet").write_bytes(content[:2000] + content[6000:])
    assert refusal(tmp_path / "hole.parquet").code == "bad_array"
    (tmp_path / "footer.parquet").write_bytes(b"PAR1" + b"\xff" * 8 + b"\xff\xff\xff\x7fPAR1")
    assert refusal(tmp_path / "footer.parquet").code == "bad_array"


def test_flipped_bytes_give_a_table_or_a_data_error_and_nothing_else(tmp_path: Path) -> None:  # F9
    chance = random.Random(20)
    path = write(
        tmp_path / "a.parquet",
        {"id": [f"{i}" for i in range(50)], "x": np.arange(50), "t": [f"w{i % 5}" for i in range(50)]},
        write_page_checksum=True,
    )
    content = path.read_bytes()
    bad = tmp_path / "bad.parquet"
    for _ in range(300):
        changed = bytearray(content)
        changed[chance.randrange(4, len(content) - 4)] ^= 1 << chance.randrange(8)
        bad.write_bytes(changed)
        try:
            read_table(bad, ID)
        except DataError:
            continue


def test_ids_can_be_read_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"id": ["+86 13800138000", "13900139000"], "odd": [[1], [2]]})
    assert read_ids(path, ReadOptions("id", id_form="phone-cn")) == [b"13800138000", b"13900139000"]
