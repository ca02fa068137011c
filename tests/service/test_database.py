"""A node whose store is in a PostgreSQL database: real processes, a real server that goes away and comes back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from isthmus.base.errors import LocalError
from isthmus.client import Client
from isthmus.client.temporary import SERVE, end
from isthmus.store.folder import NodeFolder, make_config
from isthmus.wire.link import make_certificate
from tests.postgres import PASSWORD, PostgresServer, postgres_server
from tests.service.test_nodes import until


def node_on(server: PostgresServer, home: Path, database: str) -> NodeFolder:
    config = {"party": home.name, "mode": "dial-out", "database": server.url(database)}
    folder = NodeFolder.create(home, make_config(config, "test"), make_certificate)
    assert yaml.safe_load((home / "config.yaml").read_text())["database"] == server.url(database)
    password = home / "keys" / "database.password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    return folder


def started(folder: NodeFolder) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*SERVE, "--lang", "en", "--home", folder.home, "serve", "--until-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_a_node_lives_in_a_database_alone_and_outlives_a_restart_of_its_server(tmp_path: Path) -> None:
    with postgres_server() as server:
        name = server.make_database()
        folder = node_on(server, tmp_path / "bank", name)
        process = started(folder)
        try:
            until(lambda: folder.announced() or process.poll() is not None)
            with Client(folder) as client:
                client.invite()
                findings = {found["probe"]: found for found in client.doctor()}
                assert (findings["database"]["value"], findings["database"]["verdict"]) == (
                    server.url(name),
                    "ok",
                )
                port = folder.control().port
                ready = f"http://127.0.0.1:{port}/ready"
                second = started(node_on(server, tmp_path / "second", name))
                assert second.stderr is not None
                with second.stderr as talk:
                    told = talk.read()
                assert (second.wait(), b"[busy]" in told) == (1, True), told
                end(second)
                server.stop()
                assert httpx.get(ready).status_code == 503
                with pytest.raises(LocalError) as caught:
                    client.invite()
                assert caught.value.code == "database_down"
                server.start()
                assert httpx.get(ready).status_code == 200
                client.invite()
                kinds = [line.kind for line in client.audit()]
                assert kinds == ["node.started", "partner.invited", "partner.invited"]
                assert client.check_audit().findings == []
            assert not folder.database.exists()
        finally:
            end(process)
        assert process.stderr is not None
        assert PASSWORD.encode() not in process.stderr.read()
        process.stderr.close()
