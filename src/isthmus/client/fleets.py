"""What the client asks of a node about fleets, their tasks, and helpers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Any, TypedDict
from urllib.parse import quote


class ReleaseView(TypedDict):
    """A model that devices use, and the share of them that has it."""

    number: int
    task: str
    model: str
    state: str
    share: float
    step: int
    steps: int
    since: str
    figures: dict[str, Any]


class FleetView(TypedDict):
    """A fleet; `app` is what goes into the app."""

    name: str
    stopped: bool
    authority: str
    created_at: str
    devices: int
    versions: dict[str, int]
    tasks: dict[str, int]
    rounds: dict[str, int]
    budget: dict[str, float]
    release: ReleaseView | None
    leader_running: bool
    app: dict[str, Any] | None


class DeviceView(TypedDict):
    key: str
    app_version: str
    enrolled_at: str
    ticket_until: str
    blocked: bool


class RoundView(TypedDict):
    """A round: `funnel` counts devices that came so far, `lost` those that did not, by reason."""

    number: int
    kind: str
    phase: str
    reason: str
    opened_at: str
    ended_at: str | None
    deadline_at: str
    target: int
    least: int
    batches: int
    waits_for: list[int]
    funnel: dict[str, int]
    lost: dict[str, int]
    figures: dict[str, Any]


class FleetTaskView(TypedDict, total=False):
    """A task; `document` and `rounds` only where one task is shown."""

    name: str
    fleet: str
    digest: str
    purpose: str
    state: str
    reason: str
    strategy: str
    helpers: list[str]
    created_at: str
    rounds_planned: int
    rounds_done: int
    rounds_given_up: int
    model: str
    budget: dict[str, float] | None
    document: str
    rounds: list[RoundView]


class FleetPlanView(TypedDict):
    """What a task will do, and what is in its way."""

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
    noise_std: float
    epsilon: float | None
    delta: float | None
    budget: dict[str, float]
    learns: list[dict[str, str]]
    obstacles: list[dict[str, Any]]


class HelperView(TypedDict):
    name: str
    address: str
    fingerprint: str
    key: str
    sealing: str
    added_at: str


class FleetCalls(ABC):
    """A part of `Client`."""

    def fleets(self) -> list[FleetView]:
        return list(self._all("/fleets"))

    def fleet(self, name: str) -> FleetView:
        fleet: FleetView = self._call("GET", _at(name))
        return fleet

    def new_fleet(self, name: str, authority: str, epsilon: float, delta: float) -> FleetView:
        body = {"name": name, "authority": authority, "epsilon": epsilon, "delta": delta}
        fleet: FleetView = self._call("POST", "/fleets", body)
        return fleet

    def kill_fleet(self, name: str, undo: bool = False) -> FleetView:
        fleet: FleetView = self._call("POST", _at(name, "kill"), {"undo": undo})
        return fleet

    def devices(self, name: str, limit: int = 50, device: str | None = None) -> list[DeviceView]:
        return list(islice(self._all(_at(name, "devices"), {"device": device} if device else None), limit))

    def block_device(self, name: str, device: str) -> DeviceView:
        blocked: DeviceView = self._call("POST", _at(name, "block"), {"device": device})
        return blocked

    def releases(self, name: str, limit: int = 50) -> list[ReleaseView]:
        return list(islice(self._all(_at(name, "releases")), limit))

    def move_rollout(self, name: str, move: str) -> ReleaseView:
        """`move`: next or back."""
        moved: ReleaseView = self._call("POST", _at(name, "rollout"), {"move": move})
        return moved

    def plan_task(self, name: str, document: str) -> FleetPlanView:
        plan: FleetPlanView = self._call("POST", _at(name, "tasks", "plan"), {"document": document})
        return plan

    def start_task(self, name: str, document: str) -> FleetTaskView:
        started: FleetTaskView = self._call("POST", _at(name, "tasks"), {"document": document})
        return started

    def tasks(self, name: str, limit: int = 50) -> list[FleetTaskView]:
        return list(islice(self._all(_at(name, "tasks")), limit))

    def task(self, name: str, task: str, rounds: int = 50) -> FleetTaskView:
        shown: FleetTaskView = self._call("GET", _at(name, "tasks", task), query={"rounds": str(rounds)})
        return shown

    def stop_task(self, name: str, task: str) -> FleetTaskView:
        stopped: FleetTaskView = self._call("POST", _at(name, "tasks", task, "stop"))
        return stopped

    def helpers(self) -> list[HelperView]:
        return list(self._all("/helpers"))

    def add_helper(self, card: str) -> HelperView:
        added: HelperView = self._call("POST", "/helpers", {"card": card})
        return added

    @abstractmethod
    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, str] | None = None
    ) -> Any: ...

    @abstractmethod
    def _all(self, path: str, query: dict[str, str] | None = None) -> Iterator[Any]: ...


def _at(*parts: str) -> str:
    return "/".join(("/fleets", *(quote(part, "") for part in parts)))
