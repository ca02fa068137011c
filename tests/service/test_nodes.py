"""Real nodes: processes on loopback, TLS, the sealed link, SQLite. The runner in their workers is a small one."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.base.errors import ConfigError, LocalError, PolicyError
from isthmus.client import Client
from isthmus.client.temporary import TemporaryNode, TemporaryNodes, end
from isthmus.store.records import ENDED

FAKE_NODE = (sys.executable, str(Path(__file__).with_name("fake_node.py")))


def until(condition: Callable[[], Any]) -> None:
    while not condition():
        time.sleep(0.02)


def tick() -> None:
    time.sleep(0.02)


def text(name: str, partners: tuple[str, ...] = ("data-co",)) -> str:
    names = ("bank", *partners)
    document = {
        "apiVersion": "isthmus/v1",
        "kind": "Job",
        "metadata": {"name": name, "purpose": "Rank applicants by risk"},
        "parties": {"label_owner": "bank", "feature_owners": list(partners)},
        "inputs": {party: {"dataset": "table@1", "keys": [[{"column": "id"}]]} for party in names},
        "sample": {"label": "bad"},
    }
    return json.dumps(document)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporaryNodes]:
    root = tmp_path_factory.mktemp("nodes")
    data = root / "data"
    data.mkdir()
    rows = [f"canary{i:04d},{i * 7 % 11},{i % 2}" for i in range(40)]
    (data / "table.csv").write_text("\n".join(["id,x,bad", *rows]) + "\n")
    with TemporaryNodes(["bank", "data-co"], root, [data], command=FAKE_NODE) as running:
        for node in running.nodes:
            node.client.add_dataset("table", str(data / "table.csv"), "id")
        yield running


def ended(node: TemporaryNode, job_id: str) -> bool:
    return node.client.job(job_id)["state"] in ENDED


def test_a_job_goes_from_proposal_to_done_at_both_nodes(nodes: TemporaryNodes) -> None:
    bank, partner = nodes.nodes
    seen: list[str] = []
    job = nodes.run(text("card"), None, tick, lambda job: seen.append(job["state"]))
    assert (job["state"], job["error"]) == ("done", None)
    assert job["result"] is not None
    assert job["result"]["rows"] == 40
    until(lambda: all(p["state"] == "done" for p in bank.client.job(job["id"])["parties"]))
    theirs = partner.client.job(job["id"])
    assert (theirs["state"], theirs["digest"], theirs["role"]) == ("done", job["digest"], "feature_owner")
    assert all(p["signed"] for p in job["parties"])
    assert (Path(job["folder"]) / "scores.csv").is_file()
    events = bank.client.events(job["id"])
    assert [e["data"]["state"] for e in events if e["kind"] == "job.state"] == [
        "proposed", "accepted", "queued", "running", "done"
    ]  # fmt: skip
    assert [e["id"] for e in bank.client.events(job["id"], after=events[1]["id"])] == [
        e["id"] for e in events[2:]
    ]


def test_a_job_waits_for_the_partner_and_can_be_refused(nodes: TemporaryNodes) -> None:
    bank, partner = nodes.nodes
    job_id = bank.client.propose(text("not-wanted"))["id"]
    until(lambda: job_id in [job["id"] for job in partner.client.jobs()])
    assert bank.client.job(job_id)["state"] == partner.client.job(job_id)["state"] == "proposed"
    plan = partner.client.plan_of(job_id)
    assert plan["own_columns"] == ["x", "bad"]
    assert plan["digest"] == bank.client.job(job_id)["digest"]
    partner.client.refuse_job(job_id)
    until(lambda: ended(bank, job_id))
    shown = bank.client.job(job_id)
    assert shown["state"] == "refused"
    assert shown["error"] is not None
    assert "data-co refused" in shown["error"]["detail"]
    with pytest.raises(ConfigError) as caught:
        partner.client.accept_job(job_id)
    assert caught.value.code == "conflict"


def test_a_partner_killed_in_a_running_job_comes_back_and_goes_on(nodes: TemporaryNodes) -> None:
    bank, partner = nodes.nodes
    job_id = bank.client.propose(text("partner-hangs"))["id"]
    until(lambda: job_id in [job["id"] for job in partner.client.jobs()])
    partner.client.accept_job(job_id, grant=True)
    hangs = Path(partner.client.job(job_id)["folder"]) / "hangs"
    until(lambda: hangs.exists() and hangs.read_text())
    partner.process.kill()
    partner.process.wait()
    until(lambda: not _alive(int(hangs.read_text())))
    nodes.restart("data-co")
    until(lambda: ended(bank, job_id) and ended(partner, job_id))
    for node in nodes.nodes:
        job = node.client.job(job_id)
        assert (job["state"], job["error"]) == ("done", None)
        assert (job["result"] or {})["attempts"] == 2
    again = nodes.run(text("card"), None, tick, lambda job: None)
    assert again["state"] == "done", again["error"]


@pytest.mark.trust("N1")
@pytest.mark.timeout(60)
def test_a_job_whose_partner_is_away_waits_and_says_since_when(nodes: TemporaryNodes) -> None:
    bank, partner = nodes.nodes
    job_id = bank.client.propose(text("partner-hangs"))["id"]
    until(lambda: job_id in [job["id"] for job in partner.client.jobs()])
    partner.client.accept_job(job_id, grant=True)
    hangs = Path(partner.client.job(job_id)["folder"]) / "hangs"
    until(lambda: hangs.exists() and hangs.read_text())
    began = datetime.now(UTC)
    bank.process.kill()
    bank.process.wait()
    until(lambda: partner.client.job(job_id)["state"] == "waiting")
    shown = partner.client.job(job_id)
    assert shown["waiting"] is not None
    assert shown["waiting"]["reason"] == "partner_offline"
    assert (
        began - timedelta(seconds=1) <= datetime.fromisoformat(shown["waiting"]["since"]) <= datetime.now(UTC)
    )
    assert shown["error"] is not None
    assert "bank" in shown["error"]["detail"]
    nodes.restart("bank")
    until(lambda: ended(bank, job_id) and ended(partner, job_id))
    for node in nodes.nodes:
        job = node.client.job(job_id)
        assert (job["state"], job["error"], job["waiting"]) == ("done", None, None)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("who", ["bank", "data-co"])
def test_a_partner_whose_trust_was_revoked_hears_that_the_job_has_ended(tmp_path: Path, who: str) -> None:
    (tmp_path / "table.csv").write_text("id,x,bad\n" + "".join(f"i{n},{n % 7},{n % 2}\n" for n in range(40)))
    with TemporaryNodes(["bank", "data-co"], tmp_path, [tmp_path], command=FAKE_NODE) as fresh:
        for node in fresh.nodes:
            node.client.add_dataset("table", str(tmp_path / "table.csv"), "id")
        bank, partner = fresh.nodes
        node, other = (bank, partner) if who == "bank" else (partner, bank)
        job_id = bank.client.propose(text("partner-hangs"))["id"]
        until(lambda: job_id in [job["id"] for job in partner.client.jobs()])
        partner.client.accept_job(job_id, grant=True)
        hangs = Path(partner.client.job(job_id)["folder"]) / "hangs"
        until(lambda: hangs.exists() and hangs.read_text())
        node.client.revoke_partner(other.party)
        until(lambda: ended(other, job_id))
        job = other.client.job(job_id)
        assert job["state"] == "stopped"
        assert job["error"] is not None
        assert job["error"]["fields"]["party"] == node.party
        until(lambda: not other.client.partners()[0]["connected"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_second_node_on_the_same_folder_is_refused(nodes: TemporaryNodes) -> None:
    import subprocess

    bank = nodes.node("bank")
    second = subprocess.run(
        [sys.executable, "-m", "isthmus.cli.main", "--home", str(bank.folder.home), "serve"],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert second.returncode == 1
    assert "[busy]" in second.stderr
    assert "Traceback" not in second.stderr
    assert bank.client.node()["party"] == "bank"


def test_the_doctor_finds_a_line_that_stands(nodes: TemporaryNodes) -> None:
    findings = {f["probe"]: f for f in nodes.node("data-co").client.doctor("bank")}
    assert findings["line to bank"]["verdict"] == "ok"
    assert {"isthmus", "python", "sqlite", "tls", "clock", "disk", "files", "round trip"} <= set(findings)
    assert {f["verdict"] for f in nodes.node("bank").client.doctor("data-co")} <= {"ok", "warn"}
    with pytest.raises(ConfigError):
        nodes.node("bank").client.doctor("nobody")


def test_what_the_doctor_measured_is_in_the_plans_of_both_sides_and_outlives_a_restart(
    nodes: TemporaryNodes,
) -> None:
    for party, other, said in (
        ("data-co", "bank", "the line to bank: measured on 20"),
        ("bank", "data-co", "the line to data-co: measured on 20"),
    ):
        nodes.node(party).client.doctor(other)
        before = nodes.node(party).client.plan(text("card"))
        assert said in "\n".join(before["engine"]["notes"])
        nodes.restart(party)
        assert nodes.node(party).client.plan(text("card")) == before


def test_a_wrong_token_and_wrong_words_are_refused(nodes: TemporaryNodes) -> None:
    bank = nodes.node("bank")
    with pytest.raises(PolicyError) as caught:
        bank.client.confirm_partner("data-co", ["babab"] * 4)
    assert caught.value.code == "words_differ"
    token = bank.folder.home / "token"
    before = token.read_text()
    token.write_text("another")
    try:
        with Client(bank.folder) as stranger, pytest.raises(PolicyError) as refused:
            stranger.jobs()
        assert refused.value.code == "sign_in"
    finally:
        token.write_text(before)


@pytest.mark.trust("T24")
def test_no_id_no_token_and_no_key_is_in_a_log_a_database_or_a_command_line(nodes: TemporaryNodes) -> None:
    for node in nodes.nodes:
        key = (node.folder.home / "keys" / "party.key").read_text()
        token = (node.folder.home / "token").read_text()
        for file in [f for f in node.folder.home.rglob("*") if f.is_file()]:
            data = file.read_bytes()
            assert b"canary0" not in data, file
            if file.name not in ("party.key", "token"):
                assert key.encode() not in data, file
                assert token.encode() not in data, file
        command = Path(f"/proc/{node.process.pid}/cmdline")
        if command.exists():
            assert token.encode() not in command.read_bytes()
            assert token.encode() not in Path(f"/proc/{node.process.pid}/environ").read_bytes()


def test_nodes_end_when_their_starter_lets_go_of_them(tmp_path: Path) -> None:
    with TemporaryNodes(["bank", "data-co"], tmp_path, [], command=FAKE_NODE) as nodes:
        processes = [node.process for node in nodes.nodes]
        folder = nodes.node("bank").folder
    assert [process.returncode for process in processes] == [0, 0]
    with pytest.raises(LocalError):
        Client(folder)


@pytest.mark.trust("T25")
def test_an_older_database_that_was_put_back_is_found_through_the_partner(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "table.csv").write_text("id,x,bad\n" + "".join(f"u{i},{i},{i % 2}\n" for i in range(40)))
    with TemporaryNodes(["bank", "data-co"], tmp_path, [data], command=FAKE_NODE) as running:
        bank, partner = running.nodes
        for node in running.nodes:
            node.client.add_dataset("table", str(data / "table.csv"), "id")
        database = bank.folder.database
        with closing(sqlite3.connect(database)) as live, closing(sqlite3.connect(tmp_path / "old.db")) as old:
            live.backup(old)
        job = running.run(text("card"), None, tick, lambda job: None)
        assert job["state"] == "done"
        lines = bank.client.check_audit().lines
        until(lambda: (lines, "own") in heads(bank))
        assert [node.client.check_audit().findings for node in running.nodes] == [[], []]
        end(bank.process)
        for part in database.parent.glob("node.db*"):
            part.unlink()
        (tmp_path / "old.db").rename(database)
        running.restart("bank")
        until(lambda: lines in {found.last for found in bank.client.check_audit().findings})
        findings = bank.client.check_audit().findings
        assert (findings[-1].trouble, findings[-1].last, findings[-1].partner) == ("cut", lines, "data-co")
        # Lines that the restored node wrote before it heard of its partner stand where others stood.
        assert {found.trouble for found in findings[:-1]} <= {"rewritten"}
        until(lambda: partner.client.check_audit().findings)
        assert {f.trouble for f in partner.client.check_audit().findings} <= {"rewound", "forked"}


def heads(node: TemporaryNode) -> list[tuple[int, str]]:
    return [(head["number"], head["whose"]) for head in node.client.audit_heads()["heads"]]


def test_a_job_is_followed_by_its_events_and_never_asked_for_in_between(nodes: TemporaryNodes) -> None:
    def never() -> None:
        raise AssertionError("the stream of events did not come through")

    bank, partner = nodes.nodes
    job_id = bank.client.propose(text("card"))["id"]
    until(lambda: job_id in [job["id"] for job in partner.client.jobs()])
    partner.client.accept_job(job_id, grant=True)
    seen: list[str] = []
    ended_as = bank.client.follow(job_id, never, lambda job: seen.append(job["state"]))
    assert (ended_as["state"], seen[-1]) == ("done", "done")


def test_an_open_stream_of_events_keeps_no_node_from_ending(nodes: TemporaryNodes) -> None:
    bank, partner = nodes.nodes
    job_id = bank.client.propose(text("stays-proposed"))["id"]
    until(lambda: job_id in [job["id"] for job in partner.client.jobs()])
    control = partner.folder.control()
    with httpx.stream(
        "GET",
        f"http://127.0.0.1:{control.port}/api/v1/jobs/{job_id}/events",
        headers={"Authorization": f"Bearer {control.token}", "Accept": "text/event-stream"},
        timeout=60,
        trust_env=False,
    ) as answer:
        lines = answer.iter_lines()
        assert any(line == "event: job.state" for line in lines)
        partner.process.terminate()
        list(lines)
        assert partner.process.wait() == 0
    nodes.restart("data-co")
    assert partner.client.job(job_id)["state"] == "proposed"
