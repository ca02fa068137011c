"""What follows from a round: the next model, gates, releases and their steps, falls."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from isthmus.crypto.seal import PartyKey
from isthmus.fleet import models, rollout, strategies
from isthmus.fleet.manifest import document_of, make_manifest, make_task
from isthmus.fleet.rollout import LIVE, ROLLED_BACK, next_step, release_for
from isthmus.fleet.task import FleetTask
from isthmus.protocols.device_round import (
    METRIC_SCALE,
    Manifest,
    Round,
    encodings,
    evaluation_length,
    sign_of,
)
from isthmus.store.fleet import ReleaseRow, RoundRow, Task
from tests.fleet.test_desk import HELPERS
from tests.fleet.world import task_of

KEY = PartyKey.generate()


def made(task: FleetTask) -> tuple[Manifest, Task]:
    manifest = make_manifest(task, KEY.public, bytes(32), HELPERS)
    return manifest, make_task(task, document_of(task), manifest, KEY, None, 100, 0)[0]


def rows(*kinds: str, phase: str = "opened") -> list[RoundRow]:
    return [RoundRow(b"t", n, kind, "{}", "{}", phase, 0, 1, "{}") for n, kind in enumerate(kinds, 1)]


def test_rounds_come_in_their_order_and_given_up_ones_do_not_count() -> None:
    task = task_of(rounds={"count": 3}, evaluate={"every": 2})
    assert models.next_kind(task, []) == "train"
    assert models.next_kind(task, rows("train")) == "train"
    assert models.next_kind(task, rows("train", "train")) == "evaluate"
    assert models.next_kind(task, rows("train", "train", "evaluate")) == "train"
    assert models.next_kind(task, rows("train", "train", "evaluate", "train")) == "evaluate"
    assert models.next_kind(task, rows("train", "train", "evaluate", "train", "evaluate")) is None
    assert models.next_kind(task, rows("train") + rows("train", phase="aborted")) == "train"
    waiting = rows("train", phase="answering")
    assert models.next_kind(task, rows("train") + waiting) == "train"
    assert models.next_kind(task, rows("train") + 2 * waiting) is None, "no more than three are trained"
    assert models.next_kind(task, rows("train", "train") + waiting) is None, "one measures when all are in"


@pytest.mark.parametrize(
    "strategy", ["fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "scaffold", "fedbuff"]
)
def test_every_strategy_turns_sums_into_a_model(strategy: str) -> None:
    task = task_of(rounds={"strategy": strategy, "server_rate": 1.0})
    manifest, row = made(task)
    round_ = models.make_round(task, row, "train", 1, row.model)
    update = np.linspace(-0.2, 0.2, manifest.parameters)
    coded = np.concatenate([20 * each.encode(update).values for each in encodings(manifest, round_)])
    after = models.after_round(task, manifest, row, round_, [models.BucketSum(coded, 20, 20)], 20, 0, [])
    body = after.blobs[after.task.model]
    model = np.frombuffer(body, dtype="<f4")
    start = strategies.from_bytes(row.strategy)["model"]
    moved = model - start
    if strategy in ("fedavg", "fedavgm", "scaffold", "fedbuff"):
        assert np.abs(moved - update).max() < 0.02
    else:
        assert (np.sign(moved) == np.sign(update))[np.abs(update) > 0.01].all()
    if strategy == "scaffold":
        again = models.make_round(task, after.task, "train", 2, row.model)
        assert again.control in after.blobs


def test_the_bound_follows_the_norms_and_the_next_round_shows_it() -> None:
    task = task_of(local={"clip_quantile": 0.5, "clip_norm": 2.0}, sum={"keep": 0.5})
    manifest, row = made(task)
    round_ = models.make_round(task, row, "train", 1, row.model)
    assert round_.clip == 2.0
    update = np.full(manifest.parameters, 0.1)
    coded = 20 * encodings(manifest, round_)[0].encode(update).values
    for within, moved in ((20, -1), (10, 0), (0, 1)):
        signs = np.array([sign_of(manifest) * (2 * within - 20)])
        sums = [models.BucketSum(np.concatenate([coded, signs]), 20, 20)]
        after = models.after_round(task, manifest, row, round_, sums, 20, 0, [])
        following = models.make_round(task, after.task, "train", 2, row.model)
        assert np.sign(following.clip - 2.0) == moved
        assert 1.8 < following.clip < 2.3


def scores(task: FleetTask, manifest: Manifest, **of: float) -> models.BucketSum:
    """Sums of 20 devices that all measure the same."""
    values = np.zeros(evaluation_length(manifest), dtype=np.int64)
    for scorer, value in of.items():
        at = ["local_only", "current", "candidate", "personal"].index(scorer) * len(manifest.metrics)
        values[at : at + len(manifest.metrics)] = round(value * METRIC_SCALE) * 20
    return models.BucketSum(values, 20, 20)


def measured(task: FleetTask, before: list[dict[str, Any]], **of: float) -> models.Made:
    manifest, row = made(task)
    round_ = Round(row.digest, 2, "evaluate", (b"c" * 32, row.model), None)
    return models.after_round(task, manifest, row, round_, [scores(task, manifest, **of)], 20, 0, before)


def test_a_candidate_is_released_only_past_its_gate() -> None:
    task = task_of(evaluate={"gate": {"gain": 0.05}})
    worse = measured(task, [], current=0.7, candidate=0.74)
    assert (worse.released, worse.figures["passed"]) == (None, False)
    better = measured(task, [], current=0.7, candidate=0.76)
    assert better.released == better.task.model
    assert better.figures["scores"]["candidate"]["auc_per_device"] == pytest.approx(0.76, abs=1e-3)
    assert json.loads(models.figures_text(better.figures)) == better.figures


def test_a_released_model_that_fell_is_taken_back_and_nothing_is_released_instead() -> None:
    task = task_of(rollout={"roll_back_drop": 0.01})
    before = [{"scores": {"candidate": {"auc_per_device": 0.8}}}]
    fell = measured(task, before, current=0.78, candidate=0.9)
    assert (fell.fell, fell.released) == (True, None)
    held = measured(task, before, current=0.795, candidate=0.9)
    assert held.released is not None
    assert not held.fell


def release(number: int, step: int = 0, state: str = LIVE) -> ReleaseRow:
    return ReleaseRow("phones", number, b"t" * 32, bytes([number]) * 32, "{}", step, 1000, state, "{}")


def test_devices_get_the_newest_release_that_has_come_to_them() -> None:
    steps = {b"t" * 32: (0.2, 1.0)}
    found = [release(2), release(1, step=1)]
    numbers = [release_for(n.to_bytes(32, "big"), found, steps) for n in range(500)]
    share = sum(each is not None and each.number == 2 for each in numbers) / 500
    assert 0.14 < share < 0.26
    assert all(each is not None for each in numbers)
    whole = [release(3, step=1), release(2, state=ROLLED_BACK)]
    assert all(release_for(n.to_bytes(32, "big"), whole, steps) is whole[0] for n in range(50))
    assert release_for(bytes(32), [release(2, state=ROLLED_BACK)], steps) is None


def test_a_release_goes_on_step_by_step_once_it_was_held() -> None:
    plan = task_of(rollout={"steps": [0.1, 0.5, 1.0], "hold_h": 1}).rollout
    assert next_step(release(1), plan, 1000 + 3_599_999) is None
    assert next_step(release(1), plan, 1000 + 3_600_000) == 1
    assert next_step(release(1, step=2), plan, 10**12) is None
    assert next_step(release(1, state=ROLLED_BACK), plan, 10**12) is None
    assert 0 <= rollout.share_of(b"device", b"label") < 1
