"""Fleets, their devices, tasks and releases, and the helpers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field

from isthmus.service.api.common import ONCE, Body, example, language
from isthmus.service.fleet_plan import plan_view
from isthmus.service.fleet_shapes import (
    DeviceShape,
    FleetPlanShape,
    FleetShape,
    FleetTaskShape,
    HelperShape,
    ReleaseShape,
    WholeFleetTaskShape,
)
from isthmus.service.fleet_views import (
    device_view,
    fleet_view,
    helper_view,
    release_view,
    task_view,
    whole_task_view,
)
from isthmus.service.fleets import DELTA_MAX, EPSILON_MAX
from isthmus.service.node import Node
from isthmus.service.paging import Cursor, Limit, bad_cursor, page, read_cursor
from isthmus.service.shapes import PageShape, shaped

_Name = Annotated[str, Field(max_length=80)]
_Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Document = Annotated[str, Field(max_length=256 * 1024)]


class NewFleet(Body):
    """`authority`: public key of the app's sign-in. `epsilon`, `delta`: what all tasks together may cost one device."""

    model_config = example({"name": "album-phones", "authority": "5f" * 32, "epsilon": 8.0, "delta": 1e-6})

    name: _Name
    authority: _Key
    epsilon: Annotated[float, Field(gt=0, le=EPSILON_MAX)] = 8.0
    delta: Annotated[float, Field(gt=0, le=DELTA_MAX)] = 1e-6


class KillSwitch(Body):
    model_config = example({"undo": False})

    undo: bool = False


class BlockedDevice(Body):
    model_config = example({"device": "5f" * 32})

    device: _Key


class RolloutMove(Body):
    """`next`: to the next share of the devices, at once. `back`: to the model before."""

    model_config = example({"move": "next"})

    move: Literal["next", "back"]


class FleetTaskText(Body):
    """A task file, YAML or JSON."""

    model_config = example({"document": "apiVersion: isthmus/v1\nkind: FleetTask\n..."})

    document: _Document


class HelperCardText(Body):
    """The card that a helper prints: `isthmus helper card`."""

    model_config = example({"card": "{...}"})

    card: Annotated[str, Field(max_length=16 * 1024)]


def fleet_routes(api: APIRouter, node: Node) -> None:
    fleets = node.fleets

    @api.get("/fleets", responses=shaped(PageShape[FleetShape]))
    async def list_fleets(limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        (after,) = read_cursor("fleets", cursor, str) or [""]
        found = [each for each in fleets.all() if each.name > after][: limit + 1]
        return page("fleets", found, limit, lambda f: [f.name], lambda f: fleet_view(fleets, f))

    @api.post("/fleets", responses=shaped(FleetShape), dependencies=ONCE)
    async def new(body: NewFleet) -> dict[str, Any]:
        made = fleets.new(body.name, bytes.fromhex(body.authority), body.epsilon, body.delta)
        return fleet_view(fleets, made)

    @api.get("/fleets/{name}", responses=shaped(FleetShape))
    async def show(name: str) -> dict[str, Any]:
        return fleet_view(fleets, fleets.find(name))

    @api.post("/fleets/{name}/kill", responses=shaped(FleetShape), dependencies=ONCE)
    async def kill(name: str, body: KillSwitch | None = None) -> dict[str, Any]:
        """No device is offered work any more and open rounds are given up, until it is undone."""
        return fleet_view(fleets, fleets.kill(name, body is not None and body.undo))

    @api.get("/fleets/{name}/devices", responses=shaped(PageShape[DeviceShape]))
    async def devices(
        name: str,
        limit: Limit = 50,
        cursor: Cursor = None,
        device: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$", description="This key alone.")] = None,
    ) -> dict[str, Any]:
        fleets.find(name)
        (after,) = read_cursor("devices", cursor, str) or [""]
        key = bytes.fromhex(device) if device else None
        found = fleets.views.devices(name, _place(after), limit + 1, key)
        return page("devices", found, limit, lambda d: [d.key.hex()], device_view)

    @api.post("/fleets/{name}/block", responses=shaped(DeviceShape), dependencies=ONCE)
    async def block(name: str, body: BlockedDevice) -> dict[str, Any]:
        """The device is no longer spoken to; its key does not come back."""
        key = bytes.fromhex(body.device)
        fleets.block(name, key)
        return device_view(fleets.views.devices(name, key=key)[0])

    @api.get("/fleets/{name}/releases", responses=shaped(PageShape[ReleaseShape]))
    async def releases(name: str, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        """Newest first."""
        fleets.find(name)
        (before,) = read_cursor("releases", cursor, int) or [2**62]
        found = fleets.views.releases(name, before, limit + 1)
        covered = fleets.covered(name)
        return page(
            "releases", found, limit, lambda r: [r.number], lambda r: release_view(fleets, name, r, covered)
        )

    @api.post("/fleets/{name}/rollout", responses=shaped(ReleaseShape), dependencies=ONCE)
    async def move(name: str, body: RolloutMove) -> dict[str, Any]:
        moved = fleets.roll_out(name) if body.move == "next" else fleets.roll_back(name)
        return release_view(fleets, name, moved, 0)

    @api.post("/fleets/{name}/tasks/plan", responses=shaped(FleetPlanShape))
    async def plan(request: Request, name: str, body: FleetTaskText) -> dict[str, Any]:
        """What a task will do and cost; nothing is kept."""
        return plan_view(fleets.plan(name, body.document.encode()), language(request))

    @api.post("/fleets/{name}/tasks", responses=shaped(FleetTaskShape), dependencies=ONCE)
    async def start(name: str, body: FleetTaskText) -> dict[str, Any]:
        """Signs the task and sets its privacy aside; the leader opens its first round."""
        return task_view(fleets, fleets.start(name, body.document.encode()))

    @api.get("/fleets/{name}/tasks", responses=shaped(PageShape[FleetTaskShape]))
    async def tasks(name: str, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        """Newest first."""
        fleets.find(name)
        (before,) = read_cursor("fleet-tasks", cursor, int) or [2**62]
        found = fleets.views.tasks(name, before, limit + 1)
        return page("fleet-tasks", found, limit, lambda t: [t.place], lambda t: task_view(fleets, t))

    @api.get("/fleets/{name}/tasks/{task}", responses=shaped(WholeFleetTaskShape))
    async def task_of(
        name: str,
        task: str,
        rounds: Annotated[int, Query(ge=0, le=1000, description="How many of the newest rounds.")] = 50,
    ) -> dict[str, Any]:
        return whole_task_view(fleets, fleets.task(name, task), rounds)

    @api.post("/fleets/{name}/tasks/{task}/stop", responses=shaped(FleetTaskShape), dependencies=ONCE)
    async def stop(name: str, task: str) -> dict[str, Any]:
        """Ends a task: open rounds are given up, what was released stays."""
        return task_view(fleets, fleets.stop(name, task))

    @api.get("/helpers", responses=shaped(PageShape[HelperShape]))
    async def helpers(limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        (after,) = read_cursor("helpers", cursor, str) or [""]
        found = [each for each in fleets.helpers() if each[0].name > after][: limit + 1]
        return page("helpers", found, limit, lambda h: [h[0].name], lambda h: helper_view(*h))

    @api.post("/helpers", responses=shaped(HelperShape), dependencies=ONCE)
    async def add_helper(body: HelperCardText) -> dict[str, Any]:
        """A card given again takes the place of the old one."""
        return helper_view(fleets.add_helper(body.card), fleets.now_ms)


def _place(after: str) -> bytes:
    try:
        return bytes.fromhex(after)
    except ValueError:
        raise bad_cursor() from None
