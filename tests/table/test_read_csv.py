from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.base.errors import ConfigError, DataError
from isthmus.base.progress import Progress, Step
from isthmus.table import (
    CategoryColumn,
    NumericColumn,
    ReadOptions,
    Schema,
    Table,
    file_digest,
    read_ids,
    read_table,
)
from isthmus.table import files as table_files

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(content: str | bytes, name: str = "data.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return to_file


def refusal(path: Path, options: ReadOptions) -> DataError:
    with pytest.raises(DataError) as caught:
        read_table(path, options)
    assert str(path.parent) not in str(caught.value)
    for language in ("en", "zh"):
        assert "?" not in caught.value.sentence(language), "a field of the sentence is not filled"
    return caught.value


def numbers(table: Table, name: str) -> list[float | None]:
    column = table.columns[name]
    assert isinstance(column, NumericColumn)
    return [None if np.isnan(v) else float(v) for v in column.values]


def words(table: Table, name: str) -> list[str | None]:
    column = table.columns[name]
    assert isinstance(column, CategoryColumn)
    assert list(column.levels) == sorted(column.levels)
    return [None if code < 0 else column.levels[code] for code in column.codes]


ID = ReadOptions("id")


# Cells and kinds


def test_a_plain_file_is_read_in_file_order(write: Write) -> None:
    path = write("amount,id,y,city\n1.5,b,1,Paris\n2,a,0,Lyon\n-3e2,c,1,\n")
    table = read_table(path, ReadOptions("id", label="y"))
    assert table.ids == [b"b", b"a", b"c"]
    assert list(table.columns) == ["amount", "city"]
    assert numbers(table, "amount") == [1.5, 2.0, -300.0]
    assert words(table, "city") == ["Paris", "Lyon", None]
    assert table.label is not None
    assert table.label.tolist() == [1.0, 0.0, 1.0]
    assert table.source_rows.tolist() == [1, 2, 3]
    assert table.rows == 3


def test_a_leading_zero_in_an_id_is_kept(write: Write) -> None:  # F2
    table = read_table(write("id,x\n007,1\n07,2\n7,3\n"), ID)
    assert table.ids == [b"007", b"07", b"7"]


def test_raw_ids_stay_as_the_file_spells_them(write: Write) -> None:
    table = read_table(write("id,x\n １２ ,1\nb,2\n"), ID)
    assert table.ids == [b"12", b"b"]
    assert table.raw_ids == [" １２ ", "b"]


def test_blanks_around_cells_and_dots_for_missing_are_understood(write: Write) -> None:  # F1
    content = (
        b'\xef\xbb\xbf"id","v","job"\r\n"1","   10.5"," Other "\r\n"2","     .",""\r\n"3","   7","Other"\r\n'
    )
    table = read_table(write(content), ID)
    assert numbers(table, "v") == [10.5, None, 7.0]
    assert words(table, "job") == ["Other", None, "Other"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_line_ending_gives_the_same_rows(write: Write, ending: str) -> None:  # F1
    table = read_table(write(ending.join(["id,x", "a,1", "b,2", ""])), ID)
    assert numbers(table, "x") == [1.0, 2.0]


def test_a_quoted_cell_may_hold_commas_quotes_and_line_breaks(write: Write) -> None:  # F1
    table = read_table(write('id,x,n\n1,"a,\r\n""b""",1\n2,c,2\n'), ID)
    assert words(table, "x") == ['a,\r\n"b"', "c"]


def test_blank_lines_at_the_end_are_no_rows(write: Write) -> None:
    assert read_table(write("id,x\na,1\nb,2\n\n\r\n\n"), ID).rows == 2


def test_a_blank_line_in_the_middle_is_a_row_without_an_id(write: Write) -> None:
    error = refusal(write("id,x\na,1\n\nb,2\n"), ID)
    assert (error.code, error.fields["rows"]) == ("null_id", [2])


def test_words_that_mean_missing_can_be_chosen(write: Write) -> None:
    path = write("id,x,c\n1,9,NA\n2,-999,b\n3,4,b\n")
    table = read_table(path, dataclasses.replace(ID, missing=("", "-999")))
    assert numbers(table, "x") == [9.0, None, 4.0]
    assert words(table, "c") == ["NA", "b", "b"]


def test_a_declared_category_keeps_its_leading_zeros(write: Write) -> None:
    table = read_table(write("id,code\n1,01\n2,1\n3,\n"), dataclasses.replace(ID, categorical=("code",)))
    assert words(table, "code") == ["01", "1", None]


@pytest.mark.parametrize("bad", ["Inf", "-inf", "1e400", "2024-01-31", "1,5", "0x10", "1_000", "５"])
def test_what_is_no_finite_number_in_a_numeric_column_is_refused_with_its_rows(
    write: Write, bad: str
) -> None:  # F4
    rows = [f'{i},"{bad if i in (3, 17) else i}"' for i in range(1, 31)]
    error = refusal(write("id,x\n" + "\n".join(rows)), ID)
    assert error.code == "not_a_number"
    assert error.fields == {"column": "x", "file": "data.csv", "count": 2, "rows": [3, 17]}


def test_only_the_first_twenty_rows_are_listed_and_all_are_counted(write: Write) -> None:  # F4
    rows = [f"{i},{'oops' if i % 20 == 0 else i}" for i in range(1, 1001)]
    error = refusal(write("id,x\n" + "\n".join(rows)), ID)
    assert error.fields["count"] == 50
    assert error.fields["rows"] == [20 * i for i in range(1, 21)]


def test_a_date_in_a_declared_numeric_column_is_refused(write: Write) -> None:  # F4
    path = write("id,x\n1,2024-01-01\n2,2024-01-02\n")
    assert words(read_table(path, ID), "x") == ["2024-01-01", "2024-01-02"]
    assert refusal(path, dataclasses.replace(ID, numeric=("x",))).code == "not_a_number"


def test_a_column_of_mostly_text_is_a_category_even_with_numbers_in_it(write: Write) -> None:
    table = read_table(write("id,x\n1,7\n2,b\n3,8\n4,b\n"), ID)
    assert words(table, "x") == ["7", "b", "8", "b"]


def test_nan_words_are_missing_and_a_signed_number_is_a_number(write: Write) -> None:  # F4
    table = read_table(
        write("id,x,c\n1,NaN,+1\n2,N/A,.5\n3,1,2.\n4,0,x\n"), dataclasses.replace(ID, exclude=("c",))
    )
    assert numbers(table, "x") == [None, None, 1.0, 0.0]
    assert numbers(read_table(write("id,c\n1,+1\n2,.5\n3,2.\n4,1e3\n"), ID), "c") == [1.0, 0.5, 2.0, 1000.0]


# Ids


def test_repeated_ids_are_refused_until_somebody_chooses(write: Write) -> None:  # F2
    path = write("id,x\na,1\nb,2\na,3\nc,4\n ａ,5\n")
    error = refusal(path, ID)
    assert (error.code, error.fields["count"], error.fields["rows"]) == ("duplicate_id", 1, [1, 3, 5])
    first = read_table(path, dataclasses.replace(ID, duplicates="first"))
    assert (numbers(first, "x"), first.source_rows.tolist()) == ([1.0, 2.0, 4.0], [1, 2, 4])
    last = read_table(path, dataclasses.replace(ID, duplicates="last"))
    assert (numbers(last, "x"), last.source_rows.tolist()) == ([2.0, 4.0, 5.0], [2, 4, 5])
    assert last.raw_ids == ["b", "c", " ａ"]


def test_rows_without_an_id_are_refused(write: Write) -> None:  # F2
    error = refusal(write("id,x\na,1\n ,2\nNULL,3\n"), ID)
    assert (error.code, error.fields["rows"]) == ("null_id", [2, 3])


def test_test_ids_are_normalised_as_the_table_is(write: Write) -> None:
    path = write("mobile\n+86 138-0013-8000\n１３９００１３９０００\n")
    assert read_ids(path, ReadOptions("mobile", id_form="phone-cn")) == [b"13800138000", b"13900139000"]


def test_test_ids_without_their_header_are_refused_and_not_shown(write: Write) -> None:
    with pytest.raises(DataError) as caught:
        read_ids(write("13800138000\n13900139000\n"), ReadOptions("mobile"))
    assert caught.value.code == "missing_column"
    assert "13800138000" not in str(caught.value)


# Encodings


def test_gb18030_is_accepted_when_declared_and_refused_when_not(write: Write) -> None:  # F1
    path = write("编号,城市\n一,北京\n二,上海\n", encoding="gb18030")
    table = read_table(path, ReadOptions("编号", encoding="gb18030"))
    assert words(table, "城市") == ["北京", "上海"]
    assert table.ids == ["一".encode(), "二".encode()]
    error = refusal(path, ReadOptions("编号"))
    assert (error.code, error.fields["row"], error.fields["offset"]) == ("encoding_error", 0, 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "utf-16"])
def test_declared_encodings_give_the_same_table(write: Write, encoding: str) -> None:  # F1
    path = write("id,城市\n1,北京\n2,上海\n", encoding=encoding)
    assert words(read_table(path, ReadOptions("id", encoding=encoding)), "城市") == ["北京", "上海"]


def test_mixed_encodings_are_refused_with_row_and_byte(write: Write) -> None:  # F1
    good = 'id,城市\n1,"北\n京"\n'.encode() + b"2,x\n" * 300_000
    bad = good + b"3," + "上海".encode("gbk") + b"\n4,y\n"
    error = refusal(write(bad), ID)
    assert error.code == "encoding_error"
    assert error.fields["offset"] == len(good) + 2
    assert error.fields["row"] == 300_002


def test_half_a_character_at_the_end_is_refused(write: Write) -> None:  # F1
    content = "id,x\n1,a\n2,京".encode()
    error = refusal(write(content[:-1]), ID)
    assert (error.code, error.fields["row"], error.fields["offset"]) == (
        "encoding_error",
        2,
        len(content) - 3,
    )


def test_an_unknown_encoding_is_a_config_error(write: Write) -> None:
    with pytest.raises(ConfigError) as caught:
        read_table(write("id,x\n1,2\n"), ReadOptions("id", encoding="utf-7"))
    assert caught.value.code == "out_of_bounds"


# Shape


@pytest.mark.parametrize("content", ["", "\n\n", "id,x", "id,x\n", "id,x\r\n\r\n", "id,x\na,1\n"])
def test_empty_header_only_and_one_row_are_too_small(write: Write, content: str) -> None:  # F3
    assert refusal(write(content), ID).code == "too_small"


def test_useless_columns_are_left_out_and_listed(write: Write) -> None:  # F3
    table = read_table(write("id,x,k,e,t,g\n1,5,7,,same,9\n2,6,7.0,NA, same,\n"), ID)
    assert list(table.columns) == ["x", "g"], "one value with gaps still says something"
    assert table.dropped == {"k": "constant", "e": "empty", "t": "constant"}


def test_no_feature_left_is_refused(write: Write) -> None:  # F3
    error = refusal(write("id,k\n1,7\n2,7\n"), ID)
    assert (error.code, error.fields["dropped"]) == ("no_features", 1)
    assert refusal(write("id\n1\n2\n"), ID).code == "no_features"


def test_ragged_rows_are_refused_with_their_numbers(write: Write) -> None:
    error = refusal(write("id,x\na,1\nb\nc,3\nd,4,5\n"), ID)
    assert error.code == "bad_csv"
    assert error.fields["rows"] == [2, 4]
    assert "row 2 has 1 cells and the header 2" in str(error)


def test_a_quote_that_never_closes_is_refused(write: Write) -> None:
    error = refusal(write('id,x\na,1\nb,"2\nc,3\nd,4\n'), ID)
    assert error.code == "bad_csv"
    assert "never closed" in str(error)
    assert refusal(write('id,"x\na,1\nb,2\n'), ID).code == "bad_csv"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("id,x,x", "repeated_column"),
        ("id,x, x ", "repeated_column"),
        ("id,x,", "bad_csv"),
        ("ID,x,z", "missing_column"),
    ],
)
def test_headers_that_cannot_be_meant_are_refused(write: Write, header: str, code: str) -> None:
    assert refusal(write(header + "\na,1,2\nb,2,3\n"), ID).code == code


def test_names_and_patterns_choose_the_columns(write: Write) -> None:
    path = write("id,pay_1,pay_2,age,name\n1,1,2,3,a\n2,2,3,4,b\n")
    pays = read_table(path, dataclasses.replace(ID, include=("pay_*", "age"), exclude=("pay_2",)))
    assert list(pays.columns) == ["pay_1", "age"]
    for field in ("include", "exclude", "numeric", "categorical"):
        error = refusal(path, ReadOptions("id", **{field: ("pay_9",)}))  # type: ignore[arg-type]
        assert (error.code, error.fields["column"]) == ("missing_column", "pay_9")


def test_options_that_contradict_each_other_are_refused() -> None:
    for wrong in ({"label": "id"}, {"numeric": ("x",), "categorical": ("x",)}, {"delimiter": "x"}):
        fields: dict[str, Any] = {"id": "id", **wrong}
        with pytest.raises(ConfigError):
            ReadOptions(**fields)


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.tsv", "\t"), ("a.txt", "\t"), ("a.txt", ","), ("a.csv", ",")]
)
def test_the_name_of_the_file_gives_the_delimiter(write: Write, name: str, delimiter: str) -> None:
    path = write("id,x\na,1\nb,2\n".replace(",", delimiter), name)
    assert numbers(read_table(path, ID), "x") == [1.0, 2.0]


def test_a_semicolon_is_read_when_declared(write: Write) -> None:
    path = write("id;x\na;1\nb;2\n")
    assert refusal(path, ID).code == "missing_column"
    assert numbers(read_table(path, dataclasses.replace(ID, delimiter=";")), "x") == [1.0, 2.0]


# Labels


@pytest.mark.parametrize("spelt", [("1", "0"), ("1.0", "0.0"), ("true", "FALSE"), (" 1 ", "0")])
def test_a_binary_label_is_zero_or_one(write: Write, spelt: tuple[str, str]) -> None:
    table = read_table(write(f"id,x,y\na,1,{spelt[0]}\nb,2,{spelt[1]}\n"), ReadOptions("id", label="y"))
    assert table.label is not None
    assert table.label.tolist() == [1.0, 0.0]


def test_the_positive_cell_can_be_named(write: Write) -> None:
    path = write("id,x,y\na,1,good\nb,2, bad\nc,3,good\n")
    table = read_table(path, ReadOptions("id", label="y", positive="bad"))
    assert table.label is not None
    assert table.label.tolist() == [0.0, 1.0, 0.0]
    error = refusal(path, ReadOptions("id", label="y"))
    assert (error.code, error.fields["count"]) == ("bad_label", 3)
    assert refusal(path, ReadOptions("id", label="y", positive="awful")).code == "one_class"


def test_a_missing_label_or_another_number_is_refused(write: Write) -> None:
    error = refusal(write("id,x,y\na,1,1\nb,2,\nc,3,0\nd,4,2\n"), ReadOptions("id", label="y"))
    assert (error.code, error.fields["rows"]) == ("bad_label", [2, 4])


def test_one_class_is_refused(write: Write) -> None:  # F3
    error = refusal(write("id,x,y\na,1,1\nb,2,1\n"), ReadOptions("id", label="y"))
    assert (error.code, error.fields) == ("one_class", {"column": "y", "count": 2})


def test_a_regression_label_is_any_finite_number(write: Write) -> None:
    options = ReadOptions("id", label="y", objective="regression")
    table = read_table(write("id,x,y\na,1,2.5\nb,2,-7\n"), options)
    assert table.label is not None
    assert table.label.tolist() == [2.5, -7.0]
    error = refusal(write("id,x,y\na,1,2.5\nb,2,inf\nc,3,\nd,4,abc\n"), options)
    assert (error.code, error.fields["rows"]) == ("bad_target", [2, 3, 4])


# Caps


def test_more_columns_than_the_cap_are_refused(write: Write) -> None:  # F5
    names = ",".join(f"c{i}" for i in range(10_001))
    assert refusal(write(names + "\n"), ID).code == "too_large"


def test_a_cell_over_a_megabyte_is_refused(write: Write) -> None:  # F5
    error = refusal(write("id,x\na,1\nb," + "9" * 1_000_001 + "\nc,2\n"), ID)
    assert error.code == "too_large"
    assert "Row 2, column x" in str(error)
    assert refusal(write("id,x\na," + "9" * (20 << 20) + "\nc,2\n"), ID).code == "too_large"


def test_a_cell_over_a_megabyte_in_the_id_column_is_refused(write: Write) -> None:  # F5
    assert refusal(write("id,x\na,1\n" + "9" * 1_000_001 + ",2\n"), ID).code == "too_large"


def test_a_file_over_the_cap_is_refused_before_it_is_read(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:  # F5
    monkeypatch.setattr(table_files, "MAX_FILE_BYTES", 10)
    assert refusal(write("id,x\na,1\nb,2\n"), ID).code == "too_large"


# Scoring and the table itself


def test_a_schema_reads_the_next_file_as_the_first_one_was(write: Write) -> None:
    first = read_table(
        write("id,x,city,code\n1,5,Paris,1\n2,6,Lyon,2\n"), dataclasses.replace(ID, categorical=("code",))
    )
    schema = Schema.from_document(first.schema.to_document())
    assert schema == first.schema
    later = read_table(write("id,extra,code,city,x\n9,0,2,Rome,5\n"), ID, schema=schema)
    assert list(later.columns) == ["x", "city", "code"]
    assert numbers(later, "x") == [5.0]
    assert later.columns["city"].missing.tolist() == [True], "a level never met counts as missing"
    code = later.columns["code"]
    assert isinstance(code, CategoryColumn)
    assert code.levels == ("1", "2")
    assert code.codes.tolist() == [1]


def test_rows_can_be_taken_in_any_order(write: Write) -> None:
    table = read_table(write("id,x,c,y\na,1,u,0\nb,2,v,1\nc,3,,1\n"), ReadOptions("id", label="y"))
    part = table.take(np.array([2, 0]))
    assert (part.ids, part.raw_ids, part.source_rows.tolist()) == ([b"c", b"a"], ["c", "a"], [3, 1])
    assert (numbers(part, "x"), words(part, "c")) == ([3.0, 1.0], [None, "u"])
    assert part.label is not None
    assert part.label.tolist() == [1.0, 0.0]


def test_a_table_shows_neither_ids_nor_values(write: Write) -> None:
    table = read_table(write("id,x,c\nsecret1,123456,hush\nsecret2,654321,hist\n"), ID)
    shown = repr(table) + "".join(repr(column) for column in table.columns.values())
    assert not any(word in shown for word in ("secret", "123456", "hush"))


def test_progress_ends_at_the_size_of_the_file(write: Write) -> None:
    steps: list[Step] = []
    path = write("id,x\na,1\nb,2\n")
    read_table(path, ID, Progress(steps.append))
    assert steps[-1].total == path.stat().st_size


def test_the_digest_is_that_of_the_bytes(write: Write) -> None:
    path = write("abc")
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# The property: what is written is what is read

_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\x1a", exclude_categories=("Cs", "Cc", "Cf")),
    max_size=8,
)
_CELL = st.one_of(_TEXT, st.sampled_from(['"', ",", "a\nb", "\r\n", "a,b", '""', "x\ry"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(_CELL, st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        min_size=2,
        max_size=12,
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "gb18030", "utf-16"]),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_is_what_is_read(
    write: Write, rows: list[tuple[str, float | None]], encoding: str, ending: str
) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    lines = [
        f"00{i},{quoted(text)},{'' if number is None else repr(number)},{i}"
        for i, (text, number) in enumerate(rows)
    ]
    path = write(ending.join(["id,text,number,i", *lines]), encoding=encoding)
    options = ReadOptions("id", encoding=encoding, categorical=("text",), numeric=("number",), missing=("",))
    schema = Schema.from_document(
        [
            {"name": "text", "kind": "category", "levels": sorted({text.strip() for text, _ in rows})},
            {"name": "number", "kind": "numeric", "levels": []},
        ]
    )
    table = read_table(path, options, schema=schema)
    assert table.ids == [f"00{i}".encode() for i in range(len(rows))]
    assert words(table, "text") == [text.strip() or None for text, _ in rows]
    assert numbers(table, "number") == [number for _, number in rows]
