"""From a task file to the manifest that devices and helpers check, what it will cost, and its entry in the privacy ledger."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.base.canonical import digest
from isthmus.base.errors import ConfigError
from isthmus.base.typed_json import read, write
from isthmus.crypto.seal import PartyKey
from isthmus.crypto.words import ring_for
from isthmus.fleet import models, strategies
from isthmus.fleet.task import FleetTask
from isthmus.learn.head import Head
from isthmus.privacy.accountant import noise_for, rho_of
from isthmus.privacy.ledger import Allowance, PrivacyLedger, TaskAccount
from isthmus.protocols.device_round import (
    TRAIN,
    Eligible,
    Example,
    Layer,
    Local,
    Manifest,
    Privacy,
    Round,
    Signed,
    Sums,
    check_manifest,
    report_length,
    sensitivities,
    sign_of,
    sign_paper,
)
from isthmus.protocols.secure_sum import SEALED_BYTES, HelperKey
from isthmus.store.fleet import RUNNING, Population, Task

KIND: Final = "report"
"""Training and evaluation cost a device the same in each round, and its limit counts both."""
_METRIC_BITS: Final = 12


def head_of(task: FleetTask) -> Head:
    """Raises ConfigError `out_of_bounds` that names the layer."""
    return Head.from_layers(task.model.layers, sum(task.example.features.values()), task.model.loss)


def make_manifest(task: FleetTask, leader: bytes, authority: bytes, helpers: Sequence[HelperKey]) -> Manifest:
    """`leader`: the public key of the leader; `authority`: of who enrols the population's devices; `helpers` as in the file.

    Raises ConfigError where layers, ring or keys do not fit.
    """
    head = head_of(task)
    corrected = task.rounds.strategy == "scaffold"
    manifest = Manifest(
        version=1,
        name=task.metadata.name,
        purpose=task.metadata.purpose,
        population=task.fleet.name,
        leader_name=task.parties.leader,
        leader=leader,
        authority=authority,
        helpers=tuple(helpers),
        valid_until_ms=_end_of(task.metadata.valid_until),
        app_version=task.fleet.app_version,
        eligible=Eligible(**task.eligible.model_dump()),
        example=Example(**task.example.model_dump()),
        layers=tuple(_layer(each) for each in task.model.layers),
        loss=task.model.loss,
        personal_head=task.model.personal_head,
        parameters=head.size,
        local=Local(**task.local.model_dump(), corrected=corrected),
        sums=Sums(task.sum.bits, task.sum.rotate, _kept(task, head.size), 2, 2, task.robust.weight_cap),
        privacy=Privacy(0.0, 0.0, None, None, task.privacy.receipts),
        reports_min=task.rounds.min_cohort,
        per_device_max=task.rounds.max_per_device,
        min_gap_s=round(task.rounds.min_gap_h * 3600),
        rounds=task.rounds.count,
        metrics=tuple(task.evaluate.metrics),
    )
    manifest = _with_noise(task, manifest)
    check_manifest(manifest)
    return manifest


def _with_noise(task: FleetTask, manifest: Manifest) -> Manifest:
    """The noise that the budget asks for, and the rings that hold sums and noise."""
    privacy = manifest.privacy
    if (dp := task.privacy.dp) != "none":
        training, evaluation = (
            noise_for(dp.epsilon, dp.delta, each, manifest.per_device_max) for each in sensitivities(manifest)
        )
        privacy = Privacy(training, evaluation, dp.epsilon, dp.delta, task.privacy.receipts)
    reports_max = 2 * task.rounds.cohort + 1000
    bits = max(manifest.sums.bits, sign_of(manifest).bit_length() + 1)
    sums = dataclasses.replace(
        manifest.sums,
        width_bytes=max(2, ring_for(bits, reports_max, manifest.sums.weight_max, privacy.noise_std).width_bytes),
        evaluate_width_bytes=max(2, ring_for(_METRIC_BITS, reports_max, 1, privacy.evaluate_noise_std).width_bytes),
    )  # fmt: skip
    return dataclasses.replace(manifest, privacy=privacy, sums=sums)


def _kept(task: FleetTask, parameters: int) -> int:
    return 0 if task.sum.keep == 1 else max(1, round(task.sum.keep * parameters))


def _layer(written: str | dict[str, int | tuple[int, ...]]) -> Layer:
    if isinstance(written, str):
        return Layer(written, ())
    if len(written) != 1:
        raise ConfigError(
            "out_of_bounds", field="model.layers", value=str(written)[:80], allowed="one layer in each place"
        )
    ((kind, sizes),) = written.items()
    return Layer(kind, (sizes,) if isinstance(sizes, int) else tuple(sizes))


def _end_of(day: str) -> int:
    """The last millisecond of a day, UTC."""
    return round(datetime.combine(date.fromisoformat(day), time.max, UTC).timestamp() * 1000)


# ── a task as rows ───────────────────────────────────────────────────────────────────────────────────────────────────────


def make_task(
    task: FleetTask,
    document: str,
    manifest: Manifest,
    key: PartyKey,
    model: NDArray[np.float32] | None,
    devices: int,
    now_ms: int,
) -> tuple[Task, dict[bytes, bytes]]:
    """The row of a task and its blobs; `model`: what it begins with, if not a fresh one."""
    begins = model if model is not None else head_of(task).init(digest(["first model", task.run.seed]))
    name, body = models.blob_of(begins)
    state = models.strategy_of(task, devices).start(np.asarray(begins, dtype=np.float64))
    blobs = {name: body}
    if "control" in state:
        blobs.update([models.blob_of(state["control"])])
    paper: Signed = sign_paper(manifest, key)
    row = Task(
        manifest.digest, manifest.name, manifest.population, document, paper.paper, paper.signature, RUNNING, "",
        name, strategies.to_bytes(state), 1.0, now_ms,
    )  # fmt: skip
    return row, blobs


# ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Entry:
    """A task in the ledger: its name, allowance and rounds."""

    task: str
    epsilon: float
    delta: float
    rho: float
    most: int
    rounds: int


def ledger_of(population: Population, entries: Sequence[str]) -> PrivacyLedger:
    """The ledger of a population, from the entries of its tasks."""
    found = [read(_Entry, entry.encode()) for entry in entries]
    return PrivacyLedger(
        population.name,
        Allowance(population.epsilon, population.delta),
        tuple(_account(entry) for entry in found),
    )


def admitted(
    population: Population, entries: Sequence[str], task: FleetTask, manifest: Manifest
) -> str | None:
    """The entry of a new task, None without differential privacy. Raises PolicyError `privacy_spent`."""
    if task.privacy.dp == "none":
        return None
    dp = task.privacy.dp
    ledger_of(population, entries).admit(manifest.digest.hex(), Allowance(dp.epsilon, dp.delta))
    rho = rho_of(manifest.privacy.noise_std, sensitivities(manifest)[0])
    return write(
        _Entry(manifest.digest.hex(), dp.epsilon, dp.delta, rho, manifest.per_device_max, 0)
    ).decode()


def charged(manifest: Manifest, entries: Sequence[str]) -> str | None:
    """The entry of a task with one more round, None without differential privacy. Raises PolicyError `privacy_spent`."""
    name = manifest.digest.hex()
    for entry in (read(_Entry, each.encode()) for each in entries):
        if entry.task == name:
            _account(entry).after(KIND, entry.rho, entry.most)
            return write(dataclasses.replace(entry, rounds=entry.rounds + 1)).decode()
    return None


def spent_of(entry: str) -> dict[str, Any]:
    """What a task may spend and has spent: epsilon and delta for each device."""
    found = read(_Entry, entry.encode())
    account = _account(found)
    return {
        "task": found.task,
        "epsilon": account.epsilon,
        "delta": found.delta,
        "allowed_epsilon": found.epsilon,
        "rounds": found.rounds,
    }


def _account(entry: _Entry) -> TaskAccount:
    account = TaskAccount(entry.task, Allowance(entry.epsilon, entry.delta))
    for _ in range(min(entry.rounds, entry.most)):
        account = account.after(KIND, entry.rho, entry.most)
    return account


# ── the plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def plan_task(task: FleetTask, manifest: Manifest, ledger: PrivacyLedger) -> dict[str, Any]:
    """What people see before a task is run: sizes for each device, floors, the privacy it costs, and who learns what."""
    vectors = 2 if manifest.local.corrected else 1
    words = report_length(manifest, Round(manifest.digest, 1, TRAIN, (bytes(32),), None))
    overhead = 300 + 2 * SEALED_BYTES
    dp = task.privacy.dp
    set_aside = ledger.set_aside
    return {
        "task": manifest.name,
        "digest": manifest.digest.hex(),
        "parameters": manifest.parameters,
        "rounds": task.rounds.count,
        "reports_a_round": task.rounds.cohort,
        "floor": manifest.reports_min,
        "upload_bytes": words * manifest.sums.width_bytes + overhead,
        "fetch_bytes": 4 * manifest.parameters * vectors + len(write(manifest)),
        "times_a_device": manifest.per_device_max,
        "noise_std": manifest.privacy.noise_std,
        "epsilon": None if dp == "none" else dp.epsilon,
        "delta": None if dp == "none" else dp.delta,
        "epsilon_left": ledger.allowance.epsilon - set_aside[0],
        "learns": [
            {"who": task.parties.leader, "what": "sums over at least min_cohort devices, and which devices took part"},
            *({"who": helper, "what": "which devices took part, and with which weight"} for helper in task.parties.helpers),
            {"who": "device", "what": "the model, the task, and receipts of what it sent"},
        ],
    }  # fmt: skip


def document_of(task: FleetTask) -> str:
    """The file with every default filled in."""
    return json.dumps(task.model_dump(mode="json", by_alias=True), sort_keys=True, ensure_ascii=False)
