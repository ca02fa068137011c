"""Both parties of the product in processes of their own over a socket: one sample of an engine."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import resource
import socket
import time
from argparse import Namespace
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from boost.data import as_table, cut, portfolio
from boost.stages import Watch
from isthmus.base.progress import Progress
from isthmus.base.randomness import Rng
from isthmus.crypto.lattice import vectors
from isthmus.crypto.onetime import MemoryLedger
from isthmus.learn import tree
from isthmus.learn.metrics import auc
from isthmus.learn.parameters import BoostedTrees, Crypto
from isthmus.protocols.boost import LabelBooster, boost_as_feature_owner
from isthmus.protocols.hint import HintFeatureSide, HintLabelSide, vectors_expected, vectors_max
from isthmus.protocols.histogram import FeatureSide, LabelSide, PaillierFeatureSide, PaillierLabelSide
from isthmus.protocols.score import score_as_feature_owner, score_as_label_owner
from isthmus.wire import heap
from isthmus.wire.channel import Channel, Line
from isthmus.wire.faults import SlowLine
from isthmus.wire.stream import open_stream

SEED = bytes(range(32))


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def forget_peak() -> None:
    """Most memory counts from here on, not from when the data was made (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float | None:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    return None


def parameters(case: Namespace) -> tuple[BoostedTrees, Crypto]:
    trees = BoostedTrees(
        trees=case.trees, depth=case.depth, learning_rate=case.learning_rate, stop_after=0, local_trees=0
    )
    return trees, Crypto(paillier_bits=case.key_bits)


async def open_channel(end: socket.socket, case: Namespace) -> Channel:
    line: Line = await open_stream(end)
    if case.rate_mbit or case.delay_ms:
        rate = case.rate_mbit * 125_000 if case.rate_mbit else math.inf
        line = SlowLine(line, bytes_per_s=rate, delay_s=case.delay_ms / 1e3)
    return Channel(line)


async def label_owner(end: socket.socket, case: Namespace) -> dict[str, Any]:
    x, y = portfolio(case)
    table = as_table(x[:, : case.own_features], 0)
    del x
    binned = cut(table, case.rows, case.bins)
    shape = (case.bins + 1,) * case.features
    p, crypto = parameters(case)
    watch = Watch(case)
    channel = await open_channel(end, case)
    vectors.warm()
    tree.warm()
    forget_peak()
    began = cpu_s()
    engine: LabelSide
    if case.engine == "lattice-hint":
        expected = vectors_expected(p.trees, p.depth)
        engine = await HintLabelSide.begin(
            [channel], case.rows, [shape], SEED, crypto, MemoryLedger(), expected, Progress()
        )
    else:
        engine = await PaillierLabelSide.begin([channel], case.rows, [sum(shape)], crypto, Progress())
    setup = cpu_s() - began
    before = channel.meter.sent_bytes + channel.meter.received_bytes
    booster = LabelBooster(
        [channel], engine, binned, [shape], y[: case.rows], case.rows, p, crypto, Rng(SEED)
    )
    watch.start()
    began, wall = cpu_s(), time.perf_counter()
    half = await booster.train(Progress())
    await engine.close()
    spent, wall = cpu_s() - began, time.perf_counter() - wall
    stages = watch.stop(spent)
    crossed = channel.meter.sent_bytes + channel.meter.received_bytes - before
    scores = await score_as_label_owner([channel], half, table, "ids")
    await channel.close()
    return {
        "setup": setup,
        "tree": spent / case.trees,
        "wall": wall / case.trees,
        "bytes": crossed / case.rows / case.trees,
        "setup_bytes": before,
        "peak": peak_mb(),
        "auc": auc(y[case.rows :], scores[case.rows :]),
        "stages": stages,
    }


async def feature_owner(end: socket.socket, case: Namespace) -> dict[str, Any]:
    x, _ = portfolio(case)
    table = as_table(x[:, case.own_features :], case.own_features)
    del x
    binned = cut(table, case.rows, case.bins)
    p, crypto = parameters(case)
    watch = Watch(case)
    channel = await open_channel(end, case)
    vectors.warm()
    tree.warm()
    forget_peak()
    began = cpu_s()
    engine: FeatureSide
    if case.engine == "lattice-hint":
        budget = vectors_max(p.trees, p.depth)
        engine = await HintFeatureSide.begin(
            channel, binned.matrix, SEED, crypto, budget, MemoryLedger(), Progress()
        )
    else:
        engine = await PaillierFeatureSide.begin(channel, binned.matrix, crypto)
    setup = cpu_s() - began
    watch.start()
    began = cpu_s()
    half = await boost_as_feature_owner(channel, engine, binned, p, "ids", Progress())
    spent = cpu_s() - began
    stages = watch.stop(spent)
    await score_as_feature_owner(channel, half, table)
    await channel.close()
    return {"setup": setup, "tree": spent / case.trees, "peak": peak_mb(), "stages": stages}


def party(role: Any, end: socket.socket, case: Namespace, answer: Connection) -> None:
    heap.settle()  # as a node starts its workers
    answer.send(asyncio.run(role(end, case)))


def run_pair(case: Namespace) -> dict[str, Any]:
    """One sample. CPU seconds of whole processes; `profile` by party where the case asks for one."""
    ends = socket.socketpair()
    fork, answers, children = multiprocessing.get_context("fork"), [], []
    for role, end in zip((label_owner, feature_owner), ends, strict=True):
        here, there = multiprocessing.Pipe(duplex=False)
        children.append(fork.Process(target=party, args=(role, end, case, there)))
        children[-1].start()
        there.close()
        end.close()
        answers.append(here)
    label, feature = (here.recv() for here in answers)
    for child in children:
        child.join()
    sample = {
        "cpu_s_setup": label["setup"] + feature["setup"],
        "mb_setup": label["setup_bytes"] / 1e6,
        "cpu_s_offline": sum(s.get("offline", 0.0) for s in (label["stages"], feature["stages"]))
        / case.trees,
        "cpu_s_per_tree_label": label["tree"],
        "cpu_s_per_tree_feature": feature["tree"],
        "cpu_s_per_tree": label["tree"] + feature["tree"],
        "wall_s_per_tree": label["wall"],
        "bytes_per_row_per_tree": label["bytes"],
        "peak_mb_label": label["peak"],
        "peak_mb_feature": feature["peak"],
        "auc": label["auc"],
    }
    if case.profile:
        sample["profile"] = {
            party: {stage: seconds / case.trees for stage, seconds in side["stages"].items()}
            for party, side in (("label", label), ("feature", feature))
        }
    return sample
