"""The worker as a process: what it is given, what it says, when it dies. The runner is a small one of the tests, but for the
jobs at the end, which are whole."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.jobs.instruction import Instruction
from isthmus.jobs.spec import job_digest, parse_job, resolve
from isthmus.table import file_digest
from isthmus.wire.message import Abort
from tests.jobs.examples import document

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")
REAL_WORKER = ("-m", "isthmus.jobs.worker")


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
        "attempt": 0,
        "record_path": str(Path(changes.get("out", folder)) / "record.db"),
        "record_key": bytes(32).hex(),
        "sockets": {"data-co": sock.fileno()},
    }
    return Instruction(**fields | changes)


@contextmanager
def worker(
    sock: socket.socket, command: Sequence[str] = (str(FAKE_WORKER),)
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, *command],
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


def write_people(folder: Path) -> dict[str, Path]:
    """400 people of the bank, 380 of them known to the partner, who knows what the bank does not."""
    draw = np.random.default_rng(5)
    traits = draw.normal(size=(400, 4))
    bad = (traits[:, 0] + 2 * traits[:, 2] + draw.normal(size=400) > 0.8).astype(int)
    rows = {
        "bank": ["id,a,b,bad", *(f"u{i:03d},{traits[i, 0]},{traits[i, 1]},{bad[i]}" for i in range(400))],
        "data-co": ["id,c,d", *(f"u{i:03d},{traits[i, 2]},{traits[i, 3]}" for i in range(20, 400))],
    }
    paths = {party: folder / f"{party}.csv" for party in rows}
    for party, lines in rows.items():
        paths[party].write_text("\n".join(lines) + "\n")
    return paths


def whole_job(folder: Path, engine: str) -> dict[str, dict[str, Any]]:
    """The last line of the label owner's worker and of the feature owner's, both real, after a job of two small trees."""
    tables = write_people(folder)
    job = document(
        inputs={party: {"dataset": "people@1", "keys": [[{"column": "id"}]]} for party in tables},
        align={"min_rows": 100},
        split={"train": 0.6, "valid": 0.2, "test": 0.2},
        model={"trees": 2, "depth": 2, "min_child_rows": 20, "local_trees": 0},
        features={"binning": {"max_bins": 6}},
        crypto={"engine": engine, "paillier_bits": 2048},
        evaluate={"bootstrap": 10},
    )
    resolved = resolve(parse_job(job))
    ends = dict(zip(tables, socket.socketpair(), strict=True))
    with ExitStack() as running:
        workers = {}
        for party, other in (("bank", "data-co"), ("data-co", "bank")):
            out = folder / party
            out.mkdir()
            given = instruction(
                folder,
                ends[party],
                job=resolved,
                digest=job_digest(resolved).hex(),
                party=party,
                role="label_owner" if party == "bank" else "feature_owner",
                table_path=str(tables[party]),
                table_sha256=file_digest(tables[party]),
                out=str(out),
                sockets={other: ends[party].fileno()},
            )
            workers[party] = running.enter_context(worker(ends[party], REAL_WORKER))
            stdin = workers[party].stdin
            assert stdin is not None
            stdin.write(given.to_line())
            stdin.flush()
        return {party: last_line(process) for party, process in workers.items()}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["lattice-hint", "paillier"])
def test_a_whole_job_needs_nothing_that_a_closed_worker_may_not_do(tmp_path: Path, engine: str) -> None:
    """Twice: a kernel that was not made ready is compiled by the first run and refused by the second, which finds it in the
    cache and may not read it any more."""
    for run in ("first", "second"):
        folder = tmp_path / run
        folder.mkdir()
        for party, said in whole_job(folder, engine).items():
            assert "done" in said, (run, party, said)
        assert (folder / "bank" / "scores.csv").is_file()
