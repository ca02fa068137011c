from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.base.errors import DataError
from isthmus.table import IdForm, ReadOptions, match_key, read_table

GOOD: list[tuple[IdForm, str, str]] = [
    ("none", " A１2 ", "A12"),
    ("none", "007", "007"),
    ("none", "ﬁ", "fi"),
    ("none", "张\u3000", "张"),
    ("phone-cn", "13800138000", "13800138000"),
    ("phone-cn", "+86 138-0013-8000", "13800138000"),
    ("phone-cn", "0086 138 0013 8000", "13800138000"),
    ("phone-cn", "8613800138000", "13800138000"),
    ("phone-cn", "＋８６（１３８）００１３－８０００", "13800138000"),
    ("phone-cn", "138–0013–8000", "13800138000"),
    ("phone-e164", "+49 (30) 901820", "+4930901820"),
    ("phone-e164", "0049 30 901820", "+4930901820"),
    ("email", " Ann.B@Example.COM ", "ann.b@example.com"),
    ("id-card-cn", "11010519491231002x", "11010519491231002X"),
    ("id-card-cn", "１１０１０５１９４９１２３１００２Ｘ", "11010519491231002X"),
]
BAD: list[tuple[IdForm, str]] = [
    ("none", "1.38E+10"),
    ("none", "1e+05"),
    ("none", "a\u200bb"),
    ("none", "a\tb"),
    ("none", "x" * 257),
    ("none", "13800138000.0"),
    ("none", "  "),
    ("phone-cn", "1380013800"),
    ("phone-cn", "23800138000"),
    ("phone-cn", "+1 13800138000"),
    ("phone-cn", "13800138000.0"),
    ("phone-cn", "1380013800a"),
    ("phone-e164", "030 901820"),
    ("phone-e164", "+0123456789"),
    ("phone-e164", "+1234567890123456"),
    ("email", "ann.example.com"),
    ("email", "a b@example.com"),
    ("email", "a@b@example.com"),
    ("email", "a@localhost"),
    ("id-card-cn", "110105194912310021"),
    ("id-card-cn", "110105491231002"),
    ("id-card-cn", "11010519491231002Y"),
]


@pytest.mark.parametrize(("form", "raw", "key"), GOOD)
def test_spellings_of_one_person_give_one_key(form: IdForm, raw: str, key: str) -> None:  # F2
    assert match_key(raw, form) == key.encode()


@pytest.mark.parametrize(("form", "raw"), BAD)
def test_malformed_ids_give_no_key(form: IdForm, raw: str) -> None:  # F2
    assert match_key(raw, form) is None


@given(
    raw=st.text(max_size=40), form=st.sampled_from(["none", "phone-cn", "phone-e164", "email", "id-card-cn"])
)
@settings(max_examples=200, deadline=None)
def test_a_key_is_its_own_key(raw: str, form: IdForm) -> None:
    key = match_key(raw, form)
    if key is not None:
        assert match_key(key.decode(), form) == key
        assert unicodedata.is_normalized("NFKC", key.decode())


def test_malformed_ids_are_listed_by_row(tmp_path: Path) -> None:  # F2
    path = tmp_path / "data.csv"
    path.write_text("mobile,x\n13800138000,1\n138,2\n13900139000,3\nabc,4\n")
    with pytest.raises(DataError) as caught:
        read_table(path, ReadOptions("mobile", id_form="phone-cn"))
    assert caught.value.code == "malformed_id"
    fields = {"column": "mobile", "file": "data.csv", "form": "phone-cn", "count": 2, "rows": [2, 4]}
    assert caught.value.fields == fields


def test_two_spellings_of_one_phone_are_a_repeat(tmp_path: Path) -> None:  # F2
    path = tmp_path / "data.csv"
    path.write_text("mobile,x\n13800138000,1\n+86 13800138000,2\n")
    with pytest.raises(DataError) as caught:
        read_table(path, ReadOptions("mobile", id_form="phone-cn"))
    assert (caught.value.code, caught.value.fields["rows"]) == ("duplicate_id", [1, 2])
