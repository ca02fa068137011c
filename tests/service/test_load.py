"""A node that trains answers everybody, refuses who asks for too much, and trains to the same result. (G9, H9)"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.trust("G9", "H9")
def test_under_load_nothing_fails_the_flood_is_refused_and_the_job_ends_alike() -> None:
    """What it took is printed and not held against anything: other work shares this machine."""
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench_load.py", "--quick"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    line = json.loads(done.stdout)
    assert set(line["codes"]) == {"2xx"}
    assert line["requests"] > 50
    assert line["events"] > 10
    assert line["5xx"] == 0
    assert set(line["flood"]) == {"2xx", "429"}
    assert line["identical"]
    assert done.returncode == 0
