"""The shapes of fleets, with an example of each, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from isthmus.service.shapes import ErrorShape

_AT = "2026-03-02T09:30:00+00:00"
_KEY = "5f" * 32
_PURPOSE = "Rank a person's own photos by how much that person is likely to enjoy them"
_BUDGET = {"epsilon": 8.0, "delta": 1e-6, "epsilon_left": 4.0, "delta_left": 9e-7}
_APP = {
    "population": "album-phones",
    "leader": {
        "name": "cloud-co",
        "address": "leader.example:8444",
        "key": _KEY,
        "certificate": "-----BEGIN CERTIFICATE-----\n...",
    },
    "authority": _KEY,
    "helpers": [{"name": "audit-house", "signing": _KEY, "sealing": _KEY}],
    "epsilon_most": 8.0,
}
_RELEASE = {
    "number": 3,
    "task": "album-taste-07",
    "model": "3f" * 32,
    "state": "live",
    "share": 0.1,
    "step": 2,
    "steps": 3,
    "since": _AT,
    "figures": {"auc_per_device": 0.78},
}
_TASK = {
    "name": "album-taste-07",
    "fleet": "album-phones",
    "digest": "c1" * 32,
    "purpose": _PURPOSE,
    "state": "running",
    "reason": "",
    "strategy": "fedavg",
    "helpers": ["album-app", "audit-house"],
    "created_at": _AT,
    "rounds_planned": 40,
    "rounds_done": 7,
    "rounds_given_up": 1,
    "model": "3f" * 32,
    "budget": {"spent": 1.7, "epsilon": 4.0, "delta": 1e-7},
}
_ROUND = {
    "number": 8,
    "kind": "train",
    "phase": "opened",
    "reason": "",
    "opened_at": _AT,
    "ended_at": _AT,
    "deadline_at": _AT,
    "target": 2000,
    "least": 400,
    "batches": 4,
    "waits_for": [],
    "funnel": {"checked_in": 9120, "eligible": 2950, "offered": 2400, "uploaded": 2003, "counted": 2000},
    "lost": {"gone": 210, "left_out": 3, "not_eligible": 6100, "too_soon": 70},
    "figures": {"norm": 0.4},
}


def _like(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


class BudgetShape(BaseModel):
    """What all tasks of a fleet together may cost one device, and what is left of that for new ones."""

    model_config = _like(_BUDGET)

    epsilon: float
    delta: float
    epsilon_left: float
    delta_left: float


class SpentShape(BaseModel):
    """What a task has cost a device that took part whenever it could, and the most that it may."""

    model_config = ConfigDict(extra="forbid")

    spent: float
    epsilon: float
    delta: float


class AppLeaderShape(BaseModel):
    """Where devices find the leader, the key (Ed25519) and the one certificate (PEM) by which they know it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    address: str
    key: str
    certificate: str


class AppHelperShape(BaseModel):
    """A helper that the app accepts."""

    model_config = ConfigDict(extra="forbid")

    name: str
    signing: str
    sealing: str


class AppShape(BaseModel):
    """What goes into the app. `epsilon_most`: its devices refuse tasks that promise less privacy; null takes any."""

    model_config = _like(_APP)

    population: str
    leader: AppLeaderShape
    authority: str
    helpers: list[AppHelperShape]
    epsilon_most: float | None


class ReleaseShape(BaseModel):
    """A model that devices use, and the share of them that has it. `number` rises with every release. Replaced: a later one has
    reached all devices."""

    model_config = _like(_RELEASE)

    number: int
    task: str
    model: str
    state: Literal["live", "replaced", "rolled_back"]
    share: float
    step: int
    steps: int
    since: str
    figures: dict[str, Any]


class FleetShape(BaseModel):
    """A fleet. `rounds`: those under way, by phase; `versions`: devices by version of the app."""

    model_config = _like(
        {
            "name": "album-phones",
            "stopped": False,
            "authority": _KEY,
            "created_at": _AT,
            "devices": 9120,
            "versions": {"8.2.1": 9000, "8.3.0": 120},
            "tasks": {"running": 1, "finished": 6},
            "rounds": {"collecting": 1},
            "budget": _BUDGET,
            "release": _RELEASE,
            "leader_running": True,
            "app": _APP,
        }
    )

    name: str
    stopped: Annotated[bool, Field(description="The kill switch is on.")]
    authority: Annotated[str, Field(description="Public key (Ed25519) of the app's sign-in.")]
    created_at: str
    devices: int
    versions: dict[str, int]
    tasks: dict[str, int]
    rounds: dict[str, int]
    budget: BudgetShape
    release: ReleaseShape | None
    leader_running: bool
    app: AppShape | None


class DeviceShape(BaseModel):
    """A device: its key and the version of its app. Who owns it is known to the app's sign-in alone."""

    model_config = _like(
        {"key": _KEY, "app_version": "8.2.1", "enrolled_at": _AT, "ticket_until": _AT, "blocked": False}
    )

    key: str
    app_version: str
    enrolled_at: str
    ticket_until: str
    blocked: bool


class FleetTaskShape(BaseModel):
    """A task. `budget` is null where there is no differential privacy."""

    model_config = _like(_TASK)

    name: str
    fleet: str
    digest: str
    purpose: str
    state: Literal["running", "paused", "stopped", "finished"]
    reason: str
    strategy: str
    helpers: list[str]
    created_at: str
    rounds_planned: int
    rounds_done: int
    rounds_given_up: int
    model: str
    budget: SpentShape | None


class LearnsShape(BaseModel):
    """Who learns what, in words."""

    model_config = ConfigDict(extra="forbid")

    who: str
    learns: str


class FleetPlanShape(BaseModel):
    """What a task will do. Bytes: of one device in one training round. `times_a_device`: rounds that it takes part in at most.
    `digest`: of what would be signed, null while a helper is missing; `begins_with`: a release, null for a fresh model."""

    model_config = _like(
        {
            "task": "album-taste-08",
            "fleet": "album-phones",
            "purpose": _PURPOSE,
            "digest": "c1" * 32,
            "document": "{}",
            "begins_with": 3,
            "parameters": 32897,
            "rounds": 40,
            "evaluations": 4,
            "reports_a_round": 2000,
            "floor": 400,
            "buckets": 4,
            "times_a_device": 4,
            "upload_bytes": 131000,
            "fetch_bytes": 133000,
            "noise_std": 1520.5,
            "epsilon": 4.0,
            "delta": 1e-7,
            "budget": _BUDGET,
            "learns": [{"who": "cloud-co", "learns": "sums over at least 400 devices"}],
            "obstacles": [],
        }
    )

    task: str
    fleet: str
    purpose: str
    digest: str | None
    document: str
    begins_with: int | None
    parameters: int
    rounds: int
    evaluations: int
    reports_a_round: int
    floor: int
    buckets: int
    times_a_device: int
    upload_bytes: int
    fetch_bytes: int
    noise_std: Annotated[float, Field(description="Of each helper, in units of the sum; 0 is none.")]
    epsilon: float | None
    delta: float | None
    budget: BudgetShape
    learns: list[LearnsShape]
    obstacles: Annotated[list[ErrorShape], Field(description="What would refuse the task now.")]


class FunnelShape(BaseModel):
    """Devices of a round, each number a part of the one before."""

    model_config = ConfigDict(extra="forbid")

    checked_in: int
    eligible: int
    offered: int
    uploaded: int
    counted: int


class RoundShape(BaseModel):
    """A round. `lost`: devices by why they are not counted. `waits_for`: helpers (0, 1) that have yet to answer."""

    model_config = _like(_ROUND)

    number: int
    kind: Literal["train", "evaluate"]
    phase: Literal["collecting", "looking", "forming", "answering", "opened", "aborted"]
    reason: str
    opened_at: str
    ended_at: str | None
    deadline_at: str
    target: int
    least: int
    batches: int
    waits_for: list[int]
    funnel: FunnelShape
    lost: dict[str, int]
    figures: dict[str, Any]


class WholeFleetTaskShape(FleetTaskShape):
    """A task with its file and its newest rounds, the newest first."""

    model_config = _like(_TASK | {"document": "{}", "rounds": [_ROUND]})

    document: str
    rounds: list[RoundShape]


class HelperShape(BaseModel):
    """A helper: where it is reached, the key it signs with and its fingerprint, the key that seeds are sealed to."""

    model_config = _like(
        {
            "name": "audit-house",
            "address": "https://helper.example:8445",
            "fingerprint": "a41c 09be 7d52 3f80 6c11 e9d4 02ab 57f3",
            "key": _KEY,
            "sealing": _KEY,
            "added_at": _AT,
        }
    )

    name: str
    address: str
    fingerprint: str
    key: str
    sealing: str
    added_at: str
