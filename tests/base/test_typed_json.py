"""Dataclasses as JSON: what is written is read again, and anything else is refused by the name of its field."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from isthmus.base.typed_json import read, write


@dataclass(frozen=True)
class Inner:
    key: bytes
    share: float


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    on: bool
    inner: tuple[Inner, ...]
    weights: dict[str, float]
    note: str | None


VALUE = Outer("a", 3, True, (Inner(b"\x01\xff", 0.5), Inner(b"", 2.0)), {"dwell": 1.0}, None)


def test_what_is_written_is_read_again() -> None:
    assert read(Outer, write(VALUE)) == VALUE


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"count":3', '"count":3.5', "count"),
        ('"count":3', '"count":true', "count"),
        ('"count":3', '"count":3,"count":3', "twice"),
        ('"count":3,', "", "count is missing"),
        ('"count":3', '"count":3,"more":1', "more is unknown"),
        ('"on":true', '"on":1', "on"),
        ('"key":"01ff"', '"key":"01FF"', r"inner\[0\].key"),
        ('"key":"01ff"', '"key":"zz"', r"inner\[0\].key"),
        ('"share":0.5', '"share":NaN', "NaN"),
        ('"share":0.5', '"share":1e999', r"inner\[0\].share"),
        ('"dwell":1', '"dwell":"1"', "weights.dwell"),
        ('"note":null', '"note":7', "note"),
        ('"name":"a"', '"name":null', "name"),
    ],
)
def test_anything_else_is_refused_by_name(old: str, new: str, named: str) -> None:
    body = write(VALUE).decode()
    assert old in body
    with pytest.raises(ValueError, match=named):
        read(Outer, body.replace(old, new, 1).encode())


def test_a_deep_document_is_refused() -> None:
    with pytest.raises(ValueError, match="deep"):
        read(Outer, b"[" * 100_000)
