"""Secrets, ids and values that were planted at two real nodes, and every place where they may not turn up. (T24, T26, C1, U3)

Join, one whole job with its report, jobs and requests that fail; then every file of both nodes, every answer, the log that was
exported, and what other processes see of the running ones is searched for each planted word in each spelling.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from isthmus.client.client import Client
from isthmus.client.temporary import TemporaryNode, TemporaryNodes
from isthmus.store.records import ENDED

BANK, PARTNER = "river-bank", "data-co"
ROWS = 700
SHARED = range(100, 600)


@dataclass(frozen=True)
class Canary:
    """Something planted: whose, in which spellings, and the files of its owner, as patterns below the node, that may hold it."""

    name: str
    owner: str
    words: tuple[bytes, ...]
    allowed: tuple[str, ...] = ()


@dataclass
class Played:
    """What two nodes left behind."""

    nodes: TemporaryNodes
    canaries: list[Canary] = field(default_factory=list)
    answers: dict[str, list[bytes]] = field(default_factory=dict)
    outside: dict[str, bytes] = field(default_factory=dict)

    def planted(self, name: str, owner: str, *words: bytes, allowed: tuple[str, ...] = ()) -> None:
        self.canaries.append(Canary(name, owner, words, allowed))


def write_table(path: Path, owner: str, numbers: range) -> None:
    """Ids, categories, labels and numbers with words that stand nowhere else."""
    draw = np.random.default_rng(len(owner))
    lines = [f"{owner}-key,{owner}-number,{owner}-kind" + (",bad" if owner == BANK else "")]
    for number in numbers:
        kind = "high" if draw.random() > 0.5 else "low"
        value = 0.0076543210625 if number == numbers[7] else float(draw.normal())
        label = f",{'bad' if draw.random() < (0.5 if kind == 'high' else 0.2) else 'planted-good'}"
        lines.append(f"planted-id-{number},{value!r},planted-{owner}-{kind}{label if owner == BANK else ''}")
    path.write_text("\n".join(lines) + "\n")


def job(name: str, rows: int = 100, **sections: Any) -> str:
    return json.dumps(
        {
            "apiVersion": "isthmus/v1",
            "kind": "Job",
            "metadata": {"name": name, "purpose": "A search for planted words"},
            "parties": {"label_owner": BANK, "feature_owners": [PARTNER]},
            "inputs": {
                p: {"dataset": "people@1", "keys": [[{"column": f"{p}-key"}]]} for p in (BANK, PARTNER)
            },
            "align": {"min_rows": rows},
            "sample": {"label": "bad", "positive": "bad"},
            "split": {"train": 0.8, "valid": 0, "test": 0.2},
            "model": {"trees": 2, "depth": 2, "min_child_rows": 20, "stop_after": 0, "local_trees": 0},
            "evaluate": {"bootstrap": 10},
        }
        | sections
    )


def tick() -> None:
    time.sleep(0.05)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    root = tmp_path_factory.mktemp("canaries")
    data = root / "data"
    data.mkdir()
    invitations: list[str] = []
    invite = Client.invite

    def kept(client: Client) -> str:
        invitations.append(invite(client))
        return invitations[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "invite", kept)
        with TemporaryNodes([BANK, PARTNER], root / "nodes", [data]) as nodes:
            found = Played(nodes, answers={BANK: [], PARTNER: []})
            write_table(data / "bank.csv", BANK, range(ROWS))
            write_table(data / "partner.csv", PARTNER, range(SHARED.start, SHARED.start + ROWS))
            bank, partner = nodes.node(BANK), nodes.node(PARTNER)
            bank.client.add_dataset(
                "people", str(data / "bank.csv"), f"{BANK}-key", label="bad", positive="bad"
            )
            partner.client.add_dataset("people", str(data / "partner.csv"), f"{PARTNER}-key")
            done = nodes.run(job("whole"), None, tick, lambda view: None)
            assert done["state"] == "done", done["error"]
            failed = nodes.run(job("floor", rows=5_000), None, tick, lambda view: None)
            assert failed["error"] is not None
            assert failed["error"]["code"] in ("overlap_too_small", "partner_failed")
            change(data, nodes)
            plant(found, invitations)
            for node in nodes.nodes:
                found.answers[node.party] += list(asked(node, data))
                found.outside |= outside(node)
                found.answers[node.party].append(export(node))
            yield found


def change(data: Path, nodes: TemporaryNodes) -> None:
    """A job that the partner's worker finds with another table than was registered."""
    bank, partner = nodes.nodes
    job_id = bank.client.propose(job("changed"))["id"]
    while job_id not in [view["id"] for view in partner.client.jobs()]:
        tick()
    file = data / "bank.csv"
    file.write_text(file.read_text().replace("planted-id-3,", "planted-id-999999,"))
    partner.client.accept_job(job_id, grant=True)
    while bank.client.job(job_id)["state"] not in ENDED:
        tick()
    assert (bank.client.job(job_id)["error"] or {})["code"] == "dataset_changed"


def plant(found: Played, invitations: list[str]) -> None:
    for node in found.nodes.nodes:
        home, own = node.folder.home, node.party
        key = bytes.fromhex((home / "keys" / "party.key").read_text())
        found.planted("party key", own, *spellings(key), allowed=("keys/party.key",))
        found.planted("token", own, (home / "token").read_bytes(), allowed=("token",))
        if (home / "tls" / "key.pem").exists():
            content = (home / "tls" / "key.pem").read_bytes().splitlines()[1]
            found.planted("TLS key", own, content, allowed=("tls/key.pem",))
        only = range(SHARED.start) if own == BANK else range(ROWS, SHARED.start + ROWS)
        found.planted("ids of its own", own, *(b"planted-id-%d," % n for n in only))
        found.planted("a number", own, b"0.0076543210625", b"76543210625")
        # Levels of a category stand in the profile, the half of the model and the report of their owner.
        words = (f"planted-{own}-high".encode(), f"planted-{own}-low".encode())
        found.planted("categories", own, *words, allowed=("node.db*", "jobs/*/half.json", "jobs/*/report.*"))
    found.planted("an id without a header", BANK, b"13800004242")
    found.planted("labels", BANK, b"planted-good")
    found.planted(
        "shared ids", BANK, *(b"planted-id-%d," % n for n in SHARED), allowed=("jobs/*/scores.csv",)
    )
    for line in invitations:
        secret = base64.b64decode(json.loads(base64.urlsafe_b64decode(line))["secret"])
        found.planted("invitation", BANK, line.encode(), *spellings(secret), allowed=("node.db*",))


def spellings(secret: bytes) -> tuple[bytes, ...]:
    return (
        secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret).rstrip(b"="),
        base64.urlsafe_b64encode(secret).rstrip(b"="), repr(secret).encode(), json.dumps(list(secret)).encode(),
    )  # fmt: skip


def asked(node: TemporaryNode, data: Path) -> Iterator[bytes]:
    """Answers of every kind, refusals above all. One dataset with its profile is left out: it shows levels to their owner."""
    control = node.folder.control()
    with httpx.Client(
        base_url=f"http://127.0.0.1:{control.port}",
        headers={"Authorization": f"Bearer {control.token}"},
        trust_env=False,
        timeout=60,
    ) as client:

        def say(answer: httpx.Response) -> bytes:
            return f"{answer.status_code} {dict(answer.headers)}\n".encode() + answer.content

        for path in ("/metrics", "/health", "/ready", "/api/v1/node", "/api/v1/node/doctor", "/api/v1/partners",
                     "/api/v1/datasets", "/api/v1/jobs", "/api/v1/jobs/j-none", "/api/v1/audit",
                     "/api/v1/audit/heads", "/api/v1/openapi.json", "/none"):  # fmt: skip
            yield say(client.get(path))
        for view in client.get("/api/v1/jobs").json()["items"]:
            for path in ("", "/plan", "/events"):
                yield say(client.get(f"/api/v1/jobs/{view['id']}{path}"))
            yield say(client.post(f"/api/v1/jobs/{view['id']}/accept"))
        bad = data / "bad.csv"
        head = "key,number,kind,bad\n"
        row = "planted-id-101,0.0076543210625,planted-good,1\n"
        for content in (
            (head + row * 3).encode(),
            (head + row + "planted-id-102,\xff0.0076543210625,x,0\n").encode("latin-1"),
            (head + row + "planted-id-102,0.0076543210625\n").encode(),
            (head + row + ",0.0076543210625,planted-good,0\n").encode(),
            (head + row + 'planted-id-102,"0.0076543210625,planted-good,0\n').encode(),
            b"13800004242,0.0076543210625,x,1\n" * 2,  # no header: its first row stands for one
        ):
            bad.write_bytes(content)
            for label in (None, "bad", "kind"):
                body = {"name": "bad", "path": str(bad), "key": "key", "label": label, "form": "phone-cn"}
                refused = client.post("/api/v1/datasets", json=body)
                assert refused.status_code == 422, refused.text
                yield say(refused)
        wrong = client.post("/api/v1/partners/accept", json={"line": "isthmus-planted-line"})
        yield say(wrong)
        yield say(client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {control.token}x"}))
        yield say(client.post("/api/v1/jobs", json={"document": job("again"), "shell": control.token[:4]}))


def outside(node: TemporaryNode) -> dict[str, bytes]:
    """What any other process of this machine may see of a node."""
    process = Path(f"/proc/{node.process.pid}")
    if not process.exists():
        return {}
    return {f"{node.party}: {name}": (process / name).read_bytes() for name in ("cmdline", "environ", "comm")}


def export(node: TemporaryNode) -> bytes:
    command = [sys.executable, "-m", "isthmus.cli.main", "--home", str(node.folder.home), "audit", "export"]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=True)
    assert done.stdout.count(b"job.failed") >= 1
    return done.stdout


def files(node: TemporaryNode) -> Iterator[tuple[str, bytes]]:
    home = node.folder.home
    for path in sorted(home.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(home)), path.read_bytes()


def test_nothing_that_was_planted_lies_outside_its_place(played: Played) -> None:
    found = [
        f"{canary.name} of {canary.owner} in {name} of {node.party}"
        for node in played.nodes.nodes
        for name, content in files(node)
        for canary in played.canaries
        if not (node.party == canary.owner and any(fnmatch(name, pattern) for pattern in canary.allowed))
        if any(word in content for word in canary.words)
    ]
    assert found == []


def test_no_answer_no_exported_log_and_no_list_of_processes_holds_it(played: Played) -> None:
    told = [(f"an answer of {party}", text) for party, texts in played.answers.items() for text in texts]
    found = [
        f"{canary.name} of {canary.owner} in {where}: {text[:200]!r}"
        for where, text in [*told, *played.outside.items()]
        for canary in played.canaries
        if any(word in text for word in canary.words)
    ]
    assert found == []
    assert sum(text.startswith(b"422") for _, text in told) > 20, "the refusals were asked for"


def test_the_search_finds_what_is_where_it_may_be(played: Played) -> None:
    held = {
        canary.name
        for node in played.nodes.nodes
        for name, content in files(node)
        for canary in played.canaries
        if node.party == canary.owner and any(fnmatch(name, pattern) for pattern in canary.allowed)
        if any(word in content for word in canary.words)
    }
    assert {"party key", "token", "TLS key", "shared ids", "categories"} <= held
    logs = [name for node in played.nodes.nodes for name, _ in files(node) if name.endswith(".log")]
    assert any(name.startswith("jobs/") for name in logs)
    assert "node.log" in logs
