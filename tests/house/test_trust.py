"""Threats and faults of the path between partners and of sums over devices: each is answered for by a test with its id."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
DUE = {
    *("T22", "T23", "T24", "T25", "T26"),
    *("P1", "P2", "P3", "P4", "P5", "P6", "P9"),
    *("N1", "N2", "N3", "D5", "A7", "K16", "G3"),
    *("M12", "M13", "M14", "M15"),
    *("T16", "T18", "T20", "P11", "U9", "K11", "K12", "M27", "M28", "M29", "M30"),
}


def ids_of(file: Path) -> set[str]:
    """What the marks of one file of tests name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.trust":
            found |= {ast.literal_eval(argument) for argument in node.args}
    return found


def test_every_id_that_is_due_is_carried_by_a_test() -> None:
    carried = set().union(*map(ids_of, TESTS.rglob("test_*.py")))
    assert carried >= DUE
