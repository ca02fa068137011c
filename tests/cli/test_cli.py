"""The command line: exit codes, JSON and tables, two languages, a whole join and job between two real nodes."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from isthmus.cli.main import run
from isthmus.client.temporary import end
from tests.jobs.examples import TEXT

PAILLIER = TEXT + "crypto: {engine: paillier}\n"
FAKE_NODE = str(Path(__file__).parents[1] / "service" / "fake_node.py")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    """Runs a command; gives exit code, what it wrote to stdout (JSON where it is JSON), and its talk."""

    def play(*arguments: object) -> tuple[int, Any, str]:
        code = run([str(a) for a in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        try:
            return code, json.loads(out), err
        except ValueError:
            return code, out, err

    return play


@contextmanager
def node(home: Path) -> Iterator[None]:
    with (home / "node.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, FAKE_NODE, "--home", str(home)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline(), (home / "node.log").read_text()
        yield
    finally:
        end(process)


def test_bad_arguments_exit_with_four_and_say_why(call: Callable[..., Any], tmp_path: Path) -> None:
    for arguments in ((), ("nope",), ("job", "show"), ("init",), ("-o", "xml", "version"), ("job", "accept")):
        code, _, err = call(*arguments)
        assert code == 4
        assert "Usage:" in err
    code, _, err = call("--home", tmp_path, "init", "--party", "River Bank")
    assert (code, "[out_of_bounds]" in err) == (4, True)


def test_help_stands_for_every_command(call: Callable[..., Any]) -> None:
    for arguments in (
        *((), ("init",), ("serve",), ("doctor",), ("version",), ("try",), ("backup",), ("restore",)),
        *(("partner", verb) for verb in ("invite", "accept", "confirm", "ls")),
        *(("dataset", verb) for verb in ("add", "ls", "show")),
        *(("grant", verb) for verb in ("ask", "give", "ls", "show", "refuse", "revoke")),
        *(("project", verb) for verb in ("new", "invite", "ls", "show", "archive")),
        *(("approval", verb) for verb in ("ls", "show", "approve", "refuse")),
        *(("audit", verb) for verb in ("ls", "verify", "export")),
        *(("user", verb) for verb in ("add", "ls", "rm", "reset", "roles", "password")),
        *(("token", verb) for verb in ("new", "ls", "revoke")),
        *(("sign-in",), ("sign-out",)),
        *(
            ("fleet", verb)
            for verb in ("new", "ls", "show", "plan", "run", "watch", "stop", "kill", "rollout")
        ),
        *(("fleet", verb) for verb in ("devices", "block", "ticket", "app", "simulate")),
        *(("fleet", "helper", "add"), ("fleet", "helper", "ls")),
        *(("leader", verb) for verb in ("serve", "card", "status")),
        *(("job", verb) for verb in ("plan", "run", "ls", "show", "watch", "accept", "refuse")),
    ):
        code, out, _ = call(*arguments, "--help")
        assert code == 0
        assert out.startswith("Usage:")


def test_version_is_json_in_a_pipe_and_words_when_asked(call: Callable[..., Any]) -> None:
    code, out, _ = call("version")
    assert (code, set(out)) == (0, {"isthmus", "python", "sqlite"})
    assert "isthmus 0." in call("version", "-o", "table")[1]


def test_a_new_node_is_made_once_and_shows_no_secret(call: Callable[..., Any], tmp_path: Path) -> None:
    home = tmp_path / "node"
    code, out, err = call("--home", home, "init", "--party", "bank", "--data", tmp_path)
    assert (code, out["mode"], out["data"]) == (0, "dial-out", [str(tmp_path)])
    secret = (home / "keys" / "party.key").read_text()
    assert secret not in json.dumps(out) + err
    code, _, err = call("--home", home, "init", "--party", "bank")
    assert (code, "[already_there]" in err) == (4, True)


def test_an_error_comes_in_the_language_asked_for_with_its_next_step(
    call: Callable[..., Any], tmp_path: Path
) -> None:
    code, out, err = call("--home", tmp_path / "none", "--lang", "zh", "job", "ls")
    assert (code, out) == (4, "")
    assert "不是节点目录" in err
    assert "isthmus --home" in err
    call("--home", tmp_path / "node", "init", "--party", "bank")
    code, _, err = call("--home", tmp_path / "node", "job", "ls", "--lang", "en")
    assert code == 1
    assert f"Run: isthmus --home {tmp_path / 'node'} serve" in err


def test_a_key_that_others_can_read_stops_serve_and_the_doctor_says_so(
    call: Callable[..., Any], tmp_path: Path
) -> None:
    home = tmp_path / "node"
    call("--home", home, "init", "--party", "bank")
    (home / "keys" / "party.key").chmod(0o644)
    code, _, err = call("--home", home, "serve")
    assert (code, "[file_mode]" in err) == (4, True)
    assert "chmod 600" in err
    code, out, _ = call("--home", home, "doctor")
    assert code == 1
    assert [f["verdict"] for f in out if f["probe"] == "files"] == ["fail"]
    (home / "keys" / "party.key").unlink()
    code, _, err = call("--home", home, "serve")
    assert (code, "[key_missing]" in err) == (4, True)
    assert not (home / "keys" / "party.key").exists()


@pytest.mark.trust("A10")
@pytest.mark.parametrize("name", ["ISTHMUS_DEBUG", "ISTHMUS_HOMES", "isthmus_home"])
@pytest.mark.parametrize(
    "server",
    [
        ("serve",),
        ("relay", "serve", "--listen", "127.0.0.1:0"),
        ("leader", "serve"),
        ("helper", "serve"),
    ],
    ids=lambda server: server[0],
)
def test_a_variable_of_the_environment_that_nothing_reads_stops_a_server_at_its_start(
    call: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    server: tuple[str, ...],
) -> None:
    call("--home", tmp_path / "node", "init", "--party", "bank")
    monkeypatch.setenv(name, "False")
    code, _, err = call("--home", tmp_path / "node", *server)
    assert (code, "[unknown_field]" in err, name in err) == (4, True, True)
    assert not (tmp_path / "node" / "relay").exists()


def test_a_port_that_is_taken_is_named(call: Callable[..., Any], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        call("--home", tmp_path / "node", "init", "--party", "bank", "--listen", place)
        code, _, err = call("--home", tmp_path / "node", "serve")
    assert (code, "[port_taken]" in err, place in err) == (1, True, True)


def test_a_job_file_that_cannot_be_used_is_refused_before_anything_is_asked(
    call: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("a: &x [*x]")
    code, _, err = call("job", "plan", file)
    assert (code, "[bad_document]" in err) == (4, True)
    code, _, err = call("job", "plan", tmp_path / "none.yaml")
    assert (code, "[bad_path]" in err) == (4, True)
    file.write_text(TEXT)
    code, _, err = call("job", "plan", file, "--set", "tres=1")
    assert (code, "[unknown_field]" in err) == (4, True)


def test_two_institutions_join_and_run_a_job(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, other, data = tmp_path / "bank", tmp_path / "data-co", tmp_path / "data"
    data.mkdir()
    (data / "apps.csv").write_text(
        "mobile,x,bad\n" + "".join(f"1380000{i:04d},{i},{i % 2}\n" for i in range(40))
    )
    (data / "risk.csv").write_text(
        "phone,y,staff\n" + "".join(f"1380000{i:04d},{i},{i % 2}\n" for i in range(30))
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    assert call("--home", bank, "init", "--party", "bank", "--data", data)[0] == 0
    assert call("--home", other, "init", "--party", "data-co", "--listen", place, "--data", data)[0] == 0
    with node(bank), node(other):
        invite = tmp_path / "invite.txt"
        code, line, err = call("--home", bank, "partner", "invite")
        invite.write_text(line)
        code, reply, err = call("--home", other, "partner", "accept", invite)
        assert code == 0
        words = err.split("Four words of this join: ")[1].split("\n")[0].split()
        (tmp_path / "reply.txt").write_text(reply)
        code, joined, _ = call("--home", bank, "partner", "accept", tmp_path / "reply.txt")
        assert (code, joined["words"]) == (0, words)
        assert call("--home", bank, "partner", "accept", tmp_path / "reply.txt")[0] == 4
        code, _, err = call("--home", bank, "partner", "confirm", "data-co", *words[::-1])
        assert (code, "[words_differ]" in err) == (6, True)

        file = tmp_path / "job.yaml"
        file.write_text(PAILLIER)
        code, added, _ = call("--home", bank, "dataset", "add", data / "apps.csv", "--key", "mobile", "--as", "phone-cn",
                              "--label", "bad")  # fmt: skip
        assert (code, added["dataset"]) == (0, "apps@1")
        assert (
            call("--home", other, "dataset", "add", data / "risk.csv", "--id", "phone", "--as", "phone-cn")[0]
            == 0
        )
        code, _, err = call("--home", bank, "job", "run", file)
        assert (code, "[not_confirmed]" in err) == (4, True)
        assert call("--home", bank, "partner", "confirm", "data-co", *words)[0] == 0
        assert call("--home", other, "partner", "confirm", "bank", *words)[0] == 0
        assert "confirmed" in call("--home", other, "partner", "ls", "-o", "table")[1]
        assert call("--home", bank, "doctor", "--partner", "data-co")[0] == 0

        code, plan, _ = call("--home", bank, "job", "plan", file, "--set", "trees=5")
        assert (code, plan["own_columns"], plan["resolved"]["model"]["trees"]) == (0, ["x"], 5)
        text = call("--home", bank, "--lang", "zh", "-o", "table", "job", "plan", file)[1]
        assert "求各方共有的样本" in text
        assert plan["engine"]["chosen"] == plan["resolved"]["crypto"]["engine"] == "paillier"
        for changes, engine in (((), "paillier"), (("--set", "engine=auto"), "lattice-hint")):
            code, plan, _ = call("--home", bank, "job", "plan", file, *changes)
            assert plan["resolved"]["crypto"]["engine"] == plan["engine"]["chosen"] == engine
            costs = {cost["engine"]: cost for cost in plan["engine"]["costs"]}
            assert set(costs) == {"lattice-hint", "paillier"}
            assert costs[engine]["up_bytes"] > 0
            shown = call("--home", bank, "-o", "table", "job", "plan", file, *changes)[1]
            for words in (
                plan["engine"]["reason"],
                *plan["engine"]["notes"],
                "on the line",
                f"{engine}  (",
                "MB",
            ):
                assert words in shown
            shown = call("--home", bank, "--lang", "zh", "-o", "table", "job", "plan", file, *changes)[1]
            assert "发往对方" in shown
            assert "外部密码学专家" in shown
        assert any("the line to data-co: measured on" in note for note in plan["engine"]["notes"])
        open_ended = ("--set", "engine=auto", "--set", "trees=1", "--set", "depth=1", "--set", "max_bins=2")
        found = [
            call("--home", bank, "job", "plan", file, *open_ended, "--assume", count)[1]
            for count in (1, 2_000)
        ]
        assert [plan["engine"]["chosen"] for plan in found] == ["paillier", "lattice-hint"]
        assert "2,000 columns of data-co (assumed)" in "".join(found[1]["engine"]["notes"])
        assert call("--home", bank, "job", "plan", file, "--assume", 0)[0] == 4
        purpose = ("--purpose", "Rank new card applicants by risk", "--days", 90)
        assert plan["grants"][0]["code"] == "grant_missing"
        assert "missing" in call("--home", bank, "-o", "table", "job", "plan", file)[1]
        code, asked, _ = call("--home", bank, "grant", "ask", "data-co", "risk", *purpose, "--runs", 3)
        assert (code, asked["state"], asked["days_left"]) == (0, "asked", 90)
        while not call("--home", other, "grant", "ls")[1]:
            time.sleep(0.05)
        assert "已申请" in call("--home", other, "--lang", "zh", "-o", "table", "grant", "ls")[1]
        code, _, err = call("--home", other, "grant", "give", "risk")
        assert (code, "[missing_field]" in err) == (4, True)
        code, _, err = call("--home", other, "grant", "give", "--ask", asked["id"], "--alias", "y")
        assert (code, "[bad_document]" in err) == (4, True)
        code, given, _ = call(
            "--home", other, "grant", "give", "--ask", asked["id"], "--runs", 1, "--alias", "y=income",
            "--include", "y", "--operation", "align", "--operation", "score",
        )  # fmt: skip
        assert (code, given["runs"], given["columns"], given["operations"]) == (0, 1, 1, ["align", "score"])
        shown = call("--home", other, "-o", "table", "grant", "show", given["id"])[1]
        assert "income" in shown
        monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: "n")
        assert call("--home", other, "grant", "revoke", given["id"])[0] == 130
        assert call("--home", other, "grant", "revoke", given["id"], "--yes")[1]["state"] == "revoked"
        assert call("--home", other, "grant", "refuse", given["id"])[0] == 4
        code, made, _ = call("--home", bank, "project", "new", "cards", "--purpose", "Joint models for cards")
        assert (code, made["parties"]) == (0, ["bank"])
        code, made, _ = call("--home", bank, "project", "invite", "cards", "data-co")
        assert made["parties"] == ["bank", "data-co"]
        while not call("--home", other, "project", "ls")[1]:
            time.sleep(0.05)
        assert "进行中" in call("--home", other, "--lang", "zh", "-o", "table", "project", "ls")[1]
        assert call("--home", bank, "project", "archive", "cards")[1]["state"] == "archived"
        assert call("--home", bank, "project", "archive", "cards")[0] == 4
        assert "Joint models" in call("--home", bank, "-o", "table", "project", "show", "cards")[1]
        assert call("--home", other, "approval", "ls")[1] == []

        code, job, _ = call("--home", bank, "job", "run", file, "--assume", 7)
        assert (code, job["state"]) == (0, "proposed")
        while not call("--home", other, "job", "ls")[1]:
            time.sleep(0.05)
        code, proposed, _ = call("--home", other, "job", "show", job["id"])
        assert (proposed["state"], proposed["digest"]) == ("proposed", job["digest"])
        assert call("--home", bank, "job", "watch", job["id"], "--timeout", 0)[0] == 3
        monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: "n")
        code, _, err = call("--home", other, "job", "accept", job["id"])
        assert code == 130
        for said in (
            "Rank new card applicants by risk",
            job["digest"],
            "bank",
            "which rows are in every tree node",
            "the job file names it",
            ": y",
        ):
            assert said in err
        assert call("--home", other, "job", "show", job["id"])[1]["state"] == "proposed"
        code, _, err = call("--home", other, "job", "accept", job["id"], "--yes")
        assert (code, "[grant_missing]" in err, "--grant" in err) == (6, True, True)
        assert call("--home", other, "job", "accept", job["id"], "--yes", "--grant")[0] == 0
        code, done, err = call("--home", bank, "job", "watch", job["id"])
        assert (code, done["state"]) == (0, "done")
        assert f"{job['id']} done" in err
        assert str(done["folder"]) in call("--home", bank, "job", "show", job["id"], "-o", "table")[1]
        assert call("--home", other, "job", "accept", job["id"], "--yes")[0] == 4

        file.write_text(PAILLIER.replace("name: card", "name: partner-fails"))
        code, failing, _ = call("--home", bank, "job", "run", file)
        while len(call("--home", other, "job", "ls")[1]) < 2:
            time.sleep(0.05)
        call("--home", other, "job", "accept", failing["id"], "--yes", "--grant")
        code, found, _ = call("--home", other, "approval", "ls")
        assert [(a["job"], a["state"]) for a in found] == [
            (failing["id"], "approved"),
            (job["id"], "approved"),
        ]
        assert "已同意" in call("--home", other, "--lang", "zh", "-o", "table", "approval", "ls")[1]
        assert failing["id"] in call("--home", other, "-o", "table", "approval", "show", found[0]["id"])[1]
        assert call("--home", other, "approval", "refuse", found[0]["id"], "--reason", "late")[0] == 4
        assert call("--home", other, "approval", "approve", found[0]["id"], "--yes")[0] == 4
        code, _, err = call("--home", bank, "job", "watch", failing["id"])
        assert (code, "[partner_failed]" in err, "too_small" in err) == (1, True, True)
    assert call("--home", bank, "job", "ls")[0] == 1
    assert os.listdir(bank / "jobs")


def tamper(home: Path, statement: str) -> None:
    """What somebody does who has the file of the database."""
    database = sqlite3.connect(home / "node.db", isolation_level=None)
    for trigger in ("audit_stays", "audit_remains"):
        database.execute(f"DROP TRIGGER IF EXISTS {trigger}")
    database.execute(statement)
    database.close()


def test_the_audit_log_is_shown_exported_and_verified(call: Callable[..., Any], tmp_path: Path) -> None:
    home = tmp_path / "bank"
    _, shown, _ = call("--home", home, "init", "--party", "bank", "--data", tmp_path)
    file = tmp_path / "audit.jsonl"
    with node(home):
        for _ in range(3):
            call("--home", home, "partner", "invite")
        _, lines, _ = call("--home", home, "audit", "ls", "--limit", "2")
        assert [(line["number"], line["kind"]) for line in lines] == [
            (4, "partner.invited"),
            (5, "partner.invited"),
        ]
        code, text, _ = call("--home", home, "audit", "export")
        assert code == 0
        file.write_text(text, "utf-8")
        assert len(text.splitlines()) == 5
        code, _, err = call("--home", home, "audit", "export", "--since", "yesterday")
        assert (code, "[out_of_bounds]" in err) == (4, True)
        code, good, err = call("--home", home, "audit", "verify")
        assert (code, good) == (0, {"lines": 5, "findings": []})
    tamper(home, "DELETE FROM audit WHERE number = 3")
    tamper(home, "UPDATE audit SET actor = 'bank' WHERE number = 1")
    with node(home):
        code, bad, err = call("--home", home, "audit", "verify")
        assert (code, "does not hold" in err) == (1, True)
        assert [(found["trouble"], found["first"]) for found in bad["findings"]] == [
            ("changed", 1),
            ("missing", 3),
        ]
        code, text, err = call("--home", home, "--lang", "zh", "-o", "table", "audit", "verify")
        assert (code, "已被删除" in text, "未通过" in err) == (1, True, True)
    code, good, _ = call("audit", "verify", file, "--key", shown["key"])
    assert (code, good["lines"]) == (0, 5)
    code, bad, _ = call("audit", "verify", file, "--key", "00" * 32)
    assert (code, len(bad["findings"])) == (1, 5)
    tail = tmp_path / "tail.jsonl"
    tail.write_text("".join(line + "\n" for line in file.read_text("utf-8").splitlines()[2:]), "utf-8")
    code, good, _ = call("audit", "verify", tail, "--key", shown["key"])
    assert (code, good["lines"]) == (0, 3)
    tail.write_text("")
    for arguments, problem in (
        ((file,), "missing_field"), ((file, "--key", "no"), "out_of_bounds"),
        ((tail, "--key", "00" * 32), "bad_document"),
    ):  # fmt: skip
        code, _, err = call("audit", "verify", *arguments)
        assert (code, f"[{problem}]" in err) == (4, True)
