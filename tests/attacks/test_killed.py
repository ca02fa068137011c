"""T3: a label owner that is killed, at any point, and goes on with its ledger: no index leaves with two bodies (U2, U4)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.base.errors import LineError, PeerError
from isthmus.crypto.onetime import Ledger, MemoryLedger
from isthmus.learn.histogram import histogram
from isthmus.protocols.hint import HintLabelSide
from isthmus.wire.channel import Channel
from isthmus.wire.stream import StreamLine, open_stream
from tests.attacks import label_process
from tests.attacks.actors import Listener, begin_label
from tests.attacks.label_process import LEVELS, OWN, ROWS, gradients_of
from tests.attacks.parties import layout_of
from tests.attacks.weak.sides import Forgetful
from tests.worlds import run_pair

ROOT = Path(__file__).parents[2]


class KillingLine(StreamLine):
    """A line that kills the process at its other end after so many bodies."""

    process: int
    after: int

    async def get(self) -> bytes:
        body = await super().get()
        self.after -= 1
        if self.after == 0:
            os.kill(self.process, signal.SIGKILL)
        return body


class Lab:
    """Runs a label owner again and again on one ledger, and keeps every vector and hint that came from it."""

    def __init__(self, orders: socket.socket, folder: Path, weak: bool, batch: int) -> None:
        self._orders, self._folder, self._weak, self._batch = orders, folder, weak, batch
        self.sessions = 0
        self.sums: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
        """Session and masked sums of the feature owner, by index."""
        self.bodies: dict[tuple[str, int], set[bytes]] = defaultdict(set)

    def run(self, point: int = 0, after: int = 0) -> int:
        """One session, killed at a point of its own or after so many bodies. Returns the points passed if it ended well."""
        self.sessions += 1
        passed = self._folder / f"passed {self.sessions}"
        order = {
            "session": self.sessions,
            "point": point,
            "weak": self._weak,
            "batch": self._batch,
            "ledger": str(self._folder / "burned"),
            "passed": str(passed),
        }
        ours, theirs = socket.socketpair()
        socket.send_fds(self._orders, [json.dumps(order).encode()], [theirs.fileno()])
        theirs.close()
        process = int(self._orders.recv(64))
        asyncio.run(self._listen(ours, process, after))
        return int(passed.read_text()) if passed.exists() else 0

    async def _listen(self, end: socket.socket, process: int, after: int) -> None:
        line = await open_stream(end)
        line.__class__ = KillingLine
        line.process, line.after = process, after  # type: ignore[attr-defined]
        listener = Listener(Channel(line), OWN)
        try:
            # A partner that remembers nothing, so that the ledger of the label owner stands alone.
            await listener.agree(MemoryLedger())
            for _ in range(LEVELS):
                await listener.level()
            with pytest.raises(LineError):
                await listener.level()
        except LineError:
            pass  # it was killed
        finally:
            await line.close()
        for index, words in listener.words:
            self.bodies["words", index].add(hashlib.sha256(words.tobytes()).digest())
        for index, sums in listener.sums:
            self.sums[index].append((self.sessions, sums))
        for index, body in listener.hints:
            self.bodies["hint", index].add(hashlib.sha256(body).digest())

    def with_two_bodies(self) -> list[tuple[str, int]]:
        return [key for key, bodies in self.bodies.items() if len(bodies) > 1]


@pytest.fixture(scope="module")
def orders() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(120)
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", label_process.__name__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=environment,
        cwd=ROOT,
    )
    theirs.close()
    yield ours
    process.kill()
    process.wait()
    ours.close()


def test_a_pool_that_is_kept_and_a_ledger_written_late_show_sums(orders: Any, tmp_path: Path) -> None:
    """Killed after its vectors left, it sends others under the same masks: how every sum changed is read."""
    lab = Lab(orders, tmp_path, weak=True, batch=64)
    assert lab.run() > 0
    lab.run(after=8)
    lab.run()
    assert {index for kind, index in lab.with_two_bodies() if kind == "words"}
    layout = layout_of(ROWS, len(OWN.counts), OWN.total)
    radix = int(np.abs(gradients_of(1)[0]).sum()) + 1
    none = np.zeros(ROWS, dtype=np.int32)
    compared = 0
    for (session, one), (later, other) in (pair[:2] for pair in lab.sums.values() if len(pair) > 1):
        apart = (one - other).view(np.int64)
        found = (apart + (1 << (layout.gap - 1))) >> layout.gap
        true = histogram(OWN, none, 1, *gradients_of(session)) - histogram(OWN, none, 1, *gradients_of(later))
        assert (found == true[0, :, 0] + radix * true[0, :, 1]).all()
        compared += 1
    assert compared == LEVELS


def killed(lab: Lab, points: list[int]) -> list[tuple[str, int]]:
    """What left with two bodies from a label owner that was killed at each of these points, and then was let alone."""
    for point in points:
        assert lab.run(point) == 0, f"it was not killed at point {point}"
    assert lab.run() > 0
    assert max(index for _, index in lab.bodies) > 3
    return lab.with_two_bodies()


def points_of(orders: Any, folder: Path) -> int:
    """How many points a whole session has; the last six are of a batch that may come too late to be made."""
    folder.mkdir()
    most = Lab(orders, folder, weak=False, batch=3).run() - 6
    assert most > 24
    return most


def test_a_ledger_written_late_lets_indexes_leave_twice(orders: Any, tmp_path: Path) -> None:
    most = points_of(orders, tmp_path / "first")
    assert killed(Lab(orders, tmp_path, weak=True, batch=3), list(range(most // 2, most, 12)))


def test_no_index_leaves_twice_whenever_it_is_killed(orders: Any, tmp_path: Path) -> None:
    most = points_of(orders, tmp_path / "first")
    assert not killed(Lab(orders, tmp_path, weak=False, batch=3), list(range(7, most, 8)))


@pytest.mark.slow
def test_no_index_leaves_twice_over_all_points(orders: Any, tmp_path: Path) -> None:
    most = points_of(orders, tmp_path / "first")
    assert not killed(Lab(orders, tmp_path, weak=False, batch=3), list(range(1, most)))


def test_no_index_leaves_twice_when_it_is_killed_from_outside(orders: Any, tmp_path: Path) -> None:
    lab = Lab(orders, tmp_path, weak=False, batch=3)
    draws = random.Random(5)
    for _ in range(4):
        lab.run(after=draws.randint(3, 9))
    assert lab.run() > 0
    assert lab.with_two_bodies() == []


def indexes_after_a_restore(remembers: bool) -> tuple[set[int], set[int], Any]:
    """Indexes taken before and after the label owner went back to an empty ledger and did not listen to its partner's."""
    theirs = MemoryLedger()
    seen: list[set[int]] = []

    def go(own: Ledger, partners: Ledger) -> Any:
        taken: set[int] = set()
        seen.append(taken)

        async def label_owner(channel: Channel) -> None:
            engine = await begin_label(HintLabelSide, [channel], [OWN], own)
            await engine.tree(*gradients_of(1))
            await engine.level(np.zeros(ROWS, dtype=np.int32), 1)
            await engine.close()

        async def feature_owner(channel: Channel) -> None:
            listener = await Listener.begin(channel, OWN, partners)
            await listener.level()
            taken.update(index for index, _ in listener.words)
            partners.burn(1 + max(index for index, _ in listener.hints))

        return run_pair("memory", label_owner, feature_owner)[1]

    assert go(MemoryLedger(), theirs) is None
    became = go(Forgetful(), theirs if remembers else MemoryLedger())
    return seen[0], seen[1], became


def test_a_restored_partner_takes_old_indexes_from_a_restored_label_owner() -> None:
    before, after, became = indexes_after_a_restore(remembers=False)
    assert became is None
    assert before & after


def test_a_partner_that_was_not_restored_refuses_them() -> None:
    _, after, became = indexes_after_a_restore(remembers=True)
    assert isinstance(became, PeerError), became
    assert became.code == "secret_reused"
    assert not after
