"""Vertical boosted trees: CPU seconds, bytes and memory per tree, both parties in processes of their own over a stream.

    ./run bench boost [--quick] [--rows N --features F --bins B --depth D --trees T]

Prints one JSON line per case and engine. `features` are the feature owner's; the label owner holds 5 more. CPU seconds are of
the whole process (user and system), from the first tree's begin to the last tree's end, divided by the trees; what happens
once (keys, hints) stands in `cpu_s_setup`. What the lattice engine prepares ahead is made within the trees here, so its
`cpu_s_offline` is part of `cpu_s_per_tree_label` and 0 beside it. AUC is on 20 % held-out rows of seeded synthetic data.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import multiprocessing
import platform
import resource
import socket
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from isthmus.base.progress import Progress
from isthmus.base.randomness import Rng
from isthmus.crypto.lattice import hint
from isthmus.learn.bins import ColumnBins, fit_numeric
from isthmus.learn.histogram import BinMatrix
from isthmus.learn.metrics import auc
from isthmus.learn.parameters import BoostedTrees, Crypto
from isthmus.protocols.binning import Binned
from isthmus.protocols.boost import LabelBooster, boost_as_feature_owner
from isthmus.protocols.hint import HintFeatureSide, HintLabelSide
from isthmus.protocols.histogram import FeatureSide, LabelSide, PaillierFeatureSide, PaillierLabelSide
from isthmus.protocols.score import score_as_feature_owner, score_as_label_owner
from isthmus.table.table import Column, NumericColumn, Table
from isthmus.wire.channel import Channel
from isthmus.wire.stream import open_stream

OWN_FEATURES = 5
SEED = bytes(range(32))


def portfolio(rows: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Seeded columns, `(rows, OWN_FEATURES + features)`, and a 0/1 label that needs both sides."""
    draw = np.random.default_rng(7)
    x = draw.normal(size=(rows, OWN_FEATURES + features))
    weight = draw.normal(size=x.shape[1]) / np.sqrt(x.shape[1])
    signal = x @ weight + 0.5 * x[:, 0] * x[:, -1] + draw.normal(size=rows)
    return x, (signal > np.quantile(signal, 0.8)).astype(np.float64)


def as_table(x: np.ndarray, first: int) -> Table:
    columns: dict[str, Column] = {
        f"x{first + i}": NumericColumn(f"x{first + i}", np.ascontiguousarray(x[:, i]))
        for i in range(x.shape[1])
    }
    ids = [b"%d" % i for i in range(len(x))]
    return Table(ids, columns, None, {}, np.arange(1, len(x) + 1), [i.decode() for i in ids])


def cut(table: Table, rows: int, bins: int) -> Binned:
    columns: list[ColumnBins] = []
    matrix = []
    for column in table.columns.values():
        assert isinstance(column, NumericColumn)
        fitted = fit_numeric(column.name, column.values[:rows], bins, 20)
        assert fitted is not None
        columns.append(fitted)
        matrix.append(fitted.apply(column.values[:rows]))
    return Binned(columns, BinMatrix(np.stack(matrix), tuple(c.count for c in columns)), {})


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


async def label_owner(end: socket.socket, case: argparse.Namespace) -> dict[str, Any]:
    x, y = portfolio(case.rows * 5 // 4, case.features)
    table = as_table(x[:, :OWN_FEATURES], 0)
    binned = cut(table, case.rows, case.bins)
    shape = (case.bins + 1,) * case.features
    p, crypto = parameters(case)
    channel = Channel(await open_stream(end))
    began = cpu_s()
    engine: LabelSide
    if case.engine == "lattice-hint":
        hint.warm()
        began = cpu_s()
        engine = await HintLabelSide.begin([channel], case.rows, [sum(shape)], SEED, Progress())
    else:
        engine = await PaillierLabelSide.begin([channel], case.rows, [sum(shape)], crypto, Progress())
    setup = cpu_s() - began
    booster = LabelBooster(
        [channel], engine, binned, [shape], y[: case.rows], case.rows, p, crypto, Rng(SEED)
    )
    began, wall = cpu_s(), time.perf_counter()
    half = await booster.train(Progress())
    await engine.close()
    spent, wall = cpu_s() - began, time.perf_counter() - wall
    sent = channel.meter.sent_bytes + channel.meter.received_bytes
    scores = await score_as_label_owner([channel], half, table, "ids")
    return {
        "setup": setup,
        "tree": spent / case.trees,
        "wall": wall / case.trees,
        "bytes": sent / case.rows / case.trees,
        "peak": peak_mb(),
        "auc": auc(y[case.rows :], scores[case.rows :]),
    }


async def feature_owner(end: socket.socket, case: argparse.Namespace) -> dict[str, Any]:
    x, _ = portfolio(case.rows * 5 // 4, case.features)
    table = as_table(x[:, OWN_FEATURES:], OWN_FEATURES)
    binned = cut(table, case.rows, case.bins)
    p, crypto = parameters(case)
    channel = Channel(await open_stream(end))
    began = cpu_s()
    engine: FeatureSide
    if case.engine == "lattice-hint":
        hint.warm()
        began = cpu_s()
        engine = await HintFeatureSide.begin(channel, binned.matrix, SEED, p, Progress())
    else:
        engine = await PaillierFeatureSide.begin(channel, binned.matrix, crypto)
    setup, began = cpu_s() - began, cpu_s()
    half = await boost_as_feature_owner(channel, engine, binned, p, "ids", Progress())
    spent = cpu_s() - began
    await score_as_feature_owner(channel, half, table)
    return {"setup": setup, "tree": spent / case.trees, "peak": peak_mb()}


def parameters(case: argparse.Namespace) -> tuple[BoostedTrees, Crypto]:
    trees = BoostedTrees(trees=case.trees, depth=case.depth, stop_after=0, local_trees=0)
    return trees, Crypto(paillier_bits=case.key_bits)


def other_process(end: socket.socket, case: argparse.Namespace, answer: Connection) -> None:
    answer.send(asyncio.run(feature_owner(end, case)))


def run(case: argparse.Namespace) -> dict[str, Any]:
    ends = socket.socketpair()
    here, there = multiprocessing.Pipe(duplex=False)
    other = multiprocessing.get_context("fork").Process(target=other_process, args=(ends[1], case, there))
    other.start()
    ends[1].close()
    label = asyncio.run(label_owner(ends[0], case))
    feature = here.recv()
    other.join()
    versions = {name: importlib.metadata.version(name) for name in ("isthmus", "numpy", "cryptography")}
    return {
        "bench": "boost",
        "engine": case.engine if case.engine == "lattice-hint" else f"paillier-{case.key_bits}",
        "rows": case.rows,
        "features": case.features,
        "bins": case.bins,
        "depth": case.depth,
        "trees": case.trees,
        "cpu_s_setup": round(label["setup"] + feature["setup"], 3),
        "cpu_s_offline": 0.0,
        "cpu_s_per_tree_label": round(label["tree"], 3),
        "cpu_s_per_tree_feature": round(feature["tree"], 3),
        "wall_s_per_tree": round(label["wall"], 3),
        "bytes_per_row_per_tree": round(label["bytes"], 1),
        "peak_mb_label": round(label["peak"], 1),
        "peak_mb_feature": round(feature["peak"], 1),
        "auc": round(label["auc"], 4),
        "versions": {"python": platform.python_version(), **versions},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two small cases")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--bins", type=int, default=32)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--trees", type=int, default=2)
    parser.add_argument("--key-bits", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--engine", choices=["all", "paillier", "lattice-hint"], default="all")
    chosen = parser.parse_args()
    cases = [chosen.rows] if chosen.rows else [1_000, 4_000] if chosen.quick else [10_000, 24_000]
    for rows in cases:
        for engine in ("paillier", "lattice-hint") if chosen.engine == "all" else (chosen.engine,):
            for _ in range(chosen.repeats):
                case = argparse.Namespace(**{**vars(chosen), "rows": rows, "engine": engine})
                print(json.dumps(run(case)), flush=True)


if __name__ == "__main__":
    main()
