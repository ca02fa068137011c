"""Pins, licences, floors, and files that must stay free of one machine's traces."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FOLDERS = ("src", "tests", "docs", "benchmarks", "deploy", ".ci")
TEXT = {".py", ".md", ".txt", ".toml", ".yaml", ".yml", ".json", ".html", ".css", ".csv", ".cfg", ".lock", ""}


def closure(requirements: list[str]) -> set[str]:
    """Names of everything that these bring along, as the installed packages say."""
    found: set[str] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name in found:
            continue
        found.add(name)
        extras = wanted.extras or {""}
        for text in distribution(name).requires or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def listed_licences() -> dict[str, tuple[str, str]]:
    """Package to version and licence, as docs/licences.md lists them."""
    rows = re.findall(
        r"^\| ([a-z0-9-]+) \| ([^|]+) \| ([^|]+) \|", (ROOT / "docs/licences.md").read_text("utf-8"), re.M
    )
    return {name: (version, licence) for name, version, licence in rows if name != "package"}


def committed_files() -> Iterator[Path]:
    for path in ROOT.iterdir():
        if path.is_file() and path.suffix in TEXT:
            yield path
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts:
                yield path


def test_constraints_are_plain_pins() -> None:
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        assert not line or line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line


def test_everything_that_is_installed_is_pinned() -> None:
    core = closure(PROJECT["project"]["dependencies"])
    dev = closure(PROJECT["dependency-groups"]["dev"])
    assert core | dev <= set(pins())


def test_the_licence_page_lists_the_core_and_nothing_else() -> None:
    core = closure(PROJECT["project"]["dependencies"])
    assert set(listed_licences()) == core
    assert {name: version for name, (version, _) in listed_licences().items()} == {
        name: pins()[name] for name in core
    }


def test_the_licences_listed_are_those_of_the_metadata() -> None:
    for name, (_, licence) in listed_licences().items():
        metadata = distribution(name).metadata
        said = metadata["License-Expression"] or metadata["License"] or ""
        said += " ".join(text for text in metadata.get_all("Classifier", []) if text.startswith("License"))
        family = re.split(r"[-\s]", licence)[0]
        assert family.lower() in said.lower(), (name, licence, said)


def test_no_package_of_the_core_is_under_the_gpl() -> None:
    for name, (_, licence) in listed_licences().items():
        assert "GPL" not in licence, name


def test_every_direct_dependency_is_imported() -> None:
    imported: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    modules = {
        "pyyaml": "yaml",
        "annotated-types": "annotated_types",
        "prometheus-client": "prometheus_client",
    }
    names = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"]}
    assert {name for name in names if modules.get(name, name) not in imported} == set()


def test_the_licence_is_the_whole_apache_text() -> None:
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert f'__version__ = "{version}"' in (ROOT / "src/isthmus/__init__.py").read_text("utf-8")
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_imports_only_go_down_the_floors() -> None:
    check = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", check, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_names_a_place_of_one_machine_or_a_package_registry() -> None:
    traces = [
        "/" + "work/",
        "/" + "root/",
        "/" + "home/",
        "/" + "Users/",
        "python" + "hosted",
        "file:" + "///",
    ]
    traces += ["py" + "pi.org", "index" + "-url"]
    found = [
        f"{path.relative_to(ROOT)}: {trace}"
        for path in committed_files()
        for trace in traces
        if trace in path.read_text("utf-8")
    ]
    assert found == []


def test_the_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + "run: ./run docs"


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if "://" not in target
    ]
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page, target in links
        if not (page.parent / target).exists()
    ]
    assert links
    assert broken == []
