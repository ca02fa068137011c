"""Two real nodes with TLS between them: what each side holds, in memory and on disk, and what crosses the wire."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.client.client import JobView
from isthmus.client.temporary import TemporaryNode, TemporaryNodes
from isthmus.jobs.plan import make_plan
from isthmus.jobs.spec import parse_job
from isthmus.store.folder import NodeFolder

BANK, PARTNER = "river-bank", "data-co"
OF_BANK, OF_PARTNER = b"kingfisher", b"nightjar"
WAIT_S = 0.05


def write_tables(folder: Path) -> tuple[Path, Path]:
    """Each side's columns and cells carry a word that occurs nowhere else; ids are 100 .. 899 and 300 .. 1099."""
    draw = np.random.default_rng(5)
    traits = draw.normal(size=(1200, 4))
    bad = (traits[:, 0] + traits[:, 2] + draw.normal(size=1200) > 1).astype(int)
    owners = ((OF_BANK, range(100, 900), (0, 1)), (OF_PARTNER, range(300, 1100), (2, 3)))
    paths = []
    for word, people, columns in owners:
        w = word.decode()
        label = ["bad"] if word == OF_BANK else []
        lines = [",".join(["id", *label, f"{w}-score", f"{w}-kind"])]
        for person in people:
            kind = f"{w}-cell-{'high' if traits[person, columns[1]] > 0 else 'low'}"
            cells = [
                f"person-{person}",
                *([str(bad[person])] if label else []),
                f"{traits[person, columns[0]]:.4f}",
                kind,
            ]
            lines.append(",".join(cells))
        path = folder / f"{w}.csv"
        path.write_text("\n".join(lines) + "\n")
        paths.append(path)
    return paths[0], paths[1]


def document(trees: int = 3) -> dict[str, Any]:
    return {
        "apiVersion": "isthmus/v1",
        "kind": "Job",
        "metadata": {"name": "two-nodes", "purpose": "A test of what each side holds"},
        "parties": {"label_owner": BANK, "feature_owners": [PARTNER]},
        "inputs": {p: {"dataset": "people@1", "keys": [[{"column": "id"}]]} for p in (BANK, PARTNER)},
        "align": {"min_rows": 100},
        "sample": {"label": "bad"},
        "split": {"train": 0.8, "valid": 0, "test": 0.2},
        "model": {"trees": trees, "depth": 3, "min_child_rows": 20, "stop_after": 0, "local_trees": 0},
        "crypto": {"paillier_bits": 2048},
        "evaluate": {"bootstrap": 10},
    }


def processes_below(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == pid:
            found += processes_below(int(status.parent.name))
    return found


def memory_holds(pid: int, word: bytes) -> bool:
    """Whether a word lies in any readable memory of a process."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in maps:
                span, rights, *_ = line.split()
                if "r" not in rights or "[v" in line:
                    continue
                start, end = (int(x, 16) for x in span.split("-"))
                tail = b""
                for at in range(start, end, 2**20):
                    try:
                        memory.seek(at)
                        block = memory.read(min(2**20, end - at))
                    except (OSError, ValueError, OverflowError):
                        break
                    if word in tail + block:
                        return True
                    tail = block[-64:]
    except OSError:
        return False
    return False


class Watch(threading.Thread):
    """Looks through the memory of one node and its workers for words, again and again while a job runs."""

    def __init__(self, node: TemporaryNode, own: bytes, other: bytes) -> None:
        super().__init__(daemon=True)
        self.node, self.own, self.other = node, own, other
        self.saw_own = self.saw_other = False
        self.rounds = 0
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            for pid in processes_below(self.node.process.pid):
                self.saw_own = self.saw_own or memory_holds(pid, self.own)
                self.saw_other = self.saw_other or memory_holds(pid, self.other)
            self.rounds += 1


def follow(nodes: TemporaryNodes, job: dict[str, Any]) -> JobView:
    return nodes.run(json.dumps(job), None, lambda: time.sleep(WAIT_S), lambda view: None)


def add_tables(nodes: TemporaryNodes, bank: Path, partner: Path) -> None:
    nodes.node(BANK).client.add_dataset("people", str(bank), "id", label="bad")
    nodes.node(PARTNER).client.add_dataset("people", str(partner), "id")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_neither_side_ever_holds_a_word_of_the_others_table(tmp_path: Path) -> None:
    bank, partner = write_tables(tmp_path)
    with TemporaryNodes([BANK, PARTNER], tmp_path / "nodes", [tmp_path]) as nodes:
        add_tables(nodes, bank, partner)
        watches = [
            Watch(nodes.node(BANK), OF_BANK, OF_PARTNER),
            Watch(nodes.node(PARTNER), OF_PARTNER, OF_BANK),
        ]
        for watch in watches:
            watch.start()
        ended = follow(nodes, document())
        for watch in watches:
            watch.stop.set()
            watch.join()
        assert ended["state"] == "done", ended["error"]
        for watch in watches:
            assert watch.rounds > 0
            assert watch.saw_own, "the watch must find what is there"
            assert not watch.saw_other
        homes = {node.party: node.folder.home for node in nodes.nodes}
    held = {
        party: b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file())
        for party, home in homes.items()
    }
    assert OF_BANK in held[BANK]
    assert OF_PARTNER in held[PARTNER]
    assert OF_PARTNER not in held[BANK]
    assert OF_BANK not in held[PARTNER]
    assert b"person-150" not in held[PARTNER]
    assert b"person-1050" not in held[BANK]


def test_both_reports_count_the_same_bytes_and_only_planned_kinds(tmp_path: Path) -> None:
    bank, partner = write_tables(tmp_path)
    with TemporaryNodes([BANK, PARTNER], tmp_path / "nodes", [tmp_path]) as nodes:
        add_tables(nodes, bank, partner)
        ended = follow(nodes, document(trees=2))
        assert ended["state"] == "done", ended["error"]
        other = nodes.node(PARTNER).client.jobs()[0]
        reports = [json.loads((Path(view["folder"]) / "report.json").read_text()) for view in (ended, other)]
    assert reports[0]["bytes"]["sent_by_label"] == reports[1]["bytes"]["sent_by_label"]
    assert reports[0]["bytes"]["sent_by_feature"] == reports[1]["bytes"]["sent_by_feature"]
    assert {k["kind"] for k in reports[0]["bytes"]["kinds"]} <= set(make_plan(parse_job(document())).messages)
    assert reports[0]["rows"]["common"] == 600


class CountingProxy:
    """Carries TCP between a port of its own and another, and counts the bytes each way."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.up = self.down = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()

    def _run(self) -> None:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
            while data := await reader.read(65536):
                if up:
                    self.up += len(data)
                else:
                    self.down += len(data)
                writer.write(data)
                await writer.drain()
            writer.close()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there = await asyncio.open_connection("127.0.0.1", self.target)
            await asyncio.gather(
                carry(reader, there[1], True), carry(there[0], writer, False), return_exceptions=True
            )

        async def serve() -> None:
            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await server.serve_forever()

        self._loop.run_until_complete(serve())


def test_a_byte_count_from_outside_agrees_with_the_meter(tmp_path: Path) -> None:
    bank, partner = write_tables(tmp_path)
    with TemporaryNodes([BANK, PARTNER], tmp_path / "nodes", [tmp_path]) as nodes:
        config = nodes.node(BANK).folder.config()
        assert config.listen is not None
        proxy = CountingProxy(int(config.listen.rpartition(":")[2]))
        _dial_through(nodes.node(PARTNER).folder, proxy.port)
        nodes.restart(PARTNER)
        add_tables(nodes, bank, partner)
        before = proxy.up + proxy.down
        ended = follow(nodes, document())
        assert ended["state"] == "done", ended["error"]
        crossed = proxy.up + proxy.down - before
        report = json.loads((Path(ended["folder"]) / "report.json").read_text())
    counted = report["bytes"]["sent_by_label"] + report["bytes"]["sent_by_feature"]
    messages = sum(k["count"] for k in report["bytes"]["kinds"])
    assert counted < crossed < 1.02 * counted + 1500 * messages


def _dial_through(folder: NodeFolder, port: int) -> None:
    """Point the address of the one partner at another port, as a gateway would."""
    import sqlite3

    with sqlite3.connect(folder.database) as database:
        (tables,) = zip(*database.execute("select name from sqlite_master where type = 'table'"), strict=True)
        assert "partner" in tables
        ((address,),) = database.execute("select address from partner").fetchall()
        database.execute("update partner set address = ?", (re.sub(r":\d+$", f":{port}", address),))


def test_try_writes_report_and_scores_and_the_figures_it_promises(tmp_path: Path) -> None:
    bank, partner = write_tables(tmp_path)
    test = tmp_path / "test.csv"
    test.write_text("id\n" + "\n".join(f"person-{i}" for i in range(300, 420)) + "\n")
    out = tmp_path / "out"
    command = [
        *(
            sys.executable,
            "-m",
            "isthmus.cli.main",
            "try",
            "--label-table",
            str(bank),
            "--feature-table",
            str(partner),
        ),
        *("--id", "id", "--label", "bad", "--test-ids", str(test), "--set", "trees=2", "--out", str(out)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["rows"]["label"] == 800
    assert report["rows"]["feature"] == [800]
    assert report["rows"]["common"] == 600
    for who in ("alone", "joint"):
        assert 0.5 < report["metrics"][who]["auc"] <= 1
        assert 0 < report["metrics"][who]["ks"] <= 1
    for name in ("cpu_s", "wall_s", "peak_mb"):
        assert report[name] > 0
    assert min(report["bytes"]["sent_by_label"], report["bytes"]["sent_by_feature"]) > 0
    rows = (out / "scores.csv").read_text().splitlines()
    assert rows[0] == "id,score"
    assert [r.split(",")[0] for r in rows[1:]] == [f"person-{i}" for i in range(300, 420)]
    assert "<html" in (out / "report.html").read_text()


def test_try_says_which_rows_of_which_file_are_wrong(tmp_path: Path) -> None:
    bank, partner = write_tables(tmp_path)
    with partner.open("a") as stream:
        stream.write("person-400,1.0,nightjar-cell-low\n")
    out = tmp_path / "out"
    command = [
        *(sys.executable, "-m", "isthmus.cli.main", "--lang", "en", "try", "--label-table", str(bank)),
        *("--feature-table", str(partner), "--id", "id", "--label", "bad", "--out", str(out)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "duplicate_id" in done.stderr
    assert "nightjar.csv" in done.stderr
    assert "801" in done.stderr
    assert "Traceback" not in done.stderr
