"""What no file of the package may hold, read from its syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FILES = sorted(SOURCE.rglob("*.py"))
HAN = re.compile(r"[\u3400-\u9fff]")
LETTERS = re.compile(r"[A-Za-z]")

# They run code that stands in the data, or (multiprocessing) carry data that way.
FORBIDDEN_MODULES = {
    *("pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"),
    *("multiprocessing", "concurrent.futures.process", "xmlrpc", "code", "codeop"),
}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
FORBIDDEN_ATTRIBUTES = {
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.Loader", "yaml.UnsafeLoader"),
    *(
        "os.system",
        "os.popen",
        "os.fork",
        "np.load",
        "numpy.load",
        "np.fromfile",
        "builtins.eval",
        "builtins.exec",
    ),
}


def findings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that may not be there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in FORBIDDEN_MODULES or alias.name.split(".")[0] in FORBIDDEN_MODULES:
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = {module, module.split(".")[0], *(f"{module}.{alias.name}" for alias in node.names)}
            for name in names & (FORBIDDEN_MODULES | FORBIDDEN_ATTRIBUTES):
                yield node.lineno, name
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in FORBIDDEN_ATTRIBUTES:
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call):
            yield from suspicious_call(node)


def suspicious_call(node: ast.Call) -> Iterator[tuple[int, str]]:
    for keyword in node.keywords:
        if keyword.arg in ("allow_pickle", "shell") and not _is(keyword.value, False):
            yield node.lineno, f"{keyword.arg}="
    called = ast.unparse(node.func)
    if called.endswith("import_module") and not (node.args and isinstance(node.args[0], ast.Constant)):
        yield node.lineno, "import_module of a name that is not written out"


def _is(node: ast.AST, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def lonely_chinese(tree: ast.AST) -> list[int]:
    """Lines with Chinese text that does not stand beside its English, nor in a function that is told the language."""
    paired: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and {arg.arg for arg in node.args.args} & {"language", "en"}:
            paired |= {id(text) for text in ast.walk(node) if _is_text(text)}
            continue
        if isinstance(node, ast.IfExp):
            parts = [node.body, node.orelse]
        elif isinstance(node, ast.Call):
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Tuple):
            parts = list(node.elts)
        elif isinstance(node, ast.Dict):
            parts = list(node.values)
        else:
            continue
        texts = [[text for text in ast.walk(part) if _is_text(text)] for part in parts]
        english = any(texts and not any(_has_han(t) for t in texts) and _in_english(texts) for texts in texts)
        if english:
            paired |= {id(text) for part in texts for text in part}
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        text.lineno
        for text in ast.walk(tree)
        if isinstance(text, ast.Constant) and _has_han(text) and id(text) not in paired | docstrings
    ]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _has_han(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(HAN.search(node.value))


def _in_english(texts: list[ast.AST]) -> bool:
    return any(isinstance(text, ast.Constant) and LETTERS.search(str(text.value)) for text in texts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_can_run_code_that_comes_with_data(path: Path) -> None:
    assert list(findings(ast.parse(path.read_text("utf-8")))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_chinese_text_stands_beside_its_english(path: Path) -> None:
    assert lonely_chinese(ast.parse(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.externals",
        "import multiprocessing.pool",
        "from yaml import load",
        "eval('1')",
        "f = exec",
        "yaml.load(text)",
        "numpy.load(path)",
        "subprocess.run(words, shell=True)",
        "reader(path, allow_pickle=flag)",
        "importlib.import_module(name)",
        "from importlib import import_module; import_module(name)",
        "from os import system",
    ],
)
def test_the_gate_sees_each_way_in(line: str) -> None:
    assert list(findings(ast.parse(line)))


def test_the_gate_lets_ordinary_code_pass() -> None:
    text = "import json\nre.compile(p)\nsubprocess.run(words, shell=False)\nimportlib.import_module('gmpy2')"
    assert list(findings(ast.parse(text))) == []


def test_lonely_chinese_is_found_and_paired_chinese_is_not() -> None:
    assert lonely_chinese(ast.parse("say('作业')")) == [1]
    assert lonely_chinese(ast.parse("x = '作业'")) == [1]
    assert lonely_chinese(ast.parse("say('the job', '作业' + name)")) == []
    assert lonely_chinese(ast.parse("words = {'en': 'job', 'zh': '作业'}")) == []


def test_text_of_a_function_that_is_told_the_language_is_paired() -> None:
    assert (
        lonely_chinese(ast.parse("def f(language):\n    return 'job' if language == 'en' else '作业'")) == []
    )
    assert lonely_chinese(ast.parse("def f(other):\n    return '作业'")) == [2]


def test_every_folder_is_a_package_with_a_sentence_about_itself() -> None:
    for folder in sorted({path.parent for path in FILES} - {SOURCE}):
        text = (folder / "__init__.py").read_text("utf-8")
        assert ast.get_docstring(ast.parse(text)), folder
