"""Approvals: the inbox of this party."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from isthmus.base.errors import ConfigError
from isthmus.service.agreement_shapes import ApprovalShape
from isthmus.service.agreement_views import approval_view
from isthmus.service.api.common import ONCE, Body, example
from isthmus.service.api.jobs import AcceptJob
from isthmus.service.node import Node
from isthmus.service.paging import Cursor, Limit, bad_cursor, page, read_cursor
from isthmus.service.shapes import PageShape, shaped
from isthmus.store.agreements import StoredApproval


class Reason(Body):
    """Why; it stays at this party."""

    model_config = example({"reason": "The purpose is not the one of the contract"})

    reason: Annotated[str, Field(max_length=500)] = ""


def approval_routes(api: APIRouter, node: Node) -> None:
    approvals, jobs = node.approvals, node.jobs

    def view(approval: StoredApproval) -> dict[str, Any]:
        job = node.store.job(approval.job)
        try:
            two = job is not None and approvals.four_eyes(job)
        except ConfigError:  # its project is not known here, or over
            two = False
        return approval_view(approval, job, two)

    @api.get("/approvals", responses=shaped(PageShape[ApprovalShape]))
    async def list_approvals(limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        (before,) = read_cursor("approvals", cursor, str) or [None]
        if before is not None and node.store.approval(before) is None:
            raise bad_cursor()
        return page("approvals", node.store.approvals(limit + 1, before), limit, lambda a: [a.id], view)

    @api.get("/approvals/{approval_id}", responses=shaped(ApprovalShape))
    async def show(approval_id: str) -> dict[str, Any]:
        return view(approvals.find(approval_id))

    @api.post("/approvals/{approval_id}/approve", responses=shaped(ApprovalShape), dependencies=ONCE)
    async def approve(approval_id: str, body: AcceptJob | None = None) -> dict[str, Any]:
        """The same as to accept the job; `grant` as there."""
        await jobs.accept(approvals.find(approval_id).job, body is not None and body.grant)
        return view(approvals.find(approval_id))

    @api.post("/approvals/{approval_id}/refuse", responses=shaped(ApprovalShape), dependencies=ONCE)
    async def refuse(approval_id: str, body: Reason) -> dict[str, Any]:
        jobs.refuse(approvals.find(approval_id).job, body.reason)
        return view(approvals.find(approval_id))
