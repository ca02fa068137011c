"""A worker whose runner only passes a message; the name of the job says what else it does."""

import asyncio
import json
import os
import signal
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from isthmus.base.errors import DataError
from isthmus.base.record import ALIGNED, FINISHED
from isthmus.wire.message import Message, Number


@dataclass(frozen=True)
class Count(Message):
    KIND: ClassVar[int] = 0x7F01
    rows: Annotated[int, Number("Q")]


async def pass_a_barrier(name: str, out: Path, record: Any) -> None:
    """A job `steps` passes one barrier when it is told to, and works on for ever."""
    if name == "steps":
        (out / "steps").write_text(str(os.getpid()))
        while not (out / "go").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        record.keep(ALIGNED)
        await asyncio.sleep(3600)


async def run_label_owner(job, digest, table, channels, out, progress, test_ids, record):  # type: ignore[no-untyped-def]
    progress.start("align", len(channels))
    await pass_a_barrier(job.metadata.name, out, record)
    if job.metadata.name == "label-dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.metadata.name == "label-connects":
        import socket

        socket.create_connection(("127.0.0.1", 9))
    if job.metadata.name == "label-prints":
        print("noise that is no line of JSON")
    rows = 0
    for done, channel in enumerate(channels.values(), start=1):
        await channel.send(Count(table.rows))
        rows += (await channel.recv(Count)).rows
        progress.at(done)
    _write(out)
    tests = -1 if test_ids is None else len(test_ids)
    figures = {"rows": rows, "tests": tests, "digest": digest.hex(), "environment": sorted(os.environ)}
    record.keep(FINISHED, figures=json.dumps(figures).encode())
    return figures


async def run_feature_owner(job, digest, party, table, channel, out, progress, record, attempts):  # type: ignore[no-untyped-def]
    progress.start("align", 1)
    await pass_a_barrier(job.metadata.name, out, record)
    received = await channel.recv(Count)
    if job.metadata.name == "partner-fails":
        raise DataError("too_small", what="the table", count=table.rows, needed=10**6)
    if job.metadata.name == "partner-dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.metadata.name == "partner-dies-once" and attempts == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if job.metadata.name == "partner-hangs" and not (out / "hangs").exists():
        (out / "hangs").write_text(str(os.getpid()))
        signal.pause()
    await channel.send(Count(table.rows))
    if job.metadata.name == "partner-dies-late" and attempts == 1:
        await asyncio.sleep(1.0)  # the label owner has all it needs by then
        os.kill(os.getpid(), signal.SIGKILL)
    record.keep(FINISHED, figures=json.dumps({"rows": received.rows}).encode())
    return {"rows": received.rows}


def _write(out: Path) -> None:
    for name in ("report.en.html", "report.zh.html", "report.json", "scores.csv"):
        (out / name).write_text(name)


runner: Any = types.ModuleType("isthmus.jobs.runner")
runner.run_label_owner = run_label_owner
runner.run_feature_owner = run_feature_owner
sys.modules["isthmus.jobs.runner"] = runner

if __name__ == "__main__":
    import isthmus.jobs

    isthmus.jobs.runner = runner
    from isthmus.jobs import worker

    worker._warm = lambda instruction: None
    sys.exit(worker.main())
