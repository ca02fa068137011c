"""Partners: invited, accepted, confirmed."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from isthmus.service.api.common import ONCE, Body, example, language
from isthmus.service.node import Node
from isthmus.service.paging import Cursor, Limit, page, read_cursor
from isthmus.service.shapes import AcceptedShape, LineShape, PageShape, PartnerShape, RotationShape, shaped
from isthmus.service.views import partner_view, rotation_view
from isthmus.store.records import StoredPartner


class TokenLine(Body):
    """An invitation or a reply, one line."""

    model_config = example({"line": "isthmus-invite-1.eyJ..."})

    line: Annotated[str, Field(max_length=16 * 1024)]


class FourWords(Body):
    model_config = example({"words": ["babad", "babaf", "babag", "babah"]})

    words: Annotated[list[Annotated[str, Field(max_length=16)]], Field(min_length=4, max_length=4)]


class Overlap(Body):
    """For how many days the old key counts beside the new one, for partners that are away."""

    model_config = example({"overlap_days": 7})

    overlap_days: Annotated[int, Field(ge=1, le=90)] = 7


def partner_routes(api: APIRouter, node: Node) -> None:
    @api.get("/partners", responses=shaped(PageShape[PartnerShape]))
    async def partners(request: Request, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        (after,) = read_cursor("partners", cursor, str) or [""]

        def view(partner: StoredPartner) -> dict[str, Any]:
            state = node.link.state(partner.name) if partner.confirmed else None
            pinned = [k.public_key for k in node.store.known_keys(partner.name) if k.state == "next"]
            return partner_view(partner, state, language(request), pinned[0] if pinned else None)

        return page("partners", node.store.partners(after, limit + 1), limit, lambda p: [p.name], view)

    @api.post("/partners/invite", responses=shaped(LineShape), dependencies=ONCE)
    async def invite() -> dict[str, str]:
        return {"line": node.partners.invite()}

    @api.post("/partners/rotate", responses=shaped(RotationShape), dependencies=ONCE)
    async def rotate(body: Overlap) -> dict[str, Any]:
        node.fleets.check_no_fleet()
        node.keys.rotate(timedelta(days=body.overlap_days))
        return rotation_view(node.keys, node.key.public)

    @api.post("/partners/{name}/revoke", responses=shaped(PartnerShape), dependencies=ONCE)
    async def revoke(request: Request, name: str) -> dict[str, Any]:
        return partner_view(node.partners.revoke(name), None, language(request))

    @api.post("/partners/accept", responses=shaped(AcceptedShape), dependencies=ONCE)
    async def accept(request: Request, body: TokenLine) -> dict[str, Any]:
        partner, reply = await node.partners.accept(body.line)
        return {**partner_view(partner, None, language(request)), "reply": reply}

    @api.post("/partners/{name}/confirm", responses=shaped(PartnerShape), dependencies=ONCE)
    async def confirm(request: Request, name: str, body: FourWords) -> dict[str, Any]:
        return partner_view(node.partners.confirm(name, body.words), None, language(request))
