"""The worker as a process: what it is given, what it says, when it dies. The runner is a small one of the tests."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isthmus.jobs.instruction import Instruction
from isthmus.jobs.spec import job_digest, parse_job, resolve
from isthmus.table import file_digest
from isthmus.wire.message import Abort
from tests.jobs.examples import document

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")


def instruction(folder: Path, sock: socket.socket, **changes: Any) -> Instruction:
    table = folder / "bank.csv"
    if not table.exists():
        rows = [f"1380000{i:04d},{i},{i % 2}" for i in range(20)]
        table.write_text("\n".join(["mobile,x,bad", *rows]) + "\n")
    resolved = resolve(parse_job(document()))
    fields: dict[str, Any] = {
        "job": resolved,
        "digest": job_digest(resolved).hex(),
        "party": "bank",
        "role": "label_owner",
        "table_path": str(table),
        "table_sha256": file_digest(table),
        "out": str(folder),
        "sockets": {"data-co": sock.fileno()},
    }
    return Instruction(**fields | changes)


@contextmanager
def worker(sock: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, str(FAKE_WORKER)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[sock.fileno()],
    )  # fmt: skip
    sock.close()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()


def last_line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    said: dict[str, Any] = json.loads(lines[-1])
    return said


def test_a_worker_dies_with_the_node_that_started_it(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    given = instruction(tmp_path, theirs)
    with ours, worker(theirs) as process:
        assert process.stdin is not None
        process.stdin.write(given.to_line())
        process.stdin.flush()
        assert ours.recv(4)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(30) == 1


def test_a_table_that_changed_stops_the_worker_and_the_partner_hears_the_code_alone(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    given = instruction(tmp_path, theirs, table_sha256="0" * 64)
    with ours, worker(theirs) as process:
        assert process.stdin is not None
        process.stdin.write(given.to_line())
        process.stdin.flush()
        heard = b""
        while part := ours.recv(4096):
            heard += part
        body = Abort("dataset_changed").encode()
        assert heard == struct.pack("<I", len(body)) + body
        said = last_line(process)
        fields = {"file": "bank.csv"}
        assert said == {"error": {"class": "DataError", "code": "dataset_changed", "fields": fields}}


def test_a_job_that_does_not_fit_its_hash_is_refused(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    given = instruction(tmp_path, theirs, digest="0" * 64)
    with ours, worker(theirs) as process:
        assert process.stdin is not None
        process.stdin.write(given.to_line())
        process.stdin.flush()
        assert last_line(process)["error"]["code"] == "hash_changed"


def test_the_instruction_holds_no_secret_and_the_command_line_nothing_at_all(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    given = instruction(tmp_path, theirs)
    with ours, worker(theirs) as process:
        assert process.stdin is not None
        process.stdin.write(given.to_line())
        process.stdin.flush()
        assert ours.recv(4)
        command = Path(f"/proc/{process.pid}/cmdline")
        if command.exists():
            assert command.read_bytes().split(b"\0")[1:-1] == [os.fsencode(FAKE_WORKER)]
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
            assert core.split()[4:6] == ["0", "0"]
    assert "key" not in {name.lower() for name in json.loads(given.to_line())}
