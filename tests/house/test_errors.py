"""Every code of the catalogue is raised somewhere, and every code that is raised is in the catalogue."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import pytest

from isthmus.base.errors import CLASSES, Entry, IsthmusError

SOURCE = Path(__file__).parents[2] / "src"
CATALOGUE = SOURCE / "isthmus" / "base" / "errors.py"
ENTRIES = [(cls, code, entry) for cls in CLASSES for code, entry in cls.entries.items()]


def raised() -> set[tuple[str, str]]:
    """Class and code of every error that is made anywhere but in the catalogue itself."""
    names = {cls.__name__ for cls in CLASSES}
    return {
        (ast.unparse(call.func).split(".")[-1], part.value)
        for path in SOURCE.rglob("*.py")
        if path != CATALOGUE
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and call.args and ast.unparse(call.func).split(".")[-1] in names
        for part in ast.walk(call.args[0])
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def test_every_code_is_raised_and_every_raised_code_is_known() -> None:
    assert raised() | {("LocalError", "bug")} == {(cls.__name__, code) for cls, code, _ in ENTRIES}


def test_a_code_belongs_to_one_class() -> None:
    codes = [code for _, code, _ in ENTRIES]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(("cls", "code", "entry"), ENTRIES, ids=[code for _, code, _ in ENTRIES])
def test_both_languages_are_filled_from_the_same_fields(
    cls: type[IsthmusError], code: str, entry: Entry
) -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert fields(entry.en) == fields(entry.zh)
    assert fields(entry.hint_en) == fields(entry.hint_zh)
    assert entry.en.endswith(".")
    assert entry.zh.endswith("。")
