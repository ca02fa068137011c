"""What the HTTP interface shows of fleets: devices, tasks, rounds, releases, helpers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from isthmus.base.typed_json import plain, read
from isthmus.fleet import rollout
from isthmus.fleet.cards import HelperCard
from isthmus.fleet.models import read_figures
from isthmus.fleet.rounds import ABORTED, ENDED, OPENED, RoundState
from isthmus.fleet.task import load_task
from isthmus.service.fleets import Fleets, budget_of
from isthmus.service.keys import shown
from isthmus.store.fleet import Population, ReleaseRow
from isthmus.store.fleet_views import DeviceView, RoundView, TaskView

FUNNEL: Final = ("checked_in", "eligible", "offered", "uploaded")
"""What becomes of devices in a round, each a part of the one before; whatever else is on record is a reason why one was lost."""


def at(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def fleet_view(fleets: Fleets, population: Population) -> dict[str, Any]:
    name, views = population.name, fleets.views
    tasks = views.count_tasks(name)
    release = fleets.release(name)
    return {
        "name": name,
        "stopped": population.stopped,
        "authority": population.authority.hex(),
        "created_at": at(population.created_ms),
        "devices": fleets.rows.count_devices(name),
        "versions": views.versions(name),
        "tasks": tasks,
        "rounds": views.open_rounds(name),
        "budget": budget_of(fleets.ledger(population)),
        "release": release and release_view(fleets, name, release, 0),
        "leader_running": fleets.folder.running(),
        "app": app_view(fleets, population),
    }


def app_view(fleets: Fleets, population: Population) -> dict[str, Any] | None:
    """What goes into the app, beside its version (`device/config.py`); None before a leader was started for the first time."""
    place = fleets.folder.place()
    if place is None:
        return None
    leader = {
        "name": fleets.own,
        "address": place.address.removeprefix("https://"),
        "key": fleets.key.public.hex(),
        "certificate": fleets.folder.certificate.read_text("ascii"),
    }
    return {
        "population": population.name,
        "leader": leader,
        "authority": population.authority.hex(),
        "helpers": [plain(card.helper) for card, _ in fleets.helpers()],
        "epsilon_most": population.epsilon,
    }


def device_view(device: DeviceView) -> dict[str, Any]:
    return {
        "key": device.key.hex(),
        "app_version": device.app_version,
        "enrolled_at": at(device.enrolled_ms),
        "ticket_until": at(device.expires_ms),
        "blocked": device.blocked,
    }


def release_view(fleets: Fleets, name: str, release: ReleaseRow, covered: int) -> dict[str, Any]:
    """`covered`: the newest release that all devices have."""
    paper = fleets.views.paper(release.task)
    steps = fleets.steps(name, release)
    step = min(release.step, len(steps) - 1)
    replaced = release.state == rollout.LIVE and release.number < covered
    return {
        "number": release.number,
        "task": paper[0] if paper else "",
        "model": release.model.hex(),
        "state": "replaced" if replaced else release.state,
        "share": steps[step],
        "step": step + 1,
        "steps": len(steps),
        "since": at(release.since_ms),
        "figures": read_figures(release.figures),
    }


def task_view(fleets: Fleets, task: TaskView) -> dict[str, Any]:
    file = load_task(task.document.encode())
    counts = fleets.views.count_rounds(task.digest)
    opened = sum(count for (kind, phase), count in counts.items() if (kind, phase) == ("train", OPENED))
    return {
        "name": task.name,
        "fleet": task.population,
        "digest": task.digest.hex(),
        "purpose": file.metadata.purpose,
        "state": task.state,
        "reason": task.reason,
        "strategy": file.rounds.strategy,
        "helpers": list(file.parties.helpers),
        "created_at": at(task.created_ms),
        "rounds_planned": file.rounds.count,
        "rounds_done": opened,
        "rounds_given_up": sum(count for (_, phase), count in counts.items() if phase == ABORTED),
        "model": task.model.hex(),
        "budget": spent_view(fleets, task),
    }


def spent_view(fleets: Fleets, task: TaskView) -> dict[str, float] | None:
    """What a device that took part whenever it could has spent, and the most that it may; None without differential privacy."""
    found = fleets.spent(task)
    if found is None:
        return None
    return {"spent": found["epsilon"], "epsilon": found["allowed_epsilon"], "delta": found["delta"]}


def whole_task_view(fleets: Fleets, task: TaskView, newest: int) -> dict[str, Any]:
    rounds = fleets.views.rounds(task.digest, newest)
    return task_view(fleets, task) | {
        "document": task.document,
        "rounds": [round_view(each) for each in rounds],
    }


def round_view(row: RoundView) -> dict[str, Any]:
    """A round with its funnel: how many devices came to each step, and why the others did not."""
    state = read(RoundState, row.state.encode())
    lost = {what: count for what, count in sorted(row.lost.items()) if what not in FUNNEL}
    if state.batches:
        lost["left_out"] = state.taken - sum(batch.reports for batch in state.batches)
        lost["batch_refused"] = sum(batch.reports for batch in state.batches if batch.refused)
    funnel = {what: row.lost.get(what, 0) for what in FUNNEL} | {
        "uploaded": state.taken,
        "counted": state.counted if row.phase == OPENED else 0,
    }
    return {
        "number": row.number,
        "kind": row.kind,
        "phase": row.phase,
        "reason": state.reason,
        "opened_at": at(row.opened_ms),
        "ended_at": None if row.ended_ms is None else at(row.ended_ms),
        "deadline_at": at(state.deadline_ms),
        "target": state.target,
        "least": state.least,
        "batches": len(state.batches),
        "waits_for": waits_for(state),
        "funnel": funnel,
        "lost": {what: count for what, count in lost.items() if count},
        "figures": read_figures(row.figures),
    }


def waits_for(state: RoundState) -> list[int]:
    """Helpers (0, 1) that a round waits for."""
    if state.phase in ENDED:
        return []
    if state.phase == "looking":
        return [helper for helper, done in enumerate(state.looked) if not done]
    return sorted(
        {h for b in state.batches if not b.refused for h, done in enumerate(b.answered) if not done}
    )


def helper_view(card: HelperCard, added_ms: int) -> dict[str, Any]:
    return {
        "name": card.name,
        "address": card.address,
        "fingerprint": shown(card.key),
        "key": card.key.hex(),
        "sealing": card.sealing.hex(),
        "added_at": at(added_ms),
    }
