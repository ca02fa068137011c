"""Both READMEs say the same, and what they tell people to type is run here, on small tables and loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

from isthmus.cli.main import cli
from isthmus.scenarios import generated

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = (ROOT / name for name in ("README.md", "README.zh.md"))
FENCE = re.compile(r"^(?:<!-- (\w+): ([\w.]+) -->\n)?```(\w+)\n(.*?)^```$", re.M | re.S)
HAN = re.compile(r"[\u3400-\u9fff]")
RUNS = {"demo", "try", "join"}
WAIT_S = 60.0


@dataclass(frozen=True)
class Block:
    """A fenced block and the remark above it: `runs: NAME` or `file: NAME`."""

    verb: str
    name: str
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(path.read_text("utf-8"))]


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Who types a line, and the line; `# NAME` says who types what follows."""
    who = ""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("#"):
            who = line.removeprefix("#").strip()
        elif line.strip():
            yield who, line


@dataclass
class Desk:
    """A folder and a shell in which `isthmus` is the program under test."""

    folder: Path
    serving: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        program = self.folder / "bin" / "isthmus"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m isthmus.cli.main "$@"\n', "utf-8")
        program.chmod(0o755)

    def environment(self, home: str) -> dict[str, str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        source = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
        return os.environ | {
            "PATH": path,
            "PYTHONPATH": source,
            "ISTHMUS_HOME": str(self.folder / home),
            "LC_ALL": "C.UTF-8",
        }

    def type(self, line: str, home: str = "home", typed: str = "") -> str:
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder,
            env=self.environment(home),
            input=typed,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, line: str, home: str, up: Callable[[], bool] | None = None) -> None:
        """Starts a command that stays, and waits until it is up: a node, unless told otherwise."""
        with (self.folder / f"{home}.log").open("ab") as log:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {line}"],
                cwd=self.folder,
                env=self.environment(home),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.serving.append(process)
        self.until(f"{home} runs", up or (lambda: (self.folder / home / "control.json").exists()))

    def until(self, what: str, holds: Any) -> None:
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, f"waited for: {what}"
            time.sleep(0.1)

    def end(self) -> None:
        for process in self.serving:
            os.killpg(process.pid, signal.SIGINT)
        for process in self.serving:
            process.wait(30)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    here = Desk(tmp_path)
    try:
        yield here
    finally:
        here.end()


def marked(name: str) -> list[str]:
    return [block.text for block in blocks(ENGLISH) if (block.verb, block.name) == ("runs", name)]


def test_both_readmes_have_the_same_headings_in_the_same_order() -> None:
    levels = [re.findall(r"^(#+) ", strip_fences(path), re.M) for path in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]
    steps = [re.findall(r"^\*\*(\d)\.", path.read_text("utf-8"), re.M) for path in (ENGLISH, CHINESE)]
    assert steps[0] == steps[1] == list("12345")


def strip_fences(path: Path) -> str:
    return FENCE.sub("", path.read_text("utf-8"))


def test_both_readmes_show_the_same_blocks() -> None:
    assert blocks(ENGLISH) == blocks(CHINESE)


def test_both_readmes_lead_to_the_same_pages() -> None:
    links = [re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8")) for path in (ENGLISH, CHINESE)]
    assert sorted(set(links[0]) - {"README.zh.md"}) == sorted(set(links[1]) - {"README.md"})


def test_each_language_keeps_to_itself() -> None:
    english = re.sub(r"# Isthmus 地峡|\[中文\]", "", ENGLISH.read_text("utf-8"))
    assert not HAN.search(english)
    prose = strip_fences(CHINESE)
    assert len(HAN.findall(prose)) > 800


def test_every_shell_block_is_one_that_is_run_here() -> None:
    shell = [block for block in blocks(ENGLISH) if block.language in ("sh", "bash", "shell", "console")]
    assert {block.verb for block in shell} == {"runs"}
    assert {block.name for block in shell} == RUNS


def test_the_verbs_of_run_exist() -> None:
    shown = subprocess.run([str(ROOT / "run")], capture_output=True, text=True).stdout
    text = ENGLISH.read_text("utf-8") + (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for verb in set(re.findall(r"\./run ([a-z]+)", text)):
        assert f"./run {verb}" in shown


def test_every_command_that_the_pages_name_exists() -> None:
    pages = [ENGLISH, CHINESE, *(ROOT / "docs").rglob("*.md")]
    found = [
        re.findall(r"(?:^|`)isthmus ([a-z][a-z-]*(?: [a-z]+)?)", page.read_text("utf-8"), re.M)
        for page in pages
    ]
    named = {tuple(words.split()) for page in found for words in page}
    context = click.Context(cli)
    assert {"init", "serve", "doctor", "partner", "dataset", "job", "try"} <= {words[0] for words in named}
    for words in named:
        command = cli.get_command(context, words[0])
        assert command, words
        if isinstance(command, click.Group) and len(words) > 1:
            assert command.get_command(context, words[1]), words


@pytest.mark.slow
def test_the_demo_holds_what_it_promises(desk: Desk) -> None:
    """The same command on a smaller, generated portfolio; `./run test` is what runs this."""
    (block,) = marked("demo")
    lines = [line for _, line in commands(block)]
    assert lines == ["./run demo", "./run test"]
    small = "isthmus demo --data generated --rows 3000 --set trees=4 --set max_bins=16"
    assert "all 9 checks hold" in desk.type(small)
    assert (desk.folder / ".demo/credit-card/report/report.zh.html").exists()


@pytest.mark.slow
def test_own_files_become_a_report_and_scores(desk: Desk) -> None:
    generated.write_tables(desk.folder, rows=2000, seed=1)
    (block,) = marked("try")
    for _, line in commands(block):
        assert "trees=20" in line
        desk.type(line.replace("trees=20", "trees=2"))
    made = sorted(path.name for path in (desk.folder / "result").iterdir())
    assert made == ["report.html", "report.json", "scores.csv"]
    report = json.loads((desk.folder / "result" / "report.json").read_text("utf-8"))
    assert report["rows"]["common"] > 1500


@pytest.mark.slow
def test_two_institutions_join_and_train_as_the_five_steps_say(desk: Desk) -> None:
    """Each line as it stands, but for the address, fewer trees, and what people read to each other."""
    generated.write_tables(desk.folder / "tables", rows=2000, seed=1)
    (job_file,) = (block for block in blocks(ENGLISH) if block.verb == "file")
    assert "trees: 20" in job_file.text
    (desk.folder / job_file.name).write_text(job_file.text.replace("trees: 20", "trees: 2"), "utf-8")
    port = free_port()
    job = ""

    for block in marked("join"):
        for who, text in commands(block):
            for home in ("river-bank", "data-co") if who == "both" else (who,):
                line = text.replace("0.0.0.0:7443", f"127.0.0.1:{port}")
                line = line.replace("river-bank.example:7443", f"127.0.0.1:{port}").replace(
                    "JOB", job or "JOB"
                )
                if line == "isthmus serve":
                    desk.serve(line, home)
                elif "WORD" in line:
                    words = json.loads(desk.type("isthmus partner ls -o json", home))[0]["words"]
                    desk.type(line.replace("WORD WORD WORD WORD", " ".join(words)), home)
                elif "job run" in line:
                    job = json.loads(desk.type(f"{line} -o json", home))["id"]
                    desk.until(
                        "data-co hears of it", lambda job=job: job in desk.type("isthmus job ls", "data-co")
                    )
                elif "--partner" in line:
                    desk.until("the line", lambda home=home: connected(desk, home))
                    desk.type(line, home)
                else:
                    desk.type(line, home, typed="y\n")
    shown = json.loads(desk.type(f"isthmus job show {job} -o json", "river-bank"))
    assert shown["state"] == "done"
    assert {path.name for path in Path(shown["folder"]).iterdir()} >= {"report.json", "scores.csv"}


def connected(desk: Desk, home: str) -> bool:
    return all(partner["connected"] for partner in json.loads(desk.type("isthmus partner ls -o json", home)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
