"""`isthmus serve` and its workers, whose every write that lasts is a point at which the process may be killed.

`python process.py node|worker HOME`. HOME/fate.json says what is to happen, once: {"role", "point", "how"}: at the point-th
boundary of a process of that role `kill` sends SIGKILL, `full` fails this write and the next ones for a while as a full disk
does. HOME/passed-ROLE gets one byte for every boundary.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from isthmus.base import files
from isthmus.wire import link
from isthmus.wire.faults import Fault, FaultyTransport

FULL_S = 1.0
SMALL_WORKER = Path(__file__).parents[1] / "jobs" / "fake_worker.py"


class Fate:
    """Counts the boundaries of this process; what is to happen happens once, whatever process comes after."""

    def __init__(self, home: Path, role: str) -> None:
        self._role, self._order = role, home / f"fate-{role}"
        self._passed = os.open(home / f"passed-{role}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._count = 0
        self._full_until_s = 0.0
        try:
            how, point = self._order.read_text().split()
        except FileNotFoundError:
            how, point = "", "0"
        self._how, self._point = how, int(point)

    def at(self, what: str) -> None:
        self._count += 1
        os.write(self._passed, b".")
        if self._how and self._count == self._point:
            try:
                self._order.unlink()
            except FileNotFoundError:
                return
            if self._how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            self._full_until_s = time.monotonic() + FULL_S
        if what.startswith("before") and time.monotonic() < self._full_until_s:
            if what == "before file":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            full = sqlite3.OperationalError("database or disk is full")
            rows = ("before checkpoint", "before fleet", "before helper")
            raise full if what in rows else files.disk_trouble(Path("node.db"), str(full))


def spoil_line(seed: int) -> None:
    """From now on requests of this node are lost before or after they arrive, doubled, or late, some of each."""
    draw, init = random.Random(seed), link.Link.__init__

    def choose(number: int, path: str, body: bytes) -> Fault:
        kinds = [Fault.NONE, Fault.BEFORE, Fault.AFTER, Fault.TWICE, Fault.LATE]
        return draw.choices(kinds, [14, 2, 2, 1, 1])[0]

    def spoilt(self: link.Link, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        self._transport = FaultyTransport(self._transport, choose, late_s=0.05)

    vars_of_link: Any = link.Link
    vars_of_link.__init__ = spoilt


def main() -> int:
    faulthandler.enable()
    role, home = sys.argv[1], Path(sys.argv[2])
    fate = Fate(home, role)
    vars(files)["committed"] = fate.at
    if role == "worker":
        from isthmus.jobs import worker

        return worker.main()
    from isthmus.cli.ending import end_with_input
    from isthmus.service.serve import serve
    from isthmus.store.folder import NodeFolder

    if (home / "fate-line").exists():
        spoil_line(int((home / "fate-line").read_text()))
    end_with_input()
    command = [sys.executable, __file__, "worker", str(home)]
    if (home / "small-worker").exists():
        command = [sys.executable, str(SMALL_WORKER)]
    serve(NodeFolder(home), lambda node, port: None, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
