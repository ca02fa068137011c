"""The desks of the trial, on loopback: two real nodes, the commands that compose.trial.yaml gives them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "deploy/compose.trial.yaml").read_text("utf-8"))["services"]
PARTIES = ("river-bank", "data-co")
WAIT_S = 120.0


class Trial:
    """Runs what a service of the compose file would run; a volume is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.link = f"127.0.0.1:{free_port()}"
        self.started: list[subprocess.Popen[bytes]] = []
        for volume in ("phone", *(f"{party}-{kind}" for party in PARTIES for kind in ("home", "data"))):
            (folder / volume).mkdir(mode=0o700)

    def start(self, service: str, *more: str) -> subprocess.Popen[bytes]:
        described = SERVICES[service]
        places = {
            target: str(self.folder / source)
            for source, target in (volume.split(":")[:2] for volume in described["volumes"])
            if not source.startswith(".")
        }
        entry = described.get("entrypoint", ["isthmus"])
        program = {"isthmus": ["-m", "isthmus.cli.main"], "python3": [str(ROOT / "deploy/trial.py")]}[
            entry[0]
        ]
        words = [places.get(word, word) for word in described["command"]]
        words = [
            word.replace("0.0.0.0:7443", self.link).replace("river-bank:7443", self.link) for word in words
        ]
        source = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
        home = {"ISTHMUS_HOME": places["/var/lib/isthmus"]} if "/var/lib/isthmus" in places else {}
        with (self.folder / f"{service}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *program, *words, *more],
                env=os.environ | {"PYTHONPATH": source} | home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text("utf-8")

    def run(self, service: str) -> None:
        assert self.start(service).wait(120) == 0, self.log(service)

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.started:
            process.wait(30)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    made = Trial(tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.mark.slow
def test_two_parties_join_by_themselves_and_train(trial: Trial) -> None:
    for party in PARTIES:
        trial.run(f"{party}-tables")
        trial.run(f"{party}-init")
        trial.start(party)
    until("both nodes", lambda: all((trial.folder / f"{p}-home/control.json").exists() for p in PARTIES))
    partner = trial.start("data-co-desk")
    bank = trial.start("river-bank-desk", "model.trees=2", "features.binning.max_bins=8")
    until("both desks", lambda: partner.poll() not in (None, 0) or None not in (bank.poll(), partner.poll()))
    assert partner.poll() == 0, trial.log("data-co-desk")
    assert bank.poll() == 0, trial.log("river-bank-desk")
    ended = json.loads(trial.log("river-bank-desk").splitlines()[-1])
    assert ended["state"] == "done"
    assert ended["metrics"]["joint"]["auc"] > ended["metrics"]["alone"]["auc"]
    held = [{path.name for path in (trial.folder / f"{party}-data").iterdir()} for party in PARTIES]
    assert held == [{"bank.csv", "test_ids.csv"}, {"partner.csv"}]


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"waited for: {what}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
