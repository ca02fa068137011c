"""`isthmus health`, against a node that runs, one that has ended, and something else on its port."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from isthmus.cli.main import run
from isthmus.client.temporary import TemporaryNodes
from isthmus.store.folder import NodeFolder, make_config
from isthmus.wire.link import make_certificate


def test_a_node_is_healthy_while_it_runs_and_not_after(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with TemporaryNodes(["river-bank"], tmp_path, [tmp_path]) as nodes:
        home = str(nodes.node("river-bank").folder.home)
        assert run(["--home", home, "health"]) == 0
        assert run(["--home", home, "--lang", "zh", "health", "--ready"]) == 0
    assert capfd.readouterr().err.splitlines() == ["ok", "正常"]
    assert run(["--home", home, "health"]) != 0
    assert "[not_running]" in capfd.readouterr().err


def a_node(home: Path, port: int) -> list[str]:
    config = make_config({"party": "river-bank", "mode": "dial-out", "data": []}, "here")
    NodeFolder.create(home, config, make_certificate)
    (home / "control.json").write_text(json.dumps({"port": port, "link_port": None, "pid": 1}))
    return ["--home", str(home), "health"]


def test_a_node_that_left_its_announcement_behind_is_not_healthy(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert run(a_node(tmp_path / "home", probe.getsockname()[1])) != 0
    assert "[not_running]" in capfd.readouterr().err


class Busy(BaseHTTPRequestHandler):
    """Answers as a node does that is up and takes no work."""

    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/ready" else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_a_node_that_takes_no_work_is_healthy_but_not_ready(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        health = a_node(tmp_path / "home", server.server_port)
        assert run(health) == 0
        assert run([*health, "--ready"]) == 1
        server.shutdown()
    assert capfd.readouterr().err.splitlines() == ["ok", "not ready"]
