"""The list of mutants fits the source, and a sample of them is noticed. `./run mutants` plays all of them. (H12)"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants import runner
from tests.mutants.known import MUTANTS, WAITING, Edit, Mutant

DUE = (
    *("M1", "M2", "M5", "M6", "M7", "M8", "M31"),
    *(f"M{number}" for number in (*range(12, 31), *range(33, 43))),
)
SAMPLE = 3
SEED = 20261


def test_every_entry_fits_the_source_and_names_tests_that_exist() -> None:
    assert runner.check(MUTANTS) == []


def test_every_mutant_that_is_due_is_there_or_says_what_it_waits_for() -> None:
    there = {mutant.id.partition("-")[0] for mutant in MUTANTS}
    assert set(DUE) <= there | set(WAITING)
    assert not there & set(WAITING)
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize(
    ("edit", "tests", "said"),
    [
        (Edit("wire/lane.py", "a text that nobody wrote", ""), (), "0 times"),
        (Edit("wire/lane.py", "self", "this"), (), "not once"),
        (Edit("wire/none.py", "a", "b"), (), "there is no src/isthmus/wire/none.py"),
        (Edit("wire/lane.py", "WINDOW: Final = 8", "WINDOW: Final = 8"), (), "1 times"),
        (Edit("wire/lane.py", "WINDOW: Final = 8", "WINDOW: Final = 9"), ("tests/none.py",), "tests/none.py"),
        (
            Edit("wire/lane.py", "WINDOW: Final = 8", "WINDOW: Final = 9"),
            ("tests/wire/test_lane.py::test_nothing",),
            "test_nothing",
        ),
    ],
)
def test_an_entry_that_does_not_fit_is_named_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    edit: Edit,
    tests: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setattr(runner, "MUTANTS", (Mutant("M0", "nothing", (edit,), tests),))
    assert runner.main(["M0"]) == 4
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


@pytest.mark.parametrize(("word", "said"), [("M99", "no such mutant"), ("M4", "waits for")])
def test_an_id_that_cannot_be_played_is_said(
    capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    assert runner.main([word]) == 4
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_mutant_that_nobody_notices_is_said_to_survive(tmp_path: Path) -> None:
    tests = ("tests/crypto/test_onetime.py",)
    comment = Edit("crypto/onetime.py", "# one atomic step", "# one single step")
    broken = Edit("crypto/onetime.py", "class OneTime(Generic[T]):", "class OneTime(Generic[T])")
    tree = runner.Tree(tmp_path)
    survivor = tree.judge(Mutant("M0", "a word of a comment", (comment,), tests))
    assert (survivor.killed, survivor.why) == (False, "survived")
    unsound = tree.judge(Mutant("M0", "no Python at all", (broken,), tests))
    assert not unsound.killed
    assert unsound.why.startswith("the tests could not be run")
    without = tree.judge(Mutant("M0", "tests that are not there", (comment,), ("tests/crypto/none.py",)))
    assert (without.killed, without.why) == (False, "its tests fail without it")
    copied = tree.root / "src/isthmus/crypto/onetime.py"
    assert copied.read_bytes() == (runner.ROOT / "src/isthmus/crypto/onetime.py").read_bytes()


@pytest.mark.slow
def test_a_sample_of_the_quick_ones_is_noticed(tmp_path: Path) -> None:
    tree = runner.Tree(tmp_path)
    verdicts = [tree.judge(mutant) for mutant in runner.sample(SAMPLE, SEED)]
    assert [verdict.line() for verdict in verdicts if not verdict.killed] == []
