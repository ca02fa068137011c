"""./run without a network: a stand-in uv, a stand-in Python, a checkout in a folder with blanks in its name."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "env", "cat", "cksum", "dirname", "mkdir", "mv", "rm", "ln", "sleep")

# Makes an environment of this very interpreter, and notes what it was asked for.
UV = """\
#!/bin/sh
printf '%s\\n' "$*" >>"$UV_LOG"
[ "$1" = venv ] || exit 0
for last in "$@"; do :; done
mkdir -p "$last/bin"
ln -s "$REAL_PYTHON" "$last/bin/python"
"""
# The command under test: shows its arguments, one a line.
SHOWS_ARGUMENTS = '#!/bin/sh\nfor word in "$@"; do printf "<%s>\\n" "$word"; done\n'


class Checkout:
    """A copy of the files that ./run reads, and a PATH with nothing but the named tools."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a check out, with 'quotes'"
        self.path = folder / "bin"
        self.log = folder / "uv.log"
        self.root.mkdir()
        self.path.mkdir()
        for name in ("run", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.root / name)
        for tool in TOOLS:
            (self.path / tool).symlink_to(shutil.which(tool) or tool)

    def program(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.path), "UV_LOG": str(self.log), "REAL_PYTHON": sys.executable}

    def run(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "run"), *words],
            env=self.environment,
            cwd=cwd or self.root,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def asked_of_uv(self) -> list[str]:
        lines = self.log.read_text("utf-8").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def with_uv(checkout: Checkout) -> Checkout:
    checkout.program(checkout.path / "uv", UV)
    checkout.program(checkout.root / ".venv" / "bin" / "isthmus", SHOWS_ARGUMENTS)
    (checkout.root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    return checkout


def test_alone_it_lists_its_verbs_in_both_languages(checkout: Checkout) -> None:
    done = checkout.run()
    assert done.returncode == 0
    for verb in ("demo", "test", "lint", "mutants", "bench", "docs", "isthmus"):
        assert f"./run {verb}" in done.stdout
    assert "全部测试" in done.stdout
    assert not (checkout.root / ".venv").exists()


def test_an_unknown_verb_is_refused_with_the_list(checkout: Checkout) -> None:
    done = checkout.run("tset")
    assert done.returncode == 4
    assert "tset" in done.stderr
    assert "./run test" in done.stderr


def test_without_any_python_it_names_the_package_and_exits_4(checkout: Checkout) -> None:
    done = checkout.run("isthmus", "version")
    assert done.returncode == 4
    assert "python3.12-venv" in done.stderr
    assert "请安装" in done.stderr


def test_an_old_python_and_a_shim_that_fails_are_passed_over(checkout: Checkout) -> None:
    shim = "#!/bin/sh\necho 'this version is not installed' >&2\nexit 127\n"
    old = "#!/bin/sh\ncase $2 in *ensurepip*|*'or sys.exit'*) exit 1 ;; *) echo 3.9 ;; esac\n"
    checkout.program(checkout.path / "python3.14", shim)
    checkout.program(checkout.path / "python3", old)
    done = checkout.run("isthmus", "version")
    assert done.returncode == 4
    assert "3.9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_python_without_venv_is_told_which_package_it_lacks(checkout: Checkout) -> None:
    bare = "#!/bin/sh\ncase $2 in *ensurepip*) exit 1 ;; *) echo 3.13 ;; esac\n"
    checkout.program(checkout.path / "python3.13", bare)
    done = checkout.run("isthmus", "version")
    assert done.returncode == 4
    assert "python3.13-venv" in done.stderr


def test_arguments_arrive_as_they_were_typed_and_the_folder_stays(with_uv: Checkout, tmp_path: Path) -> None:
    words = ["a  b", "", "c'd", '"e"', "$HOME", "*", "f\\g", "-x=1 2", "中文"]
    done = with_uv.run("isthmus", *words, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"<{word}>" for word in words]
    assert with_uv.run("demo", "--lang", "zh").stdout.splitlines() == ["<demo>", "<--lang>", "<zh>"]


def test_the_demo_installs_the_core_and_the_checks_add_the_dev_group(with_uv: Checkout) -> None:
    with_uv.run("demo")
    (core,) = with_uv.asked_of_uv()
    assert "--editable" in core
    assert "--constraint" in core
    assert "dev.txt" not in core

    with_uv.run("lint")
    (dev,) = with_uv.asked_of_uv()
    assert "dev.txt" in dev
    wanted = (with_uv.root / ".venv" / "dev.txt").read_text("utf-8").splitlines()
    assert any(line.startswith("pytest>=") for line in wanted)


def test_a_second_run_installs_nothing_and_changed_pins_update_without_a_rebuild(with_uv: Checkout) -> None:
    with_uv.run("lint")
    with_uv.asked_of_uv()
    with_uv.run("demo")
    with_uv.run("lint")
    assert with_uv.asked_of_uv() == []

    with (with_uv.root / "constraints.txt").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    with_uv.run("demo")
    with_uv.run("demo")
    (line,) = with_uv.asked_of_uv()
    assert line.startswith("pip install")


def test_a_broken_environment_is_made_again(with_uv: Checkout) -> None:
    python = with_uv.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    with_uv.run("demo")
    made, installed = with_uv.asked_of_uv()
    assert made.startswith("venv")
    assert installed.startswith("pip install")


PYTHON_WITH_PIP = """\
#!/bin/sh
case "$1 $2" in
"-m pip") echo "pip $3" >>"$UV_LOG"; [ "$3" = --version ] || exit {code} ;;
esac
"""


@pytest.mark.parametrize("code", [0, 1])
def test_where_uv_fails_pip_is_tried_and_where_both_fail_it_says_so(with_uv: Checkout, code: int) -> None:
    with_uv.program(
        with_uv.path / "uv", '#!/bin/sh\necho "uv $1" >>"$UV_LOG"\necho "no network" >&2\nexit 1\n'
    )
    python = with_uv.root / ".venv" / "bin" / "python"
    python.unlink()
    with_uv.program(python, PYTHON_WITH_PIP.format(code=code))
    for attempt in range(2):
        done = with_uv.run("demo")
        assert done.returncode == (0 if code == 0 else 2)
        if code == 0 and attempt == 1:
            assert with_uv.asked_of_uv() == []
        else:
            assert "no network" in done.stderr
            assert with_uv.asked_of_uv() == ["uv pip", "pip --version", "pip install"]


def test_the_command_gets_ctrl_c_itself(with_uv: Checkout) -> None:
    waits = "#!/bin/sh\ntrap 'echo stopped; exit 130' INT\necho ready\nwhile :; do sleep 0.05; done\n"
    with_uv.program(with_uv.root / ".venv" / "bin" / "isthmus", waits)
    process = subprocess.Popen(
        [str(with_uv.root / "run"), "isthmus", "serve"],
        env=with_uv.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert out == "stopped\n"
    assert process.returncode == 130


def test_ctrl_c_ends_the_checks(with_uv: Checkout, tmp_path: Path) -> None:
    """The first part waits; nothing after it may start."""
    started = tmp_path / "started"
    slow = f'#!/bin/sh\nif [ "$1" = -m ]; then echo "$2" >>"{started}"; while :; do sleep 0.05; done; fi\nexit 0\n'
    python = with_uv.root / ".venv" / "bin" / "python"
    python.unlink()
    with_uv.program(python, slow)
    process = subprocess.Popen(
        [str(with_uv.root / "run"), "test"],
        env=with_uv.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 20
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=20) != 0
    assert started.read_text("utf-8").split() == ["ruff"]


PARTS = ("ruff", "ruff", "mypy", "importlinter", "pytest")


@pytest.mark.parametrize("broken", ["ruff", "mypy", "importlinter", "pytest", "none"])
def test_every_part_runs_even_after_one_failed_and_the_summary_is_last(
    with_uv: Checkout, tmp_path: Path, broken: str
) -> None:
    log = tmp_path / "parts"
    python = with_uv.root / ".venv" / "bin" / "python"
    stub = f"""\
#!/bin/sh
case "$1 $2" in
"-c "*importlinter*) name=importlinter ;;
"-m pip") exit 0 ;;
"-m "*) name=$2 ;;
*) exit 0 ;;
esac
echo "$name" >>"{log}"
if [ "$name" = pytest ]; then shift 2; echo "told: $ISTHMUS_FAILED_PARTS"; echo "summary $*"; fi
[ "$name" != {broken} ]
"""
    python.unlink()
    with_uv.program(python, stub)
    done = with_uv.run("test", "fast", "tests/a b")
    assert tuple(log.read_text("utf-8").split()) == PARTS
    assert done.stdout.splitlines()[-1] == "summary -m not slow tests/a b"
    assert (done.returncode == 0) == (broken == "none")
    if broken == "mypy":
        assert "told: types" in done.stdout


def test_an_unknown_measurement_is_refused_with_the_names_that_exist(with_uv: Checkout) -> None:
    with_uv.program(with_uv.root / "benchmarks" / "bench_link.py", "")
    done = with_uv.run("bench", "lnk")
    assert done.returncode == 4
    assert "link" in done.stderr
