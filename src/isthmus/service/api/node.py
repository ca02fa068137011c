"""The node itself and its watchers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import PlainTextResponse, Response

import isthmus
from isthmus.base.errors import ConfigError
from isthmus.base.workers import in_thread
from isthmus.service.api.common import BEARER, language
from isthmus.service.doctor import Finding, examine_node, examine_partner
from isthmus.service.metrics import TEXT, Metrics
from isthmus.service.node import Node
from isthmus.service.shapes import PROBLEM_REPLIES, FindingShape, NodeShape, shaped
from isthmus.service.views import rotation_view
from isthmus.wire.envelope import IDLE_MAX_S


def probe_routes(app: FastAPI, node: Node, metrics: Metrics) -> None:
    """For those who watch over the process. `/health` and `/ready` need no token and say nothing but yes or no."""

    @app.get("/health", response_class=PlainTextResponse)
    async def health() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/ready", response_class=PlainTextResponse)
    async def ready() -> PlainTextResponse:
        return PlainTextResponse("ok\n") if node.ready() else PlainTextResponse("not ready\n", 503)

    @app.get("/metrics", response_class=PlainTextResponse, dependencies=BEARER, responses=PROBLEM_REPLIES)
    async def figures() -> Response:
        return Response(metrics.text(), media_type=TEXT)


def node_routes(api: APIRouter, node: Node) -> None:
    @api.get("/node", responses=shaped(NodeShape))
    async def show() -> dict[str, Any]:
        return {
            "party": node.config.party,
            "version": isthmus.__version__,
            "mode": node.config.mode,
            "address": node.config.reached_at,
            "link_port": node.link_port,
            "home": str(node.folder.home),
            **rotation_view(node.keys, node.key.public),
        }

    @api.get("/node/doctor", responses=shaped(list[FindingShape]))
    async def doctor(
        request: Request,
        partner: str | None = None,
        idle_s: Annotated[float, Query(ge=0, le=IDLE_MAX_S, description="How long a silence to try.")] = 0,
    ) -> list[dict[str, Any]]:
        told_in = language(request)
        findings = await in_thread(examine_node, node.folder, told_in)
        if (row := node.keys.row) is not None:
            who = ", ".join(node.keys.waits_for())
            findings.append(Finding("key change", f"{row.until:%Y-%m-%d} · {who}"))
        if node.relay is not None:
            problem = node.relay.problem
            findings.append(
                Finding("relay", node.config.relay or "")
                if problem is None
                else Finding("relay", problem.sentence(told_in), "fail", problem.hint(told_in))
            )
        if partner is not None:
            known = node.store.partner(partner)
            if known is None:
                raise ConfigError(
                    "not_found", what=f"partner {partner[:64]}", list_command="isthmus partner ls"
                )
            if not known.confirmed:
                raise ConfigError("not_confirmed", partner=known.name)
            findings += await examine_partner(node.link, node.rates, known, node.config, told_in, idle_s)
        return [asdict(finding) for finding in findings]
