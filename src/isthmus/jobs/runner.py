"""One party's side of a vertical job, from its table to its half of the model and its report.

    align -> bin -> weigh -> train (joint, and the label owner alone) -> score the test rows -> evaluate -> report

The two functions are given channels and a record of what was done before (base/record.py), and know nothing of sockets, nodes or
the store. Each writes its results into `out`:
half.json, report.json, report.LANG.html, and at the label owner scores.csv.
"""

from __future__ import annotations

import io
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import DataError, LocalError
from isthmus.base.files import write_file
from isthmus.base.progress import Progress
from isthmus.base.randomness import Rng
from isthmus.base.record import ALIGNED, BINNED, FINISHED, TRAINED, WEIGHED, Forgetful, Record
from isthmus.base.workers import in_thread
from isthmus.crypto.onetime import Recorded
from isthmus.jobs import reporting
from isthmus.jobs.spec import JobFile, resolve
from isthmus.learn.histogram import BinMatrix, histogram
from isthmus.learn.parameters import Binning
from isthmus.learn.tree import FeatureHalf, LabelHalf, half_from_json, link
from isthmus.learn.woe import WoeTable, woe_table
from isthmus.protocols.align import align_as_feature_owner, align_as_label_owner
from isthmus.protocols.binning import (
    TEST,
    TRAIN,
    VALID,
    Binned,
    bin_as_feature_owner,
    bin_as_label_owner,
    bin_table,
    weigh_as_label_owner,
    weights_of,
)
from isthmus.protocols.boost import LabelBooster, TrainingLog, boost_as_feature_owner
from isthmus.protocols.evaluate import hear_results, tell_results
from isthmus.protocols.hint import (
    HintFeatureSide,
    HintLabelSide,
    vectors_again,
    vectors_expected,
    vectors_max,
)
from isthmus.protocols.histogram import FeatureSide, LabelSide, PaillierFeatureSide, PaillierLabelSide
from isthmus.protocols.score import score_as_feature_owner, score_as_label_owner
from isthmus.report.cells import write_csv
from isthmus.table.table import Table
from isthmus.wire.channel import Channel

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(slots=True)
class Stages:
    """Seconds of each stage, in order."""

    seconds: dict[str, float] = field(default_factory=dict)
    _name: str = ""
    _began_s: float = 0.0

    def begin(self, name: str) -> None:
        now_s = time.monotonic()
        if self._name:
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now_s - self._began_s
        self._name, self._began_s = name, now_s


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    """All that the label owner knows at the end; its report is made of it."""

    table: Table
    part_of_row: NDArray[np.uint8]
    set_sizes: list[int]
    binned: Binned
    shapes: list[tuple[int, ...]]
    own_weights: list[WoeTable]
    partner_weights: list[list[WoeTable]]
    half: LabelHalf
    log: TrainingLog
    joint: Floats
    alone: Floats


async def run_label_owner(
    job: JobFile,
    digest: bytes,
    table: Table,
    channels: dict[str, Channel],
    out: Path,
    progress: Progress,
    test_ids: list[bytes] | None,
    record: Record | None = None,
) -> dict[str, Any]:
    """The label owner's side; `channels` by name of feature owner. Returns the figures that the node shows.

    The work is taken up at the barrier where `record` stands.
    """
    record = record or Forgetful()
    stages = Stages()
    lines = [channels[name] for name in job.parties.feature_owners]
    model, rng = job.model, Rng(digest)

    stages.begin("align")
    if record.barrier < ALIGNED:
        rows, set_sizes = await align_as_label_owner(
            lines, table.ids, digest, job.align.min_rows, progress, record=record
        )
        await in_thread(record.keep, ALIGNED, rows=_bytes_of(rows), set_sizes=_json_of(set_sizes))
    else:
        rows, set_sizes = _rows_of(record.found("rows")[-1]), json.loads(record.found("set_sizes")[-1])
    shared = table.take(rows)
    label = _label(shared)
    part_of_row = parts_of(job, shared, rng, test_ids)
    _check_classes(job, label, part_of_row)

    stages.begin("bin")
    if record.barrier < BINNED:
        binned, shapes = await bin_as_label_owner(lines, shared, part_of_row, binning_of(job))
        await in_thread(record.keep, BINNED, shapes=_json_of(shapes))
    else:
        binned = await in_thread(bin_table, shared, part_of_row, binning_of(job), None)
        shapes = [tuple(shape) for shape in json.loads(record.found("shapes")[-1])]
    train, fit = fit_rows(part_of_row)
    own_weights: list[WoeTable] = []
    partner_weights: list[list[WoeTable]] = []
    if model.objective == "binary":
        own_weights = _own_weights(binned, len(train), label[train])
    if record.barrier < TRAINED:
        engine: LabelSide
        if resolve(job)["crypto"]["engine"] == "lattice-hint":
            expected = vectors_expected(model.trees - model.local_trees, model.depth)
            engine = await HintLabelSide.begin(
                lines, len(train), shapes, digest, job.crypto, Recorded(record), expected, progress, out
            )
        else:
            totals = [sum(shape) for shape in shapes]
            engine = await PaillierLabelSide.begin(lines, len(train), totals, job.crypto, progress)
        try:
            if record.barrier < WEIGHED:
                if model.objective == "binary":
                    progress.start("weigh", 1)
                    partner_weights = await weigh_as_label_owner(engine, label[train], shapes)
                    progress.at(1)
                await in_thread(record.keep, WEIGHED, weights=_weights_bytes(partner_weights))
            stages.begin("train")
            booster = LabelBooster(
                lines, engine, binned, shapes, label[fit], len(train), model, job.crypto, rng
            )
            half, log = await booster.train(progress, record), booster.log
            await in_thread(record.keep, TRAINED, half=_json_of(half.to_json()), log=_json_of(asdict(log)))
        finally:
            await engine.close()
    else:
        half = _half_of(record.found("half")[-1], "label-owner", LabelHalf)
        log = _log_of(record.found("log")[-1])
    partner_weights = _weights_of(record.found("weights")[-1])

    stages.begin("baseline")
    baseline = LabelBooster([], None, binned, [], label[fit], len(train), model, job.crypto, rng)
    alone_half = await baseline.train(progress)

    stages.begin("evaluate")
    progress.start("evaluate", 1)
    joint = link(model.objective, await score_as_label_owner(lines, half, shared, job.crypto.split_reveal))
    alone = link(model.objective, await score_as_label_owner([], alone_half, shared, job.crypto.split_reveal))
    outcome = LabelOutcome(
        shared,
        part_of_row,
        set_sizes,
        binned,
        shapes,
        own_weights,
        partner_weights,
        half,
        log,
        joint,
        alone,
    )
    metrics = await in_thread(reporting.measure, job, digest, outcome)
    await tell_results(lines, reporting.results(metrics))
    progress.at(1)

    stages.begin("report")
    progress.start("report", 1)
    report = reporting.label_report(job, digest, outcome, metrics, table, channels, stages.seconds)
    _write_json(out / "half.json", {**half.to_json(), "job": digest.hex()})
    _write_scores(
        out / "scores.csv", job.inputs[job.parties.label_owner].key.column, shared, joint, part_of_row
    )
    figures = reporting.write(report, job.report.languages, out)
    await in_thread(record.keep, FINISHED, figures=_json_of(figures))
    progress.at(1)
    return figures


async def run_feature_owner(
    job: JobFile,
    digest: bytes,
    party: str,
    table: Table,
    channel: Channel,
    out: Path,
    progress: Progress,
    record: Record | None = None,
    attempts: int = 1,
) -> dict[str, Any]:
    """A feature owner's side, taken up where `record` stands; this is attempt number `attempts`. Returns the figures that the
    node shows."""
    record = record or Forgetful()
    stages = Stages()
    stages.begin("align")
    if record.barrier < ALIGNED:
        rows, label_set_size = await align_as_feature_owner(
            channel, table.ids, digest, job.align.min_rows, progress, record=record
        )
        if rows is None:
            raise LocalError("bug", why="an alignment for training ended without rows")
        await in_thread(record.keep, ALIGNED, rows=_bytes_of(rows), set_sizes=_json_of([label_set_size]))
    else:
        rows, (label_set_size,) = (
            _rows_of(record.found("rows")[-1]),
            json.loads(record.found("set_sizes")[-1]),
        )
    shared = table.take(rows)

    stages.begin("bin")
    if record.barrier < BINNED:
        binned, part_of_row = await bin_as_feature_owner(channel, shared, binning_of(job), digest)
        await in_thread(record.keep, BINNED, parts=part_of_row.tobytes())
    else:
        part_of_row = np.frombuffer(record.found("parts")[-1], dtype=np.uint8)
        binned = await in_thread(bin_table, shared, part_of_row, binning_of(job), digest)
    if record.barrier < TRAINED:
        half = await _train_as_feature_owner(
            job, digest, channel, binned, part_of_row, progress, record, attempts, stages
        )
    else:
        half = _half_of(record.found("half")[-1], "feature-owner", FeatureHalf)

    stages.begin("evaluate")
    progress.start("evaluate", 1)
    await score_as_feature_owner(channel, half, shared)
    heard = await hear_results(channel)
    progress.at(1)

    stages.begin("report")
    report = reporting.feature_report(
        job,
        digest,
        party,
        (label_set_size, table.rows),
        shared,
        part_of_row,
        binned,
        half,
        heard,
        channel,
        stages.seconds,
    )
    _write_json(out / "half.json", {**half.to_json(), "job": digest.hex()})
    figures = reporting.write(report, job.report.languages, out)
    await in_thread(record.keep, FINISHED, figures=_json_of(figures))
    return figures


async def _train_as_feature_owner(
    job: JobFile,
    digest: bytes,
    channel: Channel,
    binned: Binned,
    part_of_row: NDArray[np.uint8],
    progress: Progress,
    record: Record,
    attempts: int,
    stages: Stages,
) -> FeatureHalf:
    train, _ = fit_rows(part_of_row)
    matrix = BinMatrix(binned.matrix.bins[:, : len(train)], binned.matrix.counts)
    model = job.model
    engine: FeatureSide
    if resolve(job)["crypto"]["engine"] == "lattice-hint":
        budget = job.crypto.vectors_max or vectors_max(model.trees, model.depth)
        budget += vectors_again(model.depth, attempts)
        ledger = Recorded(record)
        engine = await HintFeatureSide.begin(channel, matrix, digest, job.crypto, budget, ledger, progress)
    else:
        engine = await PaillierFeatureSide.begin(channel, matrix, job.crypto)
    if record.barrier < WEIGHED:
        if model.objective == "binary":
            progress.start("weigh", 1)
            await engine.tree()
            await engine.level()
            progress.at(1)
        # The first trees are the label owner's own: this side has nothing to do again of them.
        await in_thread(record.keep, WEIGHED + model.local_trees)
    stages.begin("train")
    half = await boost_as_feature_owner(
        channel, engine, binned, model, job.crypto.split_reveal, progress, record
    )
    await in_thread(record.keep, TRAINED, half=_json_of(half.to_json()))
    return half


def binning_of(job: JobFile) -> Binning:
    """The binning of the job file, with the stricter of its two floors."""
    binning = job.features.binning
    return Binning(binning.max_bins, max(binning.min_rows, job.privacy.min_bin_rows))


def _label(table: Table) -> Floats:
    if table.label is None:
        raise LocalError("bug", why="the label owner's table was read without its label")
    return table.label


def parts_of(job: JobFile, shared: Table, rng: Rng, test_ids: list[bytes] | None) -> NDArray[np.uint8]:
    """Training, validation or test for each shared row, by a seeded shuffle; the test rows by name where ids are given."""
    count = shared.rows
    part_of_row = np.full(count, TRAIN, dtype=np.uint8)
    order = rng.permutation("split", count)
    if job.split.by == "ids":
        named = set(test_ids or ())
        test = np.array([i in named for i in shared.ids], dtype=bool)
        part_of_row[test] = TEST
        others = order[~test[order]]
        part_of_row[others[: round(job.split.valid * len(others))]] = VALID
        return part_of_row
    tests = round((job.split.test or 0.0) * count)
    valids = round(job.split.valid * count)
    part_of_row[order[:tests]] = TEST
    part_of_row[order[tests : tests + valids]] = VALID
    return part_of_row


def _check_classes(job: JobFile, label: Floats, part_of_row: NDArray[np.uint8]) -> None:
    """Both classes, or at least some rows, in every part that is used."""
    for part, name in ((TRAIN, "training rows"), (TEST, "test rows"), (VALID, "validation rows")):
        chosen = label[part_of_row == part]
        if part == VALID and not len(chosen) and job.split.valid == 0:
            continue
        if len(chosen) < 2:
            raise DataError("too_small", what=name, count=len(chosen), needed=2)
        if job.model.objective == "binary" and chosen.min() == chosen.max():
            raise DataError("one_class", column=f"{job.sample.label} ({name})", count=len(chosen))


def fit_rows(part_of_row: NDArray[np.uint8]) -> tuple[Rows, Rows]:
    """Positions of the training rows, and of training rows followed by validation rows."""
    train = np.flatnonzero(part_of_row == TRAIN)
    return train, np.concatenate([train, np.flatnonzero(part_of_row == VALID)])


def _own_weights(binned: Binned, rows: int, label: Floats) -> list[WoeTable]:
    matrix = BinMatrix(binned.matrix.bins[:, :rows], binned.matrix.counts)
    ones = np.ones(rows, dtype=np.int64)
    sums = histogram(matrix, np.zeros(rows, dtype=np.int32), 1, label.astype(np.int64), ones)
    return weights_of(sums[0], matrix.counts)


def _write_scores(path: Path, key: str, table: Table, scores: Floats, part_of_row: NDArray[np.uint8]) -> None:
    """The test rows' scores in the order of the file, ids as the file spells them."""
    test = np.flatnonzero(part_of_row == TEST)
    test = test[np.argsort(table.source_rows[test], kind="stable")]
    text = io.StringIO(newline="")
    write_csv(text, (key, "score"), ((table.raw_ids[i], float(scores[i])) for i in test.tolist()))
    write_file(path, text.getvalue().encode())


def _write_json(path: Path, document: dict[str, Any]) -> None:
    write_file(path, json.dumps(document, ensure_ascii=False, indent=1).encode())


def _json_of(value: Any) -> bytes:
    return json.dumps(value).encode()


def _bytes_of(rows: Rows) -> bytes:
    return rows.astype("<i8").tobytes()


def _rows_of(body: bytes) -> Rows:
    return np.frombuffer(body, dtype="<i8").astype(np.int64)


def _weights_bytes(weights: list[list[WoeTable]]) -> bytes:
    return _json_of([[[w.positives, w.totals] for w in owner] for owner in weights])


def _weights_of(body: bytes) -> list[list[WoeTable]]:
    counts = json.loads(body)
    return [[woe_table(positives, totals) for positives, totals in owner] for owner in counts]


H = TypeVar("H", LabelHalf, FeatureHalf)


def _half_of(body: bytes, role: str, kind: type[H]) -> H:
    half = half_from_json(json.loads(body), role)
    if not isinstance(half, kind):
        raise LocalError("bug", why="a half on record is of the other role")
    return half


def _log_of(body: bytes) -> TrainingLog:
    known = json.loads(body)
    for name in ("splits_of_owner", "gain_of_owner"):
        known[name] = {int(owner): value for owner, value in known[name].items()}
    return TrainingLog(**known)
