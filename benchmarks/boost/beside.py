"""Runs a peer on the same data: a script of `peers/` under the Python of the peer's own environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from boost.data import write_for_peers

SCRIPTS = Path(__file__).parent / "peers"
TIMEOUT_S = 3600
PEERS = {
    "sf-heu-ou": ("heu_ou.py", "heu"),
    "secretflow-sgb-ou": ("secretflow_sgb.py", "secretflow"),
    "fedtree-he": ("fedtree_he.py", "fedtree"),
    "xgboost": ("xgboost_pooled.py", None),
}
"""Script, and name of the environment; none: the one of this process."""


def python_of(name: str | None, folder: str | None) -> str | None:
    """The peer's Python: `ISTHMUS_PEER_HEU` and the like, else `FOLDER/heu/bin/python`."""
    if name is None:
        return sys.executable
    found = os.environ.get(f"ISTHMUS_PEER_{name.upper()}")
    if found is None and folder is not None:
        found = str(Path(folder) / name / "bin" / "python")
    return found if found is not None and Path(found).is_file() else None


def run_peer(case: Namespace) -> dict[str, Any]:
    """One sample. `skipped` says why there is none."""
    script, name = PEERS[case.engine]
    python = python_of(name, case.peers)
    if python is None:
        return {
            "skipped": f"no environment: --peers FOLDER with {name}/, or ISTHMUS_PEER_{str(name).upper()}"
        }
    environment = {**os.environ, "PYTHONPATH": ""}
    if case.peers:
        libraries = [str(Path(case.peers) / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, libraries))
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as work:
        write_for_peers(case, Path(work))
        ended = subprocess.run(
            [python, str(SCRIPTS / script), work],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
        answer = Path(work) / "result.json"
        if ended.returncode or not answer.is_file():
            last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
            return {"skipped": f"it failed: {''.join(last) or ended.returncode}"}
        result: dict[str, Any] = json.loads(answer.read_text())
        return result
