"""The weakened copies cannot get into the product."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

from tests.attacks import weak

ROOT = Path(__file__).parents[2]


def imports_tests(source: str) -> bool:
    """An import of anything under tests, or of a module whose name is put together at run time."""
    for node in ast.walk(ast.parse(source)):
        named: list[str | None] = []
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            named = [node.module]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in {"import_module", "__import__", "spec_from_file_location", "run_path", "run_module"}:
                first = node.args[0] if node.args else None
                named = [str(first.value) if isinstance(first, ast.Constant) else "tests"]
        if any((name or "").split(".")[0] == "tests" for name in named):
            return True
    return False


def test_no_module_of_the_product_can_import_them() -> None:
    found = [path for path in (ROOT / "src").rglob("*.py") if imports_tests(path.read_text("utf-8"))]
    assert found == []


def test_the_gate_sees_an_import_of_a_weak_copy() -> None:
    assert imports_tests(f"from {weak.__name__}.draws import NoMask")
    assert imports_tests(f"import {weak.__name__}")
    assert imports_tests("importlib.import_module(name)")
    assert imports_tests("importlib.import_module('tests.attacks.weak')")
    assert not imports_tests("importlib.import_module('gmpy2')")
    assert not imports_tests("from isthmus.crypto.lattice.outer import Drawn")


def test_a_wheel_holds_nothing_but_the_product() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/isthmus"]
