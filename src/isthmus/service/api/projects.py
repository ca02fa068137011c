"""Projects: made, grown, archived."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from isthmus.service.agreement_shapes import ProjectShape
from isthmus.service.agreement_views import project_view
from isthmus.service.api.common import ONCE, Body, example
from isthmus.service.node import Node
from isthmus.service.paging import Cursor, Limit, page, read_cursor
from isthmus.service.shapes import PageShape, shaped

_Name = Annotated[str, Field(max_length=80)]


class NewProject(Body):
    model_config = example(
        {
            "name": "card-2026",
            "purpose": "Joint models for card applicants in 2026",
            "parties": ["data-co"],
            "four_eyes": True,
        }
    )

    name: _Name
    purpose: Annotated[str, Field(max_length=500)]
    parties: Annotated[list[_Name], Field(max_length=49)] = Field(default_factory=list)
    four_eyes: bool = False


class InvitedParty(Body):
    model_config = example({"party": "data-co"})

    party: _Name


def project_routes(api: APIRouter, node: Node) -> None:
    projects = node.projects

    @api.get("/projects", responses=shaped(PageShape[ProjectShape]))
    async def list_projects(limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        (after,) = read_cursor("projects", cursor, str) or [""]
        found = node.store.projects(after, limit + 1)
        return page("projects", found, limit, lambda p: [p.name], project_view)

    @api.post("/projects", responses=shaped(ProjectShape), dependencies=ONCE)
    async def new(body: NewProject) -> dict[str, Any]:
        return project_view(projects.new(body.name, body.purpose, body.parties, body.four_eyes))

    @api.get("/projects/{name}", responses=shaped(ProjectShape))
    async def show(name: str) -> dict[str, Any]:
        return project_view(projects.find(name))

    @api.post("/projects/{name}/invite", responses=shaped(ProjectShape), dependencies=ONCE)
    async def invite(name: str, body: InvitedParty) -> dict[str, Any]:
        return project_view(projects.invite(name, body.party))

    @api.post("/projects/{name}/archive", responses=shaped(ProjectShape), dependencies=ONCE)
    async def archive(name: str) -> dict[str, Any]:
        return project_view(projects.archive(name))
