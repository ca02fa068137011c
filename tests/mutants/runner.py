"""`./run mutants [ID...]`: puts one bug after the other into a copy of the tree and demands that its tests turn red.

One JSON line a mutant: `killed` where the tests pass without it and fail with it. Ends with 1 where one survived, and with 4
where an entry no longer fits the source.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.known import MUTANTS, WAITING, Mutant

ROOT = Path(__file__).parents[2]
COPIED = (
    "src",
    "tests",
    "docs",
    "benchmarks",
    "pyproject.toml",
    "constraints.txt",
    "run",
    "LICENSE",
    "NOTICE",
)
RED, GREEN = 1, 0


class Stale(Exception):
    """An entry does not fit the source any more."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant; `failed` names the tests that noticed it."""

    id: str
    what: str
    killed: bool
    why: str
    failed: list[str]
    seconds: float

    def line(self) -> str:
        shown = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(shown, ensure_ascii=False)


class Tree:
    """A copy of the checkout. Caches stay with it, so kernels are compiled once for all mutants."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        self.root.mkdir()
        for name in COPIED:
            found = ROOT / name
            if found.is_dir():
                shutil.copytree(found, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif found.exists():
                shutil.copy2(found, self.root / name)
        self._passed: dict[tuple[str, ...], bool] = {}

    def judge(self, mutant: Mutant) -> Verdict:
        began_s = time.monotonic()

        def verdict(killed: bool, why: str, failed: Sequence[str] = ()) -> Verdict:
            return Verdict(
                mutant.id, mutant.what, killed, why, list(failed), round(time.monotonic() - began_s, 1)
            )

        if mutant.tests not in self._passed:
            self._passed[mutant.tests] = self._test(mutant.tests)[0] == GREEN
        if not self._passed[mutant.tests]:
            return verdict(False, "its tests fail without it")
        try:
            for edit in mutant.edits:
                file = self.root / "src" / "isthmus" / edit.file
                file.write_text(changed(file.read_text("utf-8"), edit.before, edit.after, mutant.id), "utf-8")
            code, failed = self._test(mutant.tests)
        finally:
            for edit in mutant.edits:
                shutil.copy2(ROOT / "src" / "isthmus" / edit.file, self.root / "src" / "isthmus" / edit.file)
        if code == RED and failed:
            return verdict(True, "noticed", failed)
        return verdict(False, "survived" if code == GREEN else f"the tests could not be run ({code})")

    def _test(self, tests: Iterable[str]) -> tuple[int, list[str]]:
        """Exit code of pytest, and the names of what failed."""
        others = [
            p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and Path(p) != ROOT / "src"
        ]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(self.root / "src"), *others]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NUMBA_CACHE_DIR": str(self.root / ".cache"),
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-rf", *tests]
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        lines = done.stdout.splitlines()
        failed = [
            line.removeprefix("FAILED ").partition(" - ")[0] for line in lines if line.startswith("FAILED ")
        ]
        return done.returncode, failed


def changed(text: str, before: str, after: str, mutant: str) -> str:
    """Raises Stale unless the text stands there exactly once and the change is one."""
    if text.count(before) != 1 or before == after:
        raise Stale(
            f"{mutant}: its text stands in the source {text.count(before)} times, not once: {before.strip()!r}"
        )
    return text.replace(before, after)


def check(mutants: Iterable[Mutant]) -> list[str]:
    """What is wrong with entries, found without running anything."""
    wrong = []
    for mutant in mutants:
        for edit in mutant.edits:
            file = ROOT / "src" / "isthmus" / edit.file
            try:
                changed(file.read_text("utf-8"), edit.before, edit.after, mutant.id)
            except FileNotFoundError:
                wrong.append(f"{mutant.id}: there is no src/isthmus/{edit.file}")
            except Stale as error:
                wrong.append(str(error))
        for test in mutant.tests:
            place, _, case = test.partition("::")
            holds, name = ROOT / place, case.partition("[")[0]
            if not holds.is_file() or (f"def {name}(" if name else "def test_") not in holds.read_text(
                "utf-8"
            ):
                wrong.append(f"{mutant.id}: there is no {test}")
    return wrong


def chosen(ids: Sequence[str]) -> list[Mutant]:
    """By id; `M18` stands for `M18-store` too. All where none is named."""
    known = {mutant.id for mutant in MUTANTS} | {mutant.id.partition("-")[0] for mutant in MUTANTS}
    for name in ids:
        if name not in known:
            raise Stale(
                f"{name}: " + (f"waits for {WAITING[name]}" if name in WAITING else "there is no such mutant")
            )
    return [m for m in MUTANTS if not ids or m.id in ids or m.id.partition("-")[0] in ids]


def sample(count: int, seed: int) -> list[Mutant]:
    """Some of the quick ones, the same for the same seed."""
    return random.Random(seed).sample([mutant for mutant in MUTANTS if not mutant.slow], count)


def main(words: Sequence[str]) -> int:
    try:
        mutants = chosen(words)
    except Stale as error:
        print(error, file=sys.stderr)
        return 4
    if wrong := check(MUTANTS):
        print(*wrong, sep="\n", file=sys.stderr)
        return 4
    survived = False
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Tree(Path(folder))
        for mutant in mutants:
            verdict = tree.judge(mutant)
            print(verdict.line(), flush=True)
            survived |= not verdict.killed
    return int(survived)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
