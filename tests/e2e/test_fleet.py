"""The page "Run a fleet" as it stands: a node, a leader, two helpers as processes, and devices with the SDK, over loopback."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.client import Client
from isthmus.crypto.seal import PartyKey
from isthmus.device import Conditions, Config, Device, FileKeyStore, Ticket, enrol
from isthmus.protocols.device_round import population_digest
from isthmus.protocols.secure_sum import ticket
from isthmus.store.folder import NodeFolder
from tests.house.test_readme import FENCE, ROOT, Desk, commands, desk, free_port

__all__ = ["desk"]
PAGE = ROOT / "docs" / "how-to" / "run-a-fleet.md"
READY = Conditions(charging=True, unmetered=True, idle=True, free_mb=1000, battery_c=20.0)
DEVICES = 24
HELPERS = ("album-app", "audit-house")
FLEET, TASK = "album-phones", "album-taste-07"
FAR_MS = 4_000_000_000_000


def smaller(text: str) -> str:
    """The task of the page for two dozen devices and a few numbers of each photo; whatever comes out is released."""
    task = yaml.safe_load(text)
    task["fleet"].pop("app_version")
    task["example"] |= {"features": {"embedding": 4}, "min_per_device": 5}
    task["model"] = {"layers": [{"dense": 1}, "sigmoid"]}
    task["rounds"] |= {"count": 2, "cohort": 20, "min_cohort": 20, "min_gap_h": 0}
    task["robust"] = {"buckets": 1}
    task["evaluate"] = {"gate": {"gain": -1.0}}
    return json.dumps(task)


class Running:
    """Types what the page says; `serve` in a line starts a process that stays."""

    def __init__(self, here: Desk) -> None:
        self.desk = here
        ports = {name: free_port() for name in (*HELPERS, "leader")}
        self._places = [
            ("leader.example:8444", f"127.0.0.1:{ports['leader']}"),
            ("0.0.0.0:8444", f"127.0.0.1:{ports['leader']}"),
            ("helper.album.example:8445", f"127.0.0.1:{ports['album-app']}"),
            ("helper.audit.example:8445", f"127.0.0.1:{ports['audit-house']}"),
        ]
        self._ports = ports

    def type(self, line: str, home: str) -> None:
        for said, here in self._places:
            line = line.replace(said, here)
        if home in HELPERS:
            line = line.replace("0.0.0.0:8445", f"127.0.0.1:{self._ports[home]}")
        line = line.replace("--floor 400", "--floor 20")
        if line == "isthmus serve":
            self.desk.serve(line, home)
        elif line.startswith(("isthmus leader serve", "isthmus helper serve")):
            self.stay(line + (" --wait-s 1" if "leader" in line else ""), home)
        else:
            self.desk.type(line, home)

    def stay(self, line: str, home: str) -> None:
        log = self.desk.folder / f"{home}.log"
        before = log.stat().st_size if log.exists() else 0
        self.desk.serve(line, home, lambda: log.exists() and log.stat().st_size > before)


def section(title: str) -> str:
    """What the page says under a heading."""
    text = PAGE.read_text("utf-8")
    assert f"\n## {title}" in text
    return text.split(f"\n## {title}")[1].split("\n## ")[0]


def shell(title: str) -> list[tuple[str, str]]:
    return [
        line for _, _, kind, text in FENCE.findall(section(title)) if kind == "sh" for line in commands(text)
    ]


@pytest.mark.slow
def test_a_fleet_runs_as_the_page_says(desk: Desk, tmp_path: Path) -> None:
    running = Running(desk)
    for title in ("1. The two helpers", "2. The fleet"):
        for who, line in shell(title):
            for home in who.split(", "):
                running.type(line, home)
    app_line, ticket_line = (line for _, line in shell("3. The app"))
    running.type(app_line, "cloud-co")
    config = Config.from_json((desk.folder / "fleet.json").read_bytes())
    assert {helper.name for helper in config.helpers} == set(HELPERS)

    def sign_in(key: bytes) -> Ticket:
        line = ticket_line.replace("LEADER_KEY", config.leader.key.hex()).replace(" KEY ", f" {key.hex()} ")
        if devices:  # one ticket shows the command; the others are signed as it does
            return ticket(authority, population, key, FAR_MS)
        made = json.loads(desk.type(line, "nobody"))
        return Ticket(made["expires_ms"], bytes.fromhex(made["ticket"]))

    (task,) = [text for _, _, kind, text in FENCE.findall(section("4. The task")) if kind == "yaml"]
    (desk.folder / "task.yaml").write_text(smaller(task), "utf-8")
    plan, run, watch = (line for _, line in shell("4. The task"))
    desk.type(plan, "cloud-co")
    desk.type(run, "cloud-co")

    devices: list[Device] = []
    authority = PartyKey.from_bytes(bytes.fromhex((desk.folder / "authority.key").read_text()))
    population = population_digest(config.population, config.leader.key)
    try:
        for number in range(DEVICES):
            devices.append(phone(tmp_path / f"phone-{number}", config, sign_in, number))  # noqa: PERF401 - closed below
        with Client(NodeFolder(desk.folder / "cloud-co")) as client:
            work_until(devices, lambda: client.task(FLEET, TASK)["state"] == "finished")
        shown = fleet(desk)
        task_view = shown["tasks"][0]
        assert (task_view["rounds_done"], task_view["rounds_planned"]) == (2, 2)
        assert 0 < task_view["budget"]["spent"] <= 4.0
        assert shown["newest_round"]["funnel"]["counted"] >= 20
        assert "finished" in desk.type(watch, "cloud-co")
        while fleet(desk)["release"]["share"] < 1:
            desk.type(f"isthmus fleet rollout {FLEET} --next", "cloud-co")
        work_until(devices, lambda: all(device.latest() is not None for device in devices))
        sent = [each for device in devices for each in device.receipts()]
        assert sum(device.receipts() != [] for device in devices) >= 20
        assert all(each.taken for each in sent)
        lines = json.loads(desk.type("isthmus audit ls -o json", "cloud-co"))
        kinds = {line["kind"] for line in lines}
        assert kinds >= {"fleet.made", "helper.added", "fleet.task_started", "fleet.rolled_out"}
    finally:
        for device in devices:
            device.close()


def fleet(here: Desk) -> Any:
    return json.loads(here.type(f"isthmus fleet show {FLEET} -o json", "cloud-co"))


def phone(folder: Path, config: Config, sign_in: Any, number: int) -> Device:
    """A device of somebody who likes every second photo."""
    folder.mkdir()
    device = enrol(config, FileKeyStore(folder / "key"), sign_in, folder / "store")
    for photo in range(12):
        liked = photo % 2
        features = [float(liked), 1.0 - liked, number / DEVICES, photo / 12]
        assert device.observe(f"photo-{photo}", features, "favourite" if liked else "skip_under_1s")
    return device


def work_until(devices: list[Device], done: Any, timeout_s: float = 240.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end_s, [device.work() for device in devices[:3]]
        for device in devices:
            if device.ready(READY).now:
                device.work()
