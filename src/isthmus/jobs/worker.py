"""The process that runs one job: `python -m isthmus.jobs.worker`, started by the node.

In: one line of JSON on stdin (the instruction), and one connected socket per partner, handed over by number. Out: lines of
JSON on stdout, `{"step": ...}` as the work goes on, `{"kept": ...}` after every barrier, `{"alive": {}}` every few seconds, and
`{"done": ...}` or `{"error": ...}` at the end. A worker opens no connection, and has neither the party key nor the store; what
it needs to be taken up again it puts into the record of its run. It dies with the node: stdin is held open by the node and ends
with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from isthmus.base.errors import ConfigError, DataError, IsthmusError
from isthmus.base.progress import Progress, Step
from isthmus.base.record import Record
from isthmus.base.workers import in_thread
from isthmus.crypto.lattice import vectors
from isthmus.jobs import runner
from isthmus.jobs.instruction import Instruction, read_options
from isthmus.jobs.spec import JobFile, job_digest, parse_job
from isthmus.learn import tree
from isthmus.store.checkpoints import Checkpoints
from isthmus.table import ReadOptions, Table, file_digest, read_ids, read_table
from isthmus.wire.channel import Channel
from isthmus.wire.meter import Meter
from isthmus.wire.stream import open_stream

STEP_EVERY_S = 0.2
ALIVE_EVERY_S = 5.0
_FORBIDDEN = frozenset(
    {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "pickle.find_class"}
)


class Says:
    """Writes JSON lines to the node; what anything else prints to stdout goes to the log."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._stage = ""
        self._said_s = 0.0
        self._lock = threading.Lock()

    def line(self, kind: str, data: dict[str, Any]) -> None:
        with self._lock:
            self._out.write(json.dumps({kind: data}, ensure_ascii=False, default=str).encode() + b"\n")

    def alive(self) -> None:
        """For ever, from a thread of its own: a node ends a worker that has fallen silent."""
        while True:
            time.sleep(ALIVE_EVERY_S)
            self.line("alive", {})

    def step(self, step: Step) -> None:
        """Every new stage and every end of one; in between a few lines a second."""
        now_s = time.monotonic()
        if step.stage != self._stage or step.done == step.total or now_s - self._said_s >= STEP_EVERY_S:
            self._stage, self._said_s = step.stage, now_s
            self.line("step", asdict(step))


class Told:
    """The record of the run, with the meters of the channels, and word to the node of every barrier."""

    def __init__(self, record: Checkpoints, meters: dict[str, Meter], says: Says) -> None:
        self._record, self._meters, self._says = record, meters, says
        self.found, self.count, self.raise_to = record.found, record.count, record.raise_to

    @property
    def barrier(self) -> int:
        return self._record.barrier

    def keep(self, barrier: int, **parts: bytes) -> None:
        spent = json.dumps({partner: meter.to_json() for partner, meter in self._meters.items()}).encode()
        passed = barrier > self._record.barrier
        self._record.keep_spent(barrier, spent, **parts)
        if passed:
            self._says.line("kept", {"barrier": barrier})


async def run(instruction: Instruction, progress: Progress, says: Says) -> dict[str, Any]:
    """Runs one party's side of a job. On failure the partners hear the code before the error goes on."""
    key = bytes.fromhex(instruction.record_key)
    with Checkpoints(Path(instruction.record_path), key, instruction.attempt) as checkpoints:
        spent = json.loads(checkpoints.spent or b"{}")
        meters = {p: Meter.from_json(spent[p]) if p in spent else Meter() for p in instruction.sockets}
        record = Told(checkpoints, meters, says)
        return await _run_on(instruction, record, meters, progress)


async def _run_on(
    instruction: Instruction, record: Record, meters: dict[str, Meter], progress: Progress
) -> dict[str, Any]:
    channels = {
        partner: Channel(await open_stream(socket.socket(fileno=number)), partner, meters[partner])
        for partner, number in instruction.sockets.items()
    }
    try:
        return await _run(instruction, channels, progress, record)
    except BaseException as error:
        await asyncio.gather(*(channel.abort(error) for channel in channels.values()))
        raise
    finally:
        await asyncio.gather(*(channel.close() for channel in channels.values()))


async def _run(
    instruction: Instruction, channels: dict[str, Channel], progress: Progress, record: Record
) -> dict[str, Any]:
    job = parse_job(instruction.job)
    digest = bytes.fromhex(instruction.digest)
    if job_digest(instruction.job) != digest:
        raise ConfigError("hash_changed")
    options = read_options(job, instruction.party, instruction.reading)
    table = await in_thread(_read, instruction, options, progress)
    out = Path(instruction.out)
    if instruction.role == "feature_owner":
        channel = channels[job.parties.label_owner]
        return await runner.run_feature_owner(
            job, digest, instruction.party, table, channel, out, progress, record, instruction.attempt
        )
    test_ids = await in_thread(_test_ids, instruction, job, options, table)
    return await runner.run_label_owner(job, digest, table, channels, out, progress, test_ids, record)


def _read(instruction: Instruction, options: ReadOptions, progress: Progress) -> Table:
    path = Path(instruction.table_path)
    if file_digest(path) != instruction.table_sha256:
        raise DataError("dataset_changed", file=path.name)
    return read_table(path, options, progress)


def _test_ids(
    instruction: Instruction, job: JobFile, options: ReadOptions, table: Table
) -> list[bytes] | None:
    if job.split.by != "ids" or instruction.test_ids_path is None:
        return None
    path = Path(instruction.test_ids_path)
    if file_digest(path) != job.split.test_ids_sha256:
        raise DataError("dataset_changed", file=path.name)
    ids = read_ids(path, ReadOptions(id=options.id, id_form=options.id_form, encoding=options.encoding))
    known = set(table.ids)
    unknown = [row for row, test_id in enumerate(ids, start=1) if test_id not in known]
    if unknown:
        raise DataError("unknown_ids", file=path.name, count=len(unknown), rows=unknown[:20])
    return ids


def main() -> int:
    """The top loop of a worker: whatever happens becomes one last line."""
    says = Says()
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        instruction = Instruction.from_line(sys.stdin.buffer.readline())
        threading.Thread(target=_die_with_the_node, daemon=True).start()
        threading.Thread(target=says.alive, daemon=True).start()
        Progress(says.step).start("kernels")
        _warm(instruction)
        _stay_inside()
        result = asyncio.run(run(instruction, Progress(says.step), says))
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = used.ru_utime + used.ru_stime
        says.line("done", {"result": result, "cpu_s": cpu_s, "peak_bytes": used.ru_maxrss * _RSS_UNIT_BYTES})
    except IsthmusError as error:
        logging.getLogger(__name__).error("%s", error)
        says.line("error", {"class": type(error).__name__, "code": error.code, "fields": error.fields})
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - a top loop
        frames = "".join(traceback.format_tb(error.__traceback__))
        logging.getLogger(__name__).error("%s\n%s", type(error).__name__, frames)
        says.line("error", {"class": "LocalError", "code": "bug", "fields": {"why": type(error).__name__}})
        return 5
    return 0


def _warm(instruction: Instruction) -> None:
    """Compile or load every kernel that the job will use: a cache is read before the worker closes itself off, or not."""
    if instruction.role == "label_owner":
        tree.warm()
    if instruction.job["crypto"]["engine"] == "lattice-hint":
        vectors.warm()


_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


def _die_with_the_node() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _stay_inside() -> None:
    """Refuses, from now on, whatever would open a connection or load code out of data."""

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event in _FORBIDDEN:
            raise PermissionError(f"a worker does not do {event}")

    hook: Callable[[str, tuple[object, ...]], None] = refuse
    sys.addaudithook(hook)


if __name__ == "__main__":
    sys.exit(main())
