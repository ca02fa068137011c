"""The HTTP interface of a node, on loopback: every request passes the gate, which asks for the token."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI

from isthmus.service.api.approvals import approval_routes
from isthmus.service.api.audit import audit_routes
from isthmus.service.api.backup import backup_routes
from isthmus.service.api.common import BEARER
from isthmus.service.api.datasets import dataset_routes
from isthmus.service.api.fleets import fleet_routes
from isthmus.service.api.grants import grant_routes
from isthmus.service.api.jobs import job_routes
from isthmus.service.api.node import node_routes, probe_routes
from isthmus.service.api.partners import partner_routes
from isthmus.service.api.projects import project_routes
from isthmus.service.api.users import user_routes
from isthmus.service.gate import Gate
from isthmus.service.metrics import Counted, Metrics
from isthmus.service.node import Node
from isthmus.service.once import Once
from isthmus.service.problems import Told, add_handlers
from isthmus.service.shapes import PROBLEM_REPLIES, ProblemShape
from isthmus.service.stream import Streams
from isthmus.store.settings import Limits


def make_app(node: Node, token: str | None, limits: Limits | None = None) -> FastAPI:
    """The application of one node. `token` is that of the folder, None where it opens nothing."""
    app = FastAPI(title="Isthmus", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.node = node
    api = APIRouter(prefix="/api/v1", dependencies=BEARER, responses=PROBLEM_REPLIES)

    @api.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        document = app.openapi()
        schemas = document["components"]["schemas"]
        schemas["ProblemShape"] = ProblemShape.model_json_schema(mode="serialization")
        return document

    node_routes(api, node)
    partner_routes(api, node)
    dataset_routes(api, node)
    streams = Streams(node.config.party, node.jobs, node.store, node.clock)
    app.state.streams = streams
    job_routes(api, node, streams)
    grant_routes(api, node)
    project_routes(api, node)
    approval_routes(api, node)
    fleet_routes(api, node)
    audit_routes(api, node)
    backup_routes(api, node)
    user_routes(api, node)
    app.include_router(api)
    metrics = Metrics(node)
    probe_routes(app, node, metrics)
    add_handlers(app, node.config.party)
    # The last one added is the first to see a request.
    app.add_middleware(Once, store=node.store, vault=node.vault, clock=node.clock, party=node.config.party)
    app.add_middleware(
        Gate,
        token=token,
        users=node.users,
        audit=node.audit,
        party=node.config.party,
        clock=node.clock,
        limits=limits or node.config.limits,
    )
    app.add_middleware(Told, party=node.config.party)
    app.add_middleware(Counted, metrics=metrics, clock=node.clock)
    return app
