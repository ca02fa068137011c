"""The album demo: a leader, two helpers and thirty phones, each a process, one phone and one helper killed in the middle."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.trust("G7")
def test_thirty_phones_train_while_one_of_them_and_a_helper_die(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "isthmus.cli.main", "demo", "--scenario", "album"],
        cwd=tmp_path,
        env={**os.environ, "ISTHMUS_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 8 checks hold" in done.stdout
    assert re.search(r"phone-07 was killed while it trained", done.stdout)
    assert re.search(r"round \d+ waits; audit-house starts again", done.stdout)
    root = tmp_path / ".demo" / "album"
    logs = [path.read_text("utf-8") for path in root.rglob("*.log")]
    assert len(logs) >= 33
    some = json.loads((root / "phones" / "phone-01" / "album.json").read_text("utf-8"))["seen"][0]
    assert not any(some[0] in log or str(some[1][0]) in log for log in logs)
