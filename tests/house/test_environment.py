"""Variables of the environment that this project reads are all known to its servers."""

from __future__ import annotations

import re
from pathlib import Path

from isthmus.service.environment import KNOWN, PEERS

ROOT = Path(__file__).parents[2]
PLACES = ("run", "src", "deploy", "benchmarks", "tests/conftest.py", "tests/postgres.py", "tests/deploy")


def test_every_variable_that_stands_anywhere_is_known_and_every_known_one_stands_somewhere() -> None:
    files = [f for place in PLACES for f in (ROOT / place, *(ROOT / place).rglob("*")) if f.is_file()]
    texts = [
        f.read_text("utf-8", "ignore")
        for f in files
        if f.name != "environment.py" and f.suffix not in (".pyc", ".parquet")
    ]
    found = {name for text in texts for name in re.findall(r"\bISTHMUS_[A-Z_]*[A-Z]", text)}
    assert {name for name in found if not f"{name}_".startswith(PEERS)} == KNOWN
