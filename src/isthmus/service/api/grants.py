"""Grants: asked for, given, refused, revoked."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from isthmus.jobs.grant_terms import OwnColumns, made
from isthmus.service.agreement_shapes import GrantShape
from isthmus.service.agreement_views import grant_view
from isthmus.service.api.common import ONCE, Body, example
from isthmus.service.node import Node
from isthmus.service.paging import Cursor, Limit, bad_cursor, page, read_cursor
from isthmus.service.shapes import PageShape, shaped
from isthmus.store.agreements import StoredGrant

_Name = Annotated[str, Field(max_length=80)]
_Words = Annotated[str, Field(max_length=500)]
_Count = Annotated[int, Field(ge=0, le=2**31)]
_Patterns = Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=10_000)]
_Aliases = Annotated[
    dict[Annotated[str, Field(max_length=256)], Annotated[str, Field(max_length=256)]], Field(max_length=500)
]
_PURPOSE = "Rank card holders by the chance of missing the payment of the next month"


class AskGrant(Body):
    """What this party would like to do with a dataset of a partner."""

    model_config = example(
        {"holder": "data-co", "dataset": "habits", "purpose": _PURPOSE, "until": "2099-05-31", "runs": 10}
    )

    holder: _Name
    dataset: _Name
    purpose: _Words
    until: _Name
    runs: _Count = 1
    min_rows: _Count = 1000
    operations: list[_Name] = Field(default=["align", "train"], max_length=3)


class GiveTerms(Body):
    """The terms of a grant. What is left out is as asked for, or a default."""

    model_config = example({"runs": 5, "include": ["late_*"], "aliases": {"late_12m": "repayment-1"}})

    dataset: _Name | None = None
    purpose: _Words | None = None
    until: _Name | None = None
    runs: _Count | None = None
    runs_30d: _Count | None = None
    min_rows: _Count | None = None
    partner_rows_max: _Count | None = None
    min_change: _Count | None = None
    operations: Annotated[list[_Name], Field(max_length=3)] | None = None
    include: _Patterns = Field(default_factory=lambda: ["*"])
    exclude: _Patterns = Field(default_factory=list)
    aliases: _Aliases = Field(default_factory=dict)

    def terms(self) -> dict[str, Any]:
        return self.model_dump(exclude={"include", "exclude", "aliases", "partner"})

    def columns(self) -> OwnColumns:
        own: OwnColumns = made(OwnColumns, include=self.include, exclude=self.exclude, aliases=self.aliases)
        return own


class GiveGrant(GiveTerms):
    """A grant to a partner that did not ask."""

    model_config = example(
        {"partner": "river-bank", "dataset": "habits", "purpose": _PURPOSE, "until": "2099-05-31", "runs": 10}
    )

    partner: _Name


def grant_routes(api: APIRouter, node: Node) -> None:
    grants = node.grants

    def view(grant: StoredGrant) -> dict[str, Any]:
        return grant_view(grant, grants, node.clock)

    @api.get("/grants", responses=shaped(PageShape[GrantShape]))
    async def list_grants(limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        """Newest first: those given here, those given to this party, and requests."""
        (before,) = read_cursor("grants", cursor, str) or [None]
        if before is not None and node.store.grant(before) is None:
            raise bad_cursor()
        return page("grants", node.store.grants(limit + 1, before), limit, lambda g: [g.id], view)

    @api.post("/grants", responses=shaped(GrantShape), dependencies=ONCE)
    async def give(body: GiveGrant) -> dict[str, Any]:
        return view(grants.give(body.partner, columns=body.columns(), **body.terms()))

    @api.post("/grants/ask", responses=shaped(GrantShape), dependencies=ONCE)
    async def ask(body: AskGrant) -> dict[str, Any]:
        return view(grants.ask(body.holder, **body.model_dump(exclude={"holder"})))

    @api.get("/grants/{grant_id}", responses=shaped(GrantShape))
    async def show(grant_id: str) -> dict[str, Any]:
        return view(grants.find(grant_id))

    @api.post("/grants/{grant_id}/give", responses=shaped(GrantShape), dependencies=ONCE)
    async def answer(grant_id: str, body: GiveTerms) -> dict[str, Any]:
        """Gives what a partner asked for, or less."""
        return view(grants.give(ask=grant_id, columns=body.columns(), **body.terms()))

    @api.post("/grants/{grant_id}/refuse", responses=shaped(GrantShape), dependencies=ONCE)
    async def refuse(grant_id: str) -> dict[str, Any]:
        return view(grants.refuse(grant_id))

    @api.post("/grants/{grant_id}/revoke", responses=shaped(GrantShape), dependencies=ONCE)
    async def revoke(grant_id: str) -> dict[str, Any]:
        """Takes a grant back: what runs under it stops at its next step."""
        return view(grants.revoke(grant_id))
