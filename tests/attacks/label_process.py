"""A label owner in a process of its own, that kills itself at a point of its work.

Started once, it waits on a socket (its argument, a file descriptor) for orders, each with one end of a line, and forks for
each: so that a restart costs nothing. Points are counted before and after whatever makes something durable or lets it out.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.base import files
from isthmus.crypto.lattice import vectors
from isthmus.protocols import hint
from isthmus.protocols.hint import HintLabelSide
from isthmus.wire.channel import Channel
from isthmus.wire.stream import StreamLine, open_stream
from tests.attacks.actors import begin_label
from tests.attacks.parties import bins_of, gradients
from tests.attacks.weak.sides import KeptPoolLabelSide, LateLedger
from tests.records import lasting_ledger

ROWS = 200
OWN = bins_of(ROWS, 4, 8)
LEVELS = 3


def gradients_of(session: int) -> tuple[np.ndarray, np.ndarray]:
    """The same in every session, in another order: what a model that is trained anew would send."""
    g, h = gradients(ROWS)
    order = np.random.default_rng(session).permutation(ROWS)
    return g[order], h[order]


class Fate:
    """Counts points, and ends the process with SIGKILL at the one that it was given."""

    def __init__(self, point: int) -> None:
        self.passed, self._point = 0, point

    def at(self) -> None:
        self.passed += 1
        if self.passed == self._point:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def worked(*args: Any) -> Any:
            self.at()
            result = work(*args)
            self.at()
            return result

        return worked


class FatedLine(StreamLine):
    """A line whose every body is a point, before and after."""

    fate: Fate

    async def put(self, body: bytes) -> None:
        self.fate.at()
        await super().put(body)
        self.fate.at()


async def session(order: dict[str, Any], end: socket.socket) -> None:
    """Three trees of one level each; then the points passed are written down."""
    fate = Fate(order["point"])
    vars(files)["committed"] = lambda what: fate.at()
    hint.BATCH = order["batch"]
    line = await open_stream(end)
    line.__class__ = FatedLine
    line.fate = fate  # type: ignore[attr-defined]
    path = Path(order["ledger"])
    kind, ledger = (
        (KeptPoolLabelSide, LateLedger(path)) if order["weak"] else (HintLabelSide, lasting_ledger(path))
    )
    engine = await begin_label(kind, [Channel(line)], [OWN], ledger)
    for _ in range(LEVELS):
        await engine.tree(*gradients_of(order["session"]))
        await engine.level(np.zeros(ROWS, dtype=np.int32), 1)
    await engine.close()
    files.write_file(Path(order["passed"]), b"%d" % fate.passed)
    await line.close()


def main() -> None:
    orders = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    vectors.warm()
    while True:
        text, (end,), _, _ = socket.recv_fds(orders, 4096, 1)
        child = os.fork()
        if child == 0:
            orders.close()
            asyncio.run(session(json.loads(text), socket.socket(fileno=end)))
            os._exit(0)
        os.close(end)
        orders.send(str(child).encode())


if __name__ == "__main__":
    main()
