"""From opened sums to models: which round comes next, what it shows, and what follows from it. No I/O."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import LocalError
from isthmus.fleet import rollout, strategies
from isthmus.fleet.combine import combine
from isthmus.fleet.rounds import ENDED, OPENED
from isthmus.fleet.task import FleetTask
from isthmus.privacy.clip import AdaptiveClip
from isthmus.protocols.device_round import (
    CLIP_REACH,
    EVALUATE,
    METRIC_SCALE,
    TRAIN,
    Manifest,
    Round,
    encodings,
    scorers_of,
    sign_of,
    vector_bytes,
)
from isthmus.store.fleet import RoundRow, Task

Figures = dict[str, Any]
_BOUND = "bound"
"""Where the state of a strategy keeps the bound on the norms of the next round."""


@dataclass(frozen=True, slots=True)
class BucketSum:
    """One opened sum: `(length,)` integers over `reports` reports of `weight` in all."""

    values: NDArray[np.int64]
    weight: int
    reports: int


@dataclass(frozen=True, slots=True)
class Made:
    """What a round has made: the task's row after it, blobs to keep, figures; perhaps a model to release, or a fall."""

    task: Task
    blobs: dict[bytes, bytes]
    figures: Figures
    released: bytes | None = None
    fell: bool = False


def strategy_of(task: FleetTask, devices: int) -> strategies.Strategy:
    """The strategy of a task; `devices` may take part."""
    rounds = task.rounds
    match rounds.strategy:
        case "fedavg" | "fedprox":
            return strategies.FedAvg(rounds.server_rate)
        case "fedavgm":
            return strategies.FedAvgM(rounds.server_rate, rounds.momentum)
        case "fedadam":
            return strategies.FedAdam(rounds.server_rate, beta1=rounds.momentum)
        case "fedyogi":
            return strategies.FedYogi(rounds.server_rate, beta1=rounds.momentum)
        case "fedadagrad":
            return strategies.FedAdagrad(rounds.server_rate)
        case "scaffold":
            return strategies.Scaffold(max(1, devices), rounds.server_rate)
        case _:
            return strategies.FedBuff(rounds.cohort, rate=rounds.server_rate)


def blob_of(vector: NDArray[np.floating]) -> tuple[bytes, bytes]:
    """The digest of a model and its bytes."""
    body = vector_bytes(np.asarray(vector, dtype=np.float32))
    return hashlib.sha256(body).digest(), body


def next_kind(task: FleetTask, rounds: Sequence[RoundRow]) -> str | None:
    """The kind of the next round; None while those under way come first, or when the task is done. Rounds that were given up do
    not count."""
    done = [row.kind for row in rounds if row.phase == OPENED]
    under_way = [row.kind for row in rounds if row.phase not in ENDED]
    trained, measured = done.count(TRAIN), done.count(EVALUATE)
    due = trained // task.evaluate.every > measured or trained >= task.rounds.count
    if trained and due and done[-1] == TRAIN:
        return None if under_way else EVALUATE
    return TRAIN if trained + under_way.count(TRAIN) < task.rounds.count else None


def make_round(task: FleetTask, row: Task, kind: str, number: int, in_use: bytes) -> Round:
    """What devices are shown: the newest model to train on, or the model in use and the newest one to measure."""
    if kind == EVALUATE:
        return Round(row.digest, number, kind, (in_use, row.model), None)
    state = strategies.from_bytes(row.strategy)
    control = blob_of(state["control"])[0] if "control" in state else None
    bound = 0.0
    if task.local.clip_quantile is not None:
        bound = float(state[_BOUND][0]) if _BOUND in state else task.local.clip_norm
    return Round(row.digest, number, kind, (row.model,), control, bound)


def after_round(
    task: FleetTask,
    manifest: Manifest,
    row: Task,
    round: Round,
    sums: Sequence[BucketSum],
    devices: int,
    versions: int,
    before: Sequence[Mapping[str, Any]],
) -> Made:
    """What follows from the sums of a round, of which there is at least one. `versions`: models that were made since the one
    that this round showed; `before`: figures of releases, newest first."""
    counts = {"reports": sum(each.reports for each in sums), "buckets": len(sums)}
    if round.kind == EVALUATE:
        return _measured(task, manifest, row, round, sums, counts, before)
    return _trained(task, manifest, row, round, sums, counts, devices, versions)


def _trained(
    task: FleetTask, manifest: Manifest, row: Task, round: Round, sums: Sequence[BucketSum], counts: Figures,
    devices: int, versions: int,
) -> Made:  # fmt: skip
    means = np.stack([_decoded(manifest, round, each.values) for each in sums])
    weights = np.array([each.weight for each in sums], dtype=np.float64)
    joined = combine(means, weights, task.robust.combine)
    summed, weight = joined.summed, joined.weight
    state = strategies.from_bytes(row.strategy)
    state.pop(_BOUND, None)
    strategy = strategy_of(task, devices)
    if isinstance(strategy, strategies.FedBuff):
        # All reports of a round were made from one model, so they are equally stale.
        stale = strategies.staleness_weight(versions, strategy.weight_max)
        summed, weight = summed * stale, weight * stale
    after, model = strategy.step(state, summed, weight)
    if not np.isfinite(model).all():
        raise LocalError("model_not_finite", round=round.number)
    if task.local.clip_quantile is not None:
        after[_BOUND] = np.array([_next_bound(task, manifest, round, sums)])
    name, body = blob_of(model)
    kept = {name: body}
    if "control" in after:
        kept.update([blob_of(after["control"])])
    figures: Figures = {
        **counts,
        "update_norm": _short(np.linalg.norm(summed[: model.size] / weight)),
        "model": name.hex(),
        "flagged": list(joined.flagged),
    }
    return Made(replace(row, model=name, strategy=strategies.to_bytes(after)), kept, figures)


def _next_bound(task: FleetTask, manifest: Manifest, round: Round, sums: Sequence[BucketSum]) -> float:
    """The bound of the next round, after how many updates lay within that of this one."""
    assert task.local.clip_quantile is not None
    adaptive = AdaptiveClip(round.clip, sign_of(manifest), task.local.clip_quantile)
    signs, weight = sum(int(each.values[-1]) for each in sums), sum(each.weight for each in sums)
    start = task.local.clip_norm
    return min(max(adaptive.after(signs, weight).bound, start / CLIP_REACH), start * CLIP_REACH)


def _decoded(manifest: Manifest, round: Round, values: NDArray[np.int64]) -> NDArray[np.float64]:
    parts, at = [], 0
    for encoding in encodings(manifest, round):
        parts.append(encoding.decode(values[at : at + encoding.words]))
        at += encoding.words
    return np.concatenate(parts)


def _measured(
    task: FleetTask, manifest: Manifest, row: Task, round: Round, sums: Sequence[BucketSum], counts: Figures,
    before: Sequence[Mapping[str, Any]],
) -> Made:  # fmt: skip
    reports = sum(each.reports for each in sums)
    values = np.sum([each.values for each in sums], axis=0) / (METRIC_SCALE * reports)
    scorers, metrics = scorers_of(manifest), manifest.metrics
    table = values.reshape(len(scorers), len(metrics))
    scores = {
        scorer: {metric: _short(value) for metric, value in zip(metrics, line, strict=True)}
        for scorer, line in zip(scorers, table, strict=True)
    }
    in_use, candidate = round.models
    figures: Figures = {**counts, "scores": scores, "in_use": in_use.hex(), "candidate": candidate.hex()}
    gate = task.evaluate.gate
    passed = candidate != in_use and rollout.passes(gate, scores["current"], scores["candidate"])
    figures["passed"] = passed
    then = before[0].get("scores", {}).get("candidate") if before else None
    fell = bool(then) and rollout.fell(gate, task.rollout, then or {}, scores["current"])
    return Made(row, {}, figures, candidate if passed and not fell else None, fell)


def _short(value: Any) -> float:
    """Six figures: enough to read, and no more than the sum is worth."""
    number = float(value)
    return float(f"{number:.6g}") if math.isfinite(number) else 0.0


def figures_text(figures: Mapping[str, Any]) -> str:
    return json.dumps(figures, sort_keys=True)


def read_figures(text: str) -> Figures:
    found: Figures = json.loads(text)
    return found
