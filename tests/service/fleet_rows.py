"""A fleet as a leader would have left it: a task, rounds in several phases, devices, releases."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

from isthmus.base.typed_json import write
from isthmus.crypto.seal import PartyKey
from isthmus.fleet.cards import HelperCard, write_card
from isthmus.fleet.rounds import BatchState, RoundState
from isthmus.store.fleet import Device, FleetRows, ReleaseRow, RoundRow, Task

AUTHORITY = PartyKey.from_bytes(b"a" * 32)
TASK: dict[str, Any] = {
    "apiVersion": "isthmus/v1",
    "kind": "FleetTask",
    "metadata": {
        "name": "taste-1",
        "purpose": "Rank a person's own photos by how much that person is likely to enjoy them",
        "valid_until": "2099-01-20",
    },
    "parties": {"leader": "bank", "helpers": ["app-co", "audit-house"]},
    "fleet": {"name": "phones"},
    "example": {"features": {"embedding": 8}, "events": {"zoom": 1.0}},
    "model": {"layers": [{"dense": 1}, "sigmoid"]},
    "local": {"clip_norm": 1.0},
    "rounds": {"count": 20, "cohort": 40, "min_cohort": 20},
    "privacy": {"dp": {"epsilon": 3.0, "delta": 1e-7}},
    "robust": {"buckets": 2},
}


def task_text(**sections: dict[str, Any]) -> str:
    """The file of a task, with fields changed in some sections."""
    document = copy.deepcopy(TASK)
    for section, fields in sections.items():
        document[section] = document.get(section, {}) | fields
    return json.dumps(document)


def card(name: str, seed: int) -> str:
    """What a helper prints of itself."""
    key = PartyKey.from_bytes(bytes([seed] * 32))
    made = HelperCard(name, f"https://{name}.example:8445", b"DER", key.public, bytes([seed + 1] * 32))
    return write_card(made, key)


def device_key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def give_devices(rows: FleetRows, count: int, population: str = "phones") -> None:
    for number in range(count):
        version = "8.2" if number % 3 else "8.1"
        rows.enrol(Device(population, device_key(number), b"t" * 64, 4_000_000_000_000, version, False), 1000)


def give_round(rows: FleetRows, task: Task, number: int, state: RoundState, **lost: int) -> None:
    ended = 2000 if state.phase in ("opened", "aborted") else None
    text = write(state).decode()
    rows.add_round(RoundRow(task.digest, number, "train", "{}", text, state.phase, 1000, ended, "{}"), None)
    rows.add_lost(task.digest, number, lost)


def state(phase: str, taken: int, batches: tuple[BatchState, ...] = (), reason: str = "") -> RoundState:
    return RoundState(phase, 40, 20, 9000, 1000, taken, 9000, (True, True), batches, reason)


def give_release(rows: FleetRows, task: Task, number: int, model: bytes, step: int = 0) -> ReleaseRow:
    made = ReleaseRow("phones", number, task.digest, model, "{}", step, 1000, "live", '{"scores": {}}')
    rows.add_release(made)
    return replace(made)
