"""Every id that is due has a test that is there, and no entry names one that is not."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from tests.house.due import PENDING, SHOWN
from tests.mutants.known import MUTANTS

TESTS = Path(__file__).parents[1]
DUE = {
    *(f"F{number}" for number in range(1, 13)),
    *(f"A{number}" for number in (*range(1, 9), 10)),
    *(f"P{number}" for number in (*range(1, 8), *range(9, 13))),
    *(f"N{number}" for number in range(1, 8)),
    *(f"D{number}" for number in range(1, 8)),
    *(f"U{number}" for number in range(1, 11)),
}


@cache
def collected(file: Path) -> frozenset[str]:
    """What pytest collects of a file: functions of the module by the names of tests."""
    if not (file.name.startswith("test_") and file.is_file()):
        return frozenset()
    tree = ast.parse(file.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(
        node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_")
    )


def missing(tests: tuple[str, ...]) -> list[str]:
    found = []
    for test in tests:
        file, _, name = test.partition("::")
        if name not in collected(TESTS / file):
            found.append(test)
    return found


def test_every_id_that_is_due_is_shown_or_says_what_it_waits_for() -> None:
    assert set(SHOWN) | set(PENDING) == DUE
    assert not set(SHOWN) & set(PENDING)
    assert all(SHOWN.values())
    assert all(len(word) > 10 for word in PENDING.values())


@pytest.mark.parametrize("name", SHOWN)
def test_every_test_that_is_named_is_there(name: str) -> None:
    assert missing(SHOWN[name]) == []
    assert len(set(SHOWN[name])) == len(SHOWN[name])


def test_a_test_that_is_gone_is_noticed() -> None:
    gone = (
        "house/test_due.py::test_nothing",
        "house/none.py::test_a",
        "house/due.py::SHOWN",
        "house/test_due.py",
    )
    assert missing(gone) == list(gone)


def test_mutants_name_tests_that_are_collected() -> None:
    named = {
        test.removeprefix("tests/").partition("[")[0] for m in MUTANTS for test in m.tests if "::" in test
    }
    assert missing(tuple(sorted(named))) == []
