"""Reports of a finished job: what each party measured and may know, as `isthmus.report` shows it."""

from __future__ import annotations

import json
import platform
import resource
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import isthmus
from isthmus.base.clock import SystemClock
from isthmus.base.files import write_file
from isthmus.base.randomness import Rng
from isthmus.jobs.plan import make_plan
from isthmus.jobs.spec import JobFile
from isthmus.learn.metrics import (
    Evaluation,
    bootstrap_gain,
    bootstrap_rmse_gain,
    evaluate,
    evaluate_regression,
    psi,
)
from isthmus.learn.tree import FeatureHalf
from isthmus.learn.woe import WoeTable
from isthmus.protocols.binning import TEST, TRAIN, VALID, Binned
from isthmus.protocols.evaluate import Results
from isthmus.report.html import render_html
from isthmus.report.json import to_json
from isthmus.report.model import (
    Column,
    Cost,
    Dropped,
    Governance,
    History,
    Importance,
    Leak,
    MessageTotal,
    Metrics,
    Parties,
    Report,
    Rows,
    Settings,
    StageTime,
    Traffic,
    Words,
)
from isthmus.table.table import NumericColumn, Table
from isthmus.wire.channel import Channel

if TYPE_CHECKING:
    from isthmus.jobs.runner import LabelOutcome


def measure(job: JobFile, digest: bytes, outcome: LabelOutcome) -> Metrics:
    """All metrics of the test rows, alone and joint, and the gain with its interval."""
    test = outcome.part_of_row == TEST
    truth = np.asarray(outcome.table.label)[test]
    alone, joint = outcome.alone[test], outcome.joint[test]
    repeats, rng = job.evaluate.bootstrap, Rng(digest)
    if job.model.objective == "binary":
        gain = bootstrap_gain(truth, alone, joint, repeats, rng) if repeats else None
        return Metrics(evaluate(truth, alone), evaluate(truth, joint), gain=gain)
    gain = bootstrap_rmse_gain(truth, alone, joint, repeats, rng) if repeats else None
    return Metrics(evaluate_regression(truth, alone), evaluate_regression(truth, joint), gain=gain)


def results(metrics: Metrics) -> Results:
    """The few figures that the feature owners hear."""
    alone, joint = metrics.alone, metrics.joint
    if isinstance(alone, Evaluation) and isinstance(joint, Evaluation):
        return Results(joint.rows, alone.auc, alone.ks, joint.auc, joint.ks)
    if isinstance(alone, Evaluation) or isinstance(joint, Evaluation):
        raise ValueError("alone and joint measure different things")
    return Results(joint.rows, alone.rmse, 0.0, joint.rmse, 0.0)


def label_report(
    job: JobFile,
    digest: bytes,
    outcome: LabelOutcome,
    metrics: Metrics,
    table: Table,
    channels: dict[str, Channel],
    seconds: dict[str, float],
) -> Report:
    """The label owner's edition: own columns by name, the partners' by alias."""
    owner, partners = job.parties.label_owner, job.parties.feature_owners
    part, label = outcome.part_of_row, np.asarray(outcome.table.label)
    binary = job.model.objective == "binary"
    own_weights: Sequence[WoeTable | None] = outcome.own_weights or [None] * len(outcome.binned.columns)
    columns = [
        Column(
            owner,
            column.name,
            weights.iv if weights else None,
            column.labels() if weights else (),
            weights,
            _drift(outcome.table, column.name, part),
        )
        for column, weights in zip(outcome.binned.columns, own_weights, strict=True)
    ]
    for partner, shape, partner_weights in zip(
        partners, outcome.shapes, outcome.partner_weights or [[] for _ in partners], strict=True
    ):
        for at, count in enumerate(shape):
            found = partner_weights[at] if partner_weights else None
            labels = ("?", *(f"b{i:02d}" for i in range(1, count)))
            name = f"{partner}.f{at + 1:03d}"
            columns.append(Column(partner, name, found.iv if found else None, labels if found else (), found))
    log = outcome.log
    total_gain = sum(log.gain_of_owner.values()) or 1.0
    importance = tuple(
        Importance(name, log.splits_of_owner.get(at, 0), log.gain_of_owner.get(at, 0.0) / total_gain)
        for at, name in enumerate((owner, *partners))
    )
    return Report(
        **_common(job, digest, owner, seconds),
        rows=Rows(
            label=table.rows,
            feature=tuple(outcome.set_sizes),
            common=len(part),
            train=int((part == TRAIN).sum()),
            valid=int((part == VALID).sum()),
            test=int((part == TEST).sum()),
            positive_rate_train=float(label[part == TRAIN].mean()) if binary else None,
            positive_rate_test=float(label[part == TEST].mean()) if binary else None,
        ),
        metrics=metrics,
        traffic=_traffic(owner, [channels[p] for p in partners]),
        columns=tuple(columns),
        dropped=tuple(Dropped(owner, name, reason) for name, reason in outcome.binned.dropped.items()),
        score_psi=psi(outcome.joint[part == TRAIN], outcome.joint[part == TEST]),
        history=History(
            "log_loss" if binary else "rmse", tuple(log.train_loss), tuple(log.valid_loss), log.best_trees
        ),
        importance=importance,
    )


def feature_report(
    job: JobFile,
    digest: bytes,
    party: str,
    set_sizes: tuple[int, int],
    shared: Table,
    part_of_row: NDArray[np.uint8],
    binned: Binned,
    half: FeatureHalf,
    heard: Results,
    channel: Channel,
    seconds: dict[str, float],
) -> Report:
    """A feature owner's edition: own columns, the agreed figures, what crossed. `set_sizes`: the label owner's and its own."""
    used = np.bincount([split.column for split in half.splits], minlength=len(binned.columns))
    columns = [
        Column(party, column.name, labels=(), psi=_drift(shared, column.name, part_of_row))
        for column in binned.columns
    ]
    binary = job.model.objective == "binary"
    figures = (
        f"AUC {heard.alone:.4f} -> {heard.joint:.4f}, KS {heard.alone_ks:.4f} -> {heard.joint_ks:.4f}"
        if binary
        else f"RMSE {heard.alone:.6g} -> {heard.joint:.6g}"
    )
    note = Words(
        f"The label owner reports for {heard.rows} test rows, alone -> joint: {figures}.",
        f"标签方在 {heard.rows} 行测试样本上的结果（单方 -> 联合）：{figures}。",
    )
    total = int(used.sum()) or 1
    return Report(
        **_common(job, digest, party, seconds),
        rows=Rows(
            label=set_sizes[0],
            feature=(set_sizes[1],),
            common=len(part_of_row),
            train=int((part_of_row == TRAIN).sum()),
            valid=int((part_of_row == VALID).sum()),
            test=int((part_of_row == TEST).sum()),
        ),
        notes=(note,),
        traffic=_traffic(party, [channel], own_is_label=False),
        columns=tuple(columns),
        dropped=tuple(Dropped(party, name, reason) for name, reason in binned.dropped.items()),
        column_importance=tuple(
            Importance(party, int(count), int(count) / total, column.name)
            for column, count in zip(binned.columns, used, strict=True)
            if count
        ),
    )


def write(report: Report, languages: Iterable[str], out: Path) -> dict[str, Any]:
    """Write report.json and report.LANG.html; returns the figures that a node lists."""
    document = to_json(report)
    write_file(out / "report.json", json.dumps(document, ensure_ascii=False, indent=1).encode())
    for language in ("en", "zh"):
        if language in set(languages):
            write_file(out / f"report.{language}.html", render_html(report, language).encode())
    metrics = document.get("metrics") or {}
    return {
        "rows": document["rows"],
        "bytes": {
            "sent_by_label": report.traffic.sent_by_label,
            "sent_by_feature": report.traffic.sent_by_feature,
        },
        "rounds": report.traffic.rounds,
        "metrics": {
            who: {name: m[name] for name in ("auc", "ks", "rmse") if name in m}
            for who, m in metrics.items()
            if who in ("alone", "joint") and m
        },
        "seconds": {str(s.stage): s.wall_s for s in report.cost.stages},
    }


def _common(job: JobFile, digest: bytes, edition: str, seconds: dict[str, float]) -> dict[str, Any]:
    model, plan = job.model, make_plan(job)
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak_mb = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    stages = tuple(StageTime(name, spent) for name, spent in seconds.items())
    parameters = [(f"model.{k}", v) for k, v in asdict(model).items() if k != "kind"]
    parameters += [(f"binning.{k}", v) for k, v in asdict(job.features.binning).items()]
    parameters += [(f"crypto.{k}", v) for k, v in asdict(job.crypto).items()]
    parameters += [("align.min_rows", job.align.min_rows), ("run.seed", job.run.seed)]
    return {
        "name": job.metadata.name,
        "purpose": job.metadata.purpose,
        "created": SystemClock().now().isoformat(timespec="seconds"),
        "parties": Parties(job.parties.label_owner, job.parties.feature_owners, edition),
        "cost": Cost(used.ru_utime + used.ru_stime, sum(seconds.values()), peak_mb, stages),
        "settings": Settings(
            engine=plan.resolved["crypto"]["engine"],
            key_bits=job.crypto.paillier_bits if plan.resolved["crypto"]["engine"] == "paillier" else None,
            trees=model.trees,
            depth=model.depth,
            bins=job.features.binning.max_bins,
            parameters=tuple(parameters),
        ),
        "governance": Governance(
            digest.hex(),
            versions=(
                ("isthmus", isthmus.__version__),
                ("python", platform.python_version()),
                ("numpy", np.__version__),
            ),
        ),
        "leaks": _leaks(job),
    }


def _leaks(job: JobFile) -> tuple[Leak, ...]:
    """One row a stage from the plan's table, which has one row a party and fact."""
    plan, owner = make_plan(job), job.parties.label_owner
    rows = []
    for stage in plan.stages:
        facts = [leak for leak in plan.leaks if leak.stage == stage.name]
        if not facts:
            continue
        sides = [[f for f in facts if (f.party == owner) == mine] for mine in (True, False)]
        said = [
            Words(
                "; ".join(_distinct(f.learns.en for f in side)),
                "；".join(_distinct(f.learns.zh for f in side)),
            )
            for side in sides
        ]
        rows.append(Leak(Words(stage.title.en, stage.title.zh), said[0], said[1]))
    return tuple(rows)


def _distinct(texts: Iterable[str]) -> Sequence[str]:
    return list(dict.fromkeys(texts))


def _traffic(edition: str, channels: Sequence[Channel], own_is_label: bool = True) -> Traffic:
    sent = sum(c.meter.sent_bytes for c in channels)
    received = sum(c.meter.received_bytes for c in channels)
    kinds = [
        MessageTotal(kind, sender, count.messages, count.size_bytes)
        for channel in channels
        for sender, table in ((edition, channel.meter.sent), (channel.partner, channel.meter.received))
        for kind, count in table.items()
    ]
    return Traffic(
        sent_by_label=sent if own_is_label else received,
        sent_by_feature=received if own_is_label else sent,
        rounds=max(c.meter.rounds for c in channels),
        kinds=tuple(kinds),
    )


def _drift(table: Table, name: str, part_of_row: NDArray[np.uint8]) -> float | None:
    """PSI of one own column, training against test rows; None where there are no test rows."""
    column = table.columns[name]
    values = column.values if isinstance(column, NumericColumn) else column.codes.astype(np.float64)
    train, test = values[part_of_row == TRAIN], values[part_of_row == TEST]
    return psi(train, test).value if len(test) else None
