"""Starts the worker of a job and carries whole message bodies between it and the lines of the link."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from isthmus.base.errors import IsthmusError, LineError, LocalError, PeerError, rebuild
from isthmus.base.progress import Step
from isthmus.jobs.instruction import LINE_MAX_BYTES, Instruction
from isthmus.wire import heap
from isthmus.wire.channel import Line
from isthmus.wire.message import Abort
from isthmus.wire.stream import StreamLine, open_stream

HALT_S = 2.0
LEASE_S = 120.0
"""A worker says every few seconds that it is alive (jobs/worker.py)."""
_PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH"),
    *("XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "COVERAGE_PROCESS_START"),
)


@dataclass(slots=True)
class _Ending:
    """The last line of the worker, what went wrong on a line, and why it was halted."""

    done: dict[str, Any] | None = None
    error: IsthmusError | None = None
    line_error: IsthmusError | None = None
    halted: IsthmusError | None = None

    def cause(self) -> IsthmusError | None:
        """The worker's own words come first, unless all that it knows is that a line was closed."""
        if self.error and self.error.code != "closed":
            return self.error
        return self.line_error or self.halted or self.error


async def run_worker(
    command: Sequence[str],
    instruction: Instruction,
    lines: Mapping[str, Line],
    log: Path,
    on_step: Callable[[Step], None],
    halt: asyncio.Future[IsthmusError],
    cores: int = 0,
    on_kept: Callable[[int], None] = lambda barrier: None,
) -> dict[str, Any]:
    """What the worker's last line holds. Raises its error, or that of a line, or LocalError `worker_killed`.

    Once `halt` holds an error the worker's channels are closed, and a worker that does not end by itself is ended; so is one
    that has been silent for LEASE_S. `on_kept` hears of every barrier that the worker has passed.
    The lines are closed when this returns; where the worker died without a word the partners hear `worker_killed`.
    """
    ending = _Ending()
    pairs = {partner: socket.socketpair() for partner in lines}
    sockets = {partner: theirs.fileno() for partner, (_, theirs) in pairs.items()}
    with log.open("ab") as log_file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_file,
            pass_fds=tuple(sockets.values()),
            env=_environment(cores),
            limit=LINE_MAX_BYTES,
            start_new_session=True,
        )
    streams: dict[str, StreamLine] = {}
    outward: list[asyncio.Task[None]] = []
    inward: list[asyncio.Task[None]] = []
    watch: asyncio.Task[None] | None = None
    try:
        for partner, (ours, theirs) in pairs.items():
            theirs.close()
            streams[partner] = await open_stream(ours)
            trouble = _trouble(process, ending)
            inward.append(asyncio.create_task(_inward(lines[partner], streams[partner], trouble)))
            outward.append(asyncio.create_task(_outward(streams[partner], lines[partner], trouble)))
        watch = asyncio.create_task(_halt(halt, streams, process, ending))
        assert process.stdin is not None
        with suppress(ConnectionError):
            process.stdin.write(replace(instruction, sockets=sockets).to_line())
            await process.stdin.drain()
        await _read_lines(process, ending, on_step, on_kept)
        await process.wait()
        await asyncio.gather(*outward)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        tasks = (*inward, *outward, *([watch] if watch else []))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in streams.values():
            await stream.close()
        for line in lines.values():
            if ending.done is None and ending.error is None:
                with suppress(IsthmusError):
                    await line.put(Abort("worker_killed").encode())
            await line.close()
    if ending.done is None:
        cause = ending.cause()
        if cause:
            raise cause
        code = process.returncode or 0
        why = f"signal {-code}" if code < 0 else f"exit {code}"
        raise LocalError("worker_killed", why=why)
    return ending.done


def _environment(cores: int) -> dict[str, str]:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= heap.ENVIRONMENT
    # Matrix products are a side matter: threads that wait for each other would cost more than they bring.
    environment["OPENBLAS_NUM_THREADS"] = "1"
    environment.setdefault("NUMBA_CACHE_DIR", str(_kernel_cache()))
    if cores:
        environment |= {"OMP_NUM_THREADS": str(cores), "NUMBA_NUM_THREADS": str(cores)}
    return environment


def _kernel_cache() -> Path:
    """Where compiled kernels are kept for the next worker: this user's cache folder, or a folder of the user's own in /tmp."""
    for root in (
        os.environ.get("XDG_CACHE_HOME"),
        str(Path(os.environ.get("HOME") or "/nonexistent") / ".cache"),
    ):
        if root:
            folder = Path(root) / "isthmus" / "kernels"
            with suppress(OSError):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if os.access(folder, os.W_OK):
                    return folder
    folder = Path(tempfile.gettempdir()) / f"isthmus-kernels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise LocalError("disk_error", path=str(folder), why="it belongs to somebody else")
    return folder


def _trouble(process: asyncio.subprocess.Process, ending: _Ending) -> Callable[[IsthmusError], None]:
    """Keeps the first error of a line and ends the worker, which could not know what it means."""

    def keep(error: IsthmusError) -> None:
        ending.line_error = ending.line_error or error
        if process.returncode is None:
            process.kill()

    return keep


async def _halt(
    halt: asyncio.Future[IsthmusError],
    streams: Mapping[str, StreamLine],
    process: asyncio.subprocess.Process,
    ending: _Ending,
) -> None:
    ending.halted = await asyncio.shield(halt)
    for stream in streams.values():
        await stream.close()
    await asyncio.sleep(HALT_S)
    if process.returncode is None:
        process.kill()


async def _inward(line: Line, stream: StreamLine, trouble: Callable[[IsthmusError], None]) -> None:
    """From the partner to the worker, until the partner has closed."""
    while True:
        try:
            body = await line.get()
        except (LineError, PeerError) as error:
            if error.code != "closed":
                trouble(error)
            await stream.close()
            return
        try:
            await stream.put(body)
        except LineError:
            return


async def _outward(stream: StreamLine, line: Line, trouble: Callable[[IsthmusError], None]) -> None:
    """From the worker to the partner, until the worker has closed."""
    while True:
        try:
            body = await stream.get()
        except (LineError, PeerError):
            return
        try:
            await line.put(body)
        except (LineError, PeerError) as error:
            if error.code != "closed":
                trouble(error)
            return


async def _read_lines(
    process: asyncio.subprocess.Process,
    ending: _Ending,
    on_step: Callable[[Step], None],
    on_kept: Callable[[int], None],
) -> None:
    assert process.stdout is not None
    while True:
        try:
            line = await asyncio.wait_for(process.stdout.readline(), LEASE_S)
        except TimeoutError:
            ending.error = LocalError("worker_killed", why=f"silent for {LEASE_S:.0f} s")
            process.kill()
            return
        if not line:
            return
        said = json.loads(line)
        if "step" in said:
            on_step(Step(**said["step"]))
        elif "kept" in said:
            on_kept(said["kept"]["barrier"])
        elif "done" in said:
            ending.done = said["done"]
        elif "error" in said:
            told = said["error"]
            ending.error = rebuild(told["class"], told["code"], told["fields"])
