"""Two node processes that only call out, joined and training through a relay process. (T23, N1)"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from isthmus.client import Client
from isthmus.client.temporary import TemporaryNode, end, join
from isthmus.store.folder import NodeFolder
from isthmus.store.records import ENDED
from tests.e2e.test_two_nodes import (
    BANK,
    OF_BANK,
    OF_PARTNER,
    PARTNER,
    document,
    processes_below,
    write_tables,
)
from tests.service.pair_of_nodes import free_port

PROGRAM = (sys.executable, "-m", "isthmus.cli.main")


def isthmus(home: Path, *arguments: str) -> dict[str, Any]:
    command = [*PROGRAM, "--home", str(home), "-o", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@contextmanager
def serving(*arguments: str, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [*PROGRAM, "-o", "json", *arguments, "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline() or b"null")
    finally:
        end(process)


def listens(pid: int) -> list[str]:
    """Local addresses on which a process tree listens beyond loopback or for the link."""
    inodes = set()
    for one in processes_below(pid):
        for handle in Path(f"/proc/{one}/fd").iterdir():
            try:
                target = os.readlink(handle)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            cells = row.split()
            if cells[3] == "0A" and cells[9] in inodes:
                found.append(cells[1])
    return found


def until(ready: Any, limit_s: float = 60.0) -> None:
    end_s = time.monotonic() + limit_s
    while not ready():
        assert time.monotonic() < end_s
        time.sleep(0.05)


@pytest.mark.trust("T23")
@pytest.mark.slow
def test_t23_two_nodes_that_do_not_listen_join_and_train_through_a_relay_that_reads_nothing(
    tmp_path: Path,
) -> None:
    bank_table, partner_table = write_tables(tmp_path)
    place = f"127.0.0.1:{free_port()}"
    relay_home = tmp_path / "relay-home"
    with ExitStack() as stack:
        relay_arguments = ("--home", str(relay_home), "relay", "serve", "--listen", place)
        relay, told = stack.enter_context(serving(*relay_arguments, log=tmp_path / "relay.log"))
        nodes = []
        for party in (BANK, PARTNER):
            home = tmp_path / party
            made = isthmus(
                home, "init", "--party", party, "--relay", f"https://{place}",
                "--relay-certificate", told["certificate"], "--data", str(tmp_path),
            )  # fmt: skip
            assert made["mode"] == "relay"
            process, _ = stack.enter_context(
                serving("--home", str(home), "serve", log=tmp_path / f"{party}.log")
            )
            client = stack.enter_context(Client(NodeFolder(home)))
            nodes.append(TemporaryNode(party, NodeFolder(home), process, client))
        bank, partner = nodes
        join(bank.client, partner.client)
        until(lambda: bank.client.partners()[0]["connected"] and partner.client.partners()[0]["connected"])
        bank.client.add_dataset("people", str(bank_table), "id", label="bad")
        partner.client.add_dataset("people", str(partner_table), "id")
        job = bank.client.propose(json.dumps(document(trees=2)))["id"]
        until(lambda: any(found["id"] == job for found in partner.client.jobs()))
        partner.client.accept_job(job, grant=True)
        until(lambda: bank.client.job(job)["state"] in ENDED, 120)
        ended = bank.client.job(job)
        assert ended["state"] == "done", ended["error"]
        assert json.loads((Path(ended["folder"]) / "report.json").read_text())["rows"]["common"] == 600
        if sys.platform.startswith("linux"):
            for node in nodes:
                # One socket listens, on loopback: that of the commands.
                assert [address.partition(":")[0] for address in listens(node.process.pid)] == ["0100007F"]
        until(lambda: partner.client.job(job)["state"] == "done")
        # A key is changed through the relay too, and the relay may go away and come back.
        partner.client.rotate()
        until(lambda: "key.taken" in [line.kind for line in partner.client.audit()])
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(20) == 0
        until(lambda: not partner.client.partners()[0]["connected"])
        stack.enter_context(serving(*relay_arguments, log=tmp_path / "relay.log"))
        until(lambda: bank.client.partners()[0]["connected"] and partner.client.partners()[0]["connected"])
        assert bank.client.check_audit().findings == partner.client.check_audit().findings == []
    held = b"".join(file.read_bytes() for file in relay_home.rglob("*") if file.is_file())
    held += (tmp_path / "relay.log").read_bytes()
    for word in (OF_BANK, OF_PARTNER, BANK.encode(), PARTNER.encode(), b"person-"):
        assert word not in held
    assert {file.name for file in relay_home.rglob("*") if file.is_file()} == {"relay.pem", "relay.key"}
