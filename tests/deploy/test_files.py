"""What the files of deploy/ promise, read from the files: Python versions, pins, confinement."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
COMPOSE = ("compose.yaml", "compose.trial.yaml")
MINORS = [f"3.{minor}" for minor in range(8, 30)]


def services(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / name).read_text("utf-8"))["services"]
    return found


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Package to version and hashes."""
    text = (DEPLOY / name).read_text("utf-8").replace("\\\n", " ")
    rows = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {
        canonicalize_name(row.partition("==")[0]): (
            row.partition("==")[2].split()[0],
            re.findall(r"--hash=sha256:([0-9a-f]{64})(?!\S)", row),
        )
        for row in rows
    }


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def supported() -> list[str]:
    return [minor for minor in MINORS if SpecifierSet(PROJECT["requires-python"]).contains(minor)]


def test_the_base_image_has_a_python_that_the_project_supports() -> None:
    base = re.search(r"^ARG BASE=python:(\d+\.\d+)-slim-\w+(?:@sha256:[0-9a-f]{64})?$", DOCKERFILE, re.M)
    assert base
    assert base[1] in supported()


def test_every_place_names_the_same_pythons() -> None:
    classified = [
        text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: Python :: 3\.\d+$", text)
    ]
    run = (ROOT / "run").read_text("utf-8")
    bounds = re.search(r"supported='\((\d+), (\d+)\) <= .* <= \((\d+), (\d+)\)'", run)
    assert bounds
    asked = [minor for minor in MINORS if int(bounds[2]) <= int(minor[2:]) <= int(bounds[4])]
    found = re.search(r"for candidate in ((?:python3\.\d+ )+)", run)
    assert found
    tried = [word.removeprefix("python") for word in reversed(found[1].split())]
    assert classified == supported() == asked == tried
    for page in ("README.md", "README.zh.md", "docs/licences.md"):
        text = (ROOT / page).read_text("utf-8")
        assert supported()[0] in text, page
        assert supported()[-1] in text, page


def test_an_image_gets_what_the_constraints_pin_and_nothing_else() -> None:
    found = {name: version for name, (version, _) in locked("requirements.lock").items()}
    assert found == {name: pins()[name] for name in found}
    page = (ROOT / "docs/licences.md").read_text("utf-8")
    core = set(re.findall(r"^\| ([a-z0-9-]+) \| \d", page, re.M))
    postgres = page.partition("## The extra `postgres`")[2].partition("\n## ")[0]
    assert set(found) == core | set(re.findall(r"\*\*([a-z0-9-]+)\*\* \d", postgres))


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_every_package_of_a_lock_has_hashes(name: str) -> None:
    found = locked(name)
    assert found
    assert [package for package, (_, hashes) in found.items() if not hashes] == []
    for package, (version, _) in found.items():
        assert pins().get(package, version) == version


def test_every_instruction_is_in_the_exec_form_and_takes_packages_by_hash() -> None:
    logical = DOCKERFILE.replace("\\\n", " ").splitlines()
    for line in logical:
        if line.startswith(("RUN", "CMD", "ENTRYPOINT")):
            assert re.fullmatch(r"[A-Z]+ +(?:--\S+ +)*\[.*\]", line), line
        if '"install"' in line or '"wheel"' in line:
            assert '"--require-hashes"' in line or '"--no-index"' in line, line
    assert [line for line in logical if line.startswith("USER ")] == ["USER 10001:10001"]


def test_the_image_carries_the_version_of_the_project() -> None:
    assert f"\nARG VERSION={PROJECT['version']}\n" in DOCKERFILE


def test_the_build_sees_every_file_that_it_copies_and_no_data() -> None:
    """The last pattern that fits decides; `!` lets a file through."""
    rules = [
        line for line in (ROOT / ".dockerignore").read_text("utf-8").split("\n") if line and line[0] != "#"
    ]

    def seen(path: str) -> bool:
        let = True
        for rule in rules:
            bare = rule.removeprefix("!").removeprefix("**/")
            if fnmatch.fnmatch(path, bare) or path.startswith(f"{bare}/"):
                let = rule.startswith("!")
        return let

    copied = [
        word for line in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.M) for word in line.split()
    ]
    assert {"src", "pyproject.toml", "deploy/requirements.lock"} <= set(copied)
    assert [path for path in copied if not seen(path)] == []
    assert not any(
        seen(path) for path in (".git/config", ".venv/bin/python", ".demo/key", "tests", "bank.csv")
    )


@pytest.mark.parametrize("name", COMPOSE)
def test_every_service_is_confined(name: str) -> None:
    for title, service in services(name).items():
        assert service["read_only"] is True, title
        assert service["user"] == "10001:10001", title
        assert service["cap_drop"] == ["ALL"], title
        assert service["security_opt"] == ["no-new-privileges:true"], title
        assert service["mem_limit"], title
        assert service["pids_limit"] <= 512, title
        assert {"privileged", "cap_add", "environment", "env_file", "devices", "pid", "ipc"}.isdisjoint(
            service
        )
        assert service.get("network_mode") != "host", title


@pytest.mark.parametrize("name", COMPOSE)
def test_a_service_waits_only_for_services_that_there_are(name: str) -> None:
    known = services(name)
    for service in known.values():
        waits = service.get("depends_on", {})
        assert set(waits) <= set(known)
        for other, how in waits.items():
            if how["condition"] == "service_healthy":
                assert known[other]["healthcheck"]["test"] == ["CMD", "isthmus", "health"]
        kind, _, shared = service.get("network_mode", "").partition(":")
        assert kind != "service" or shared in known


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
@pytest.mark.parametrize("name", COMPOSE)
def test_compose_reads_the_files(name: str) -> None:
    """Without the name of the project, which the first generation of the program does not know."""
    text = re.sub(r"^name: .*\n", "", (DEPLOY / name).read_text("utf-8"), flags=re.M)
    done = subprocess.run(
        ["docker-compose", "--file", "-", "config", "--quiet"],
        cwd=DEPLOY,
        env=os.environ | {"ISTHMUS_DATA": str(ROOT)},
        input=text,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(["hadolint", str(DEPLOY / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
