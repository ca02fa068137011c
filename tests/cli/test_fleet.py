"""Fleets at the command line: a real node, a real leader beside it, and a device that speaks to it with what was printed."""

from __future__ import annotations

import http.client
import json
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from isthmus.base.typed_json import read, write
from isthmus.client.temporary import end
from isthmus.crypto.seal import PartyKey
from isthmus.device.config import Config
from isthmus.fleet.cards import LeaderCard, read_card
from isthmus.protocols.device_round import (
    DEVICE_HEADER,
    PATH,
    SIGNATURE_HEADER,
    Answer,
    CheckIn,
    Conditions,
    Enrol,
    Refused,
    request_text,
)
from isthmus.wire.https import client_context
from isthmus.wire.link import certificate_der
from tests.cli.test_cli import call, node
from tests.service.fleet_rows import card, task_text

__all__ = ["call"]
Call = Callable[..., tuple[int, Any, str]]


class Phone:
    """A device that has nothing but what `fleet app` and `fleet ticket` print."""

    def __init__(self, app: Config) -> None:
        self.key = PartyKey.generate()
        self._app = app
        host, port = app.leader.place
        context = client_context(certificate_der(app.leader.certificate.encode()))
        self._line = http.client.HTTPSConnection(host, port, context=context, timeout=20)

    def ask(self, what: str, said: Enrol | CheckIn) -> tuple[int, bytes]:
        body = write(said)
        signature = self.key.sign(request_text(self._app.leader.key, PATH + what, body))
        headers = {DEVICE_HEADER: self.key.public.hex(), SIGNATURE_HEADER: signature.hex()}
        self._line.request("POST", PATH + what, body, headers)
        reply = self._line.getresponse()
        return reply.status, reply.read()

    def enrol(self, ticket: dict[str, Any]) -> tuple[int, bytes]:
        said = Enrol(self._app.population, bytes.fromhex(ticket["ticket"]), ticket["expires_ms"], "8.2")
        return self.ask("enrol", said)

    def check_in(self) -> Answer:
        conditions = Conditions(True, True, True, 1000, 20.0)
        status, body = self.ask("check-in", CheckIn(self._app.population, "8.2", conditions, None, 0))
        assert status == 200, body
        return read(Answer, body)


@contextmanager
def leading(home: Path, *options: str) -> Iterator[dict[str, Any]]:
    """A leader as a process of its own; what it printed."""
    command = [
        sys.executable,
        "-m",
        "isthmus.cli.main",
        "--home",
        str(home),
        "leader",
        "serve",
        "--until-eof",
    ]
    with (home / "leader.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "-o", "json", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, (home / "leader.log").read_text()
        yield json.loads(line)
    finally:
        end(process)


@pytest.fixture
def home(call: Call, tmp_path: Path) -> Path:
    call("--home", tmp_path / "bank", "init", "--party", "bank", "--data", tmp_path)
    return tmp_path / "bank"


def write_task(path: Path, **sections: dict[str, Any]) -> Path:
    path.write_text(task_text(**sections))
    return path


@pytest.mark.slow
def test_a_fleet_from_its_making_to_a_blocked_device(call: Call, home: Path, tmp_path: Path) -> None:
    at = ("--home", home)
    secret = tmp_path / "authority.key"
    task = write_task(tmp_path / "task.yaml")
    with node(home):
        code, made, err = call(*at, "fleet", "new", "phones", "--new-authority", secret)
        assert (code, made["name"], "signs tickets" in err) == (0, "phones", True)
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        authority = PartyKey.from_bytes(bytes.fromhex(secret.read_text()))
        assert made["authority"] == authority.public.hex()
        assert secret.read_text() not in json.dumps(made) + err
        assert call(*at, "fleet", "new", "more", "--new-authority", secret)[0] == 4
        assert call(*at, "fleet", "new", "more")[0] == 4
        assert call(*at, "fleet", "new", "phones", "--new-authority", tmp_path / "second.key")[0] == 4
        assert not (tmp_path / "second.key").exists()
        assert call(*at, "fleet", "app", "phones")[0] == 4  # no leader yet

        code, plan, _ = call(*at, "fleet", "plan", task)
        assert (code, [each["code"] for each in plan["obstacles"]]) == (6, ["not_found", "not_found"])
        for number, name in enumerate(("app-co", "audit-house")):
            (tmp_path / "card.json").write_text(card(name, 10 * number + 1))
            code, added, err = call(*at, "fleet", "helper", "add", tmp_path / "card.json")
            assert (code, added["fingerprint"] in err) == (0, True)
        assert [each["name"] for each in call(*at, "fleet", "helper", "ls")[1]] == ["app-co", "audit-house"]
        assert call(*at, "fleet", "plan", task)[0] == 0
        code, text, _ = call(*at, "-o", "table", "--lang", "zh", "fleet", "plan", task)
        assert "单台设备的隐私" in text

        code, started, _ = call(*at, "fleet", "run", task)
        assert (code, started["state"]) == (0, "running")
        assert call(*at, "fleet", "run", task)[0] == 4
        with leading(home, "--listen", "127.0.0.1:0") as led:
            code, printed, _ = call(*at, "fleet", "app", "phones", "--app-version", "8.2")
            app = Config.from_json(json.dumps(printed))
            assert f"https://{app.leader.address}" == led["address"] == f"https://127.0.0.1:{led['port']}"
            assert Path(led["certificate"]).read_text() == app.leader.certificate
            assert (app.authority, app.epsilon_most) == (authority.public, 8.0)
            assert call(*at, "fleet", "app", "phones", "--any-privacy")[1]["epsilon_most"] is None
            phone = Phone(app)
            signing = ("--authority", secret, "--fleet", "phones", "--device", phone.key.public.hex())
            code, ticket, _ = call(*at, "fleet", "ticket", *signing)
            # The back end of an app needs no node.
            _, same, _ = call("fleet", "ticket", *signing, "--leader", app.leader.key.hex(), "--days", 2)
            assert phone.enrol(same)[0] == 200
            assert phone.enrol(ticket)[0] == 200
            stranger = Phone(app)
            status, body = stranger.enrol(ticket)
            assert (status, read(Refused, body).code) == (401, "bad_signature")
            answer = phone.check_in()
            assert answer.offer is not None
            assert answer.offer.round.task.hex() == started["digest"]

            _, devices, _ = call(*at, "fleet", "devices", "phones")
            assert [each["key"] for each in devices] == [phone.key.public.hex()]
            until(lambda: call(*at, "fleet", "show", "phones")[1]["newest_round"]["funnel"]["offered"] == 1)
            code, text, _ = call(*at, "-o", "table", "fleet", "show", "phones")
            assert "checked in" in text
            code, _, err = call(*at, "fleet", "watch", "taste-1", "--timeout", 0)
            assert (code, "collecting reports  0/40" in err) == (3, True)

            assert call(*at, "fleet", "kill", "phones")[1]["stopped"] is True
            until(lambda: phone.check_in().stopped)
            until(lambda: call(*at, "fleet", "show", "phones")[1]["newest_round"]["reason"] == "stopped")
            assert call(*at, "fleet", "kill", "phones", "--undo")[1]["stopped"] is False
            until(lambda: phone.check_in().offer is not None)

            code, blocked, _ = call(*at, "fleet", "block", "phones", phone.key.public.hex())
            assert (code, blocked["blocked"]) == (0, True)
            until(lambda: phone.enrol(ticket)[0] == 403)
            assert call(*at, "fleet", "stop", "taste-1")[1]["state"] == "stopped"
            code, ended, _ = call(*at, "fleet", "watch", "taste-1")
            assert (code, ended["state"]) == (1, "stopped")
            assert call(*at, "fleet", "watch", "none")[0] == 4
            assert call(*at, "fleet", "rollout", "phones")[1] == []
            assert call(*at, "fleet", "rollout", "phones", "--next")[0] == 4


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


@pytest.mark.slow
def test_one_leader_serves_a_folder_and_comes_back_where_it_was(
    call: Call, home: Path, tmp_path: Path
) -> None:
    at = ("--home", home)
    code, status, _ = call(*at, "leader", "status")
    assert (code, status["running"], status["address"]) == (1, False, None)
    code, _, err = call(*at, "leader", "serve")
    assert (code, "[missing_field]" in err, "--listen" in err) == (4, True, True)
    for options, field in ((("--listen", "here"), "--listen"), (("--listen", "0.0.0.0:0"), "--address")):
        code, _, err = call(*at, "leader", "serve", *options)
        assert (code, field in err) == (4, True)
    code, _, err = call("--home", tmp_path / "none", "leader", "serve", "--listen", "127.0.0.1:0")
    assert (code, "[not_a_node]" in err) == (4, True)
    with leading(home, "--listen", "127.0.0.1:0", "--metrics-port", "0") as led:
        code, status, _ = call(*at, "leader", "status")
        assert (code, status["running"], status["address"]) == (0, True, led["address"])
        code, _, err = call(*at, "leader", "serve")
        assert (code, "[busy]" in err) == (1, True)
        shown = fetch(led["metrics_port"], "/metrics")
        assert "isthmus_leader_check_ins_total 0.0" in shown
        assert fetch(led["metrics_port"], "/health") == "ok\n"
    assert call(*at, "leader", "status")[0] == 1
    certificate = Path(led["certificate"]).read_bytes()
    with leading(home) as again:
        assert (again["port"], again["address"], again["metrics_port"]) == (led["port"], led["address"], None)
    assert Path(again["certificate"]).read_bytes() == certificate
    (home / "fleet" / "leader.key").chmod(0o644)
    code, _, err = call(*at, "leader", "serve")
    assert (code, "[file_mode]" in err) == (4, True)


def fetch(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as reply:
        return str(reply.read().decode())


def test_the_card_of_a_leader_names_those_who_enrol_its_devices(call: Call, home: Path) -> None:
    at = ("--home", home)
    assert call(*at, "leader", "card")[0] == 4
    keys = [PartyKey.generate().public for _ in range(2)]
    with node(home):
        for number, key in enumerate(keys):
            assert call(*at, "fleet", "new", f"phones-{number}", "--authority", key.hex())[0] == 0
    code, shown, err = call(*at, "leader", "card")
    found = read_card(LeaderCard, json.dumps(shown))
    assert (code, found.name, set(found.authorities)) == (0, "bank", set(keys))
    assert "telephone" in err


def test_what_a_file_must_be_is_said_before_anything_is_asked(call: Call, home: Path, tmp_path: Path) -> None:
    at = ("--home", home)
    (tmp_path / "no.yaml").write_text("kind: FleetTask\n")
    assert "[not_running]" in call(*at, "fleet", "new", "phones", "--new-authority", tmp_path / "a.key")[2]
    assert not (tmp_path / "a.key").exists()
    for arguments, code in (
        (("fleet", "plan", tmp_path / "no.yaml"), "missing_field"),
        (("fleet", "run", tmp_path / "gone.yaml"), "bad_path"),
        (("fleet", "helper", "add", tmp_path / "gone.json"), "bad_path"),
        (("fleet", "block", "phones", "5f"), "out_of_bounds"),
    ):
        exit_code, _, err = call(*at, *arguments)
        assert (exit_code, f"[{code}]" in err) == (4, True), (arguments, err)
    (tmp_path / "key").write_text("5f" * 32)
    (tmp_path / "key").chmod(0o644)
    options = ("--fleet", "phones", "--device", "5f" * 32, "--leader", "5f" * 32)
    assert "[file_mode]" in call("fleet", "ticket", "--authority", tmp_path / "key", *options)[2]
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "key").write_text("5f")
    assert "[bad_path]" in call("fleet", "ticket", "--authority", tmp_path / "key", *options)[2]
