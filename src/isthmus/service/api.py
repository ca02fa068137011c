"""The HTTP interface of a node, on loopback: every request passes the gate, which asks for the token."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Security
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

import isthmus
from isthmus.base.errors import ConfigError
from isthmus.jobs.document import MAX_BYTES
from isthmus.jobs.spec import JobFile, parse_job
from isthmus.service.datasets import columns_in
from isthmus.service.doctor import examine_node, examine_partner
from isthmus.service.gate import Gate, Limits
from isthmus.service.metrics import TEXT, Counted, Metrics
from isthmus.service.node import Node
from isthmus.service.once import Once
from isthmus.service.paging import LIMIT_MAX, Cursor, Limit, bad_cursor, page, read_cursor
from isthmus.service.problems import add_handlers, language_of
from isthmus.service.shapes import (
    PROBLEM_REPLIES,
    AcceptedShape,
    AuditHeadsShape,
    AuditPageShape,
    DatasetShape,
    EventShape,
    FindingShape,
    JobShape,
    LineShape,
    NodeShape,
    PageShape,
    PartnerShape,
    PlanShape,
    ProblemShape,
    shaped,
)
from isthmus.service.stream import Streams
from isthmus.service.views import dataset_view, event_view, job_view, kept_head_view, partner_view, plan_view
from isthmus.store.records import StoredJob, StoredPartner
from isthmus.table import IdForm


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _example(body: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [body]})


def _key(
    idempotency_key: Annotated[
        str | None,
        Header(description="Sent again under the same key within 24 hours, the request acts once."),
    ] = None,
) -> None:
    """Names the header in the OpenAPI document; `Once` reads it before any route does."""


ONCE = [Depends(_key)]
# For the OpenAPI document; it is the gate that asks.
BEARER = [Security(HTTPBearer(auto_error=False))]


class TokenLine(_Body):
    """An invitation or a reply, one line."""

    model_config = _example({"line": "isthmus-invite-1.eyJ..."})

    line: Annotated[str, Field(max_length=16 * 1024)]


class FourWords(_Body):
    model_config = _example({"words": ["babad", "babaf", "babag", "babah"]})

    words: Annotated[list[Annotated[str, Field(max_length=16)]], Field(min_length=4, max_length=4)]


class NewDataset(_Body):
    """How to read a table; as in `table.ReadOptions`."""

    model_config = _example(
        {
            "name": "applicants",
            "path": "/data/applicants.csv",
            "key": "phone",
            "form": "phone-cn",
            "label": "bad",
        }
    )

    name: Annotated[str, Field(max_length=64)]
    path: Annotated[str, Field(max_length=4096)]
    key: Annotated[str, Field(max_length=256)]
    form: IdForm = "none"
    label: Annotated[str, Field(max_length=256)] | None = None
    positive: Annotated[str, Field(max_length=256)] | None = None
    objective: Literal["binary", "regression"] = "binary"
    duplicates: Literal["refuse", "first", "last"] = "refuse"
    encoding: Annotated[str, Field(max_length=32)] = "utf-8"
    delimiter: Annotated[str, Field(max_length=4)] | None = None
    missing: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=20)] = []


class JobText(_Body):
    """A job file as text, YAML or JSON; how many columns a partner has whose columns nobody named."""

    model_config = _example({"document": "apiVersion: isthmus/v1\nkind: Job\n..."})

    document: Annotated[str, Field(max_length=MAX_BYTES)]
    assume: Annotated[int, Field(ge=1, le=100_000)] | None = None


class NewJob(JobText):
    """A job file; where the split is by ids, also the file that lists them."""

    model_config = _example(
        {"document": "apiVersion: isthmus/v1\nkind: Job\n...", "test_ids_path": "/data/test-ids.csv"}
    )

    test_ids_path: Annotated[str, Field(max_length=4096)] | None = None


def make_app(node: Node, token: str, limits: Limits | None = None) -> FastAPI:
    """The application of one node."""
    app = FastAPI(title="Isthmus", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.node = node
    api = APIRouter(prefix="/api/v1", dependencies=BEARER, responses=PROBLEM_REPLIES)

    @api.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        document = app.openapi()
        schemas = document["components"]["schemas"]
        schemas["ProblemShape"] = ProblemShape.model_json_schema(mode="serialization")
        return document

    _node_routes(api, node)
    _partner_routes(api, node)
    _dataset_routes(api, node)
    streams = Streams(node.config.party, node.jobs, node.store, node.clock)
    app.state.streams = streams
    _job_routes(api, node, streams)
    _audit_routes(api, node)
    app.include_router(api)
    metrics = Metrics(node)
    _probe_routes(app, node, metrics)
    add_handlers(app, node.config.party)
    # The last one added is the first to see a request.
    app.add_middleware(Once, store=node.store, clock=node.clock, party=node.config.party)
    limits = limits or Limits()
    app.add_middleware(Gate, token=token, party=node.config.party, clock=node.clock, limits=limits)
    app.add_middleware(Counted, metrics=metrics, clock=node.clock)
    return app


def _probe_routes(app: FastAPI, node: Node, metrics: Metrics) -> None:
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


def _node_routes(api: APIRouter, node: Node) -> None:
    @api.get("/node", responses=shaped(NodeShape))
    async def show() -> dict[str, Any]:
        return {
            "party": node.config.party,
            "version": isthmus.__version__,
            "mode": node.config.mode,
            "address": node.config.address,
            "link_port": node.link_port,
            "home": str(node.folder.home),
        }

    @api.get("/node/doctor", responses=shaped(list[FindingShape]))
    async def doctor(request: Request, partner: str | None = None) -> list[dict[str, Any]]:
        language = _language(request)
        findings = examine_node(node.folder, language)
        if partner is not None:
            known = node.store.partner(partner)
            if known is None:
                raise ConfigError(
                    "not_found", what=f"partner {partner[:64]}", list_command="isthmus partner ls"
                )
            if not known.confirmed:
                raise ConfigError("not_confirmed", partner=known.name)
            findings += await examine_partner(node.link, known.name, language, node.measured)
        return [asdict(finding) for finding in findings]


def _partner_routes(api: APIRouter, node: Node) -> None:
    @api.get("/partners", responses=shaped(PageShape[PartnerShape]))
    async def partners(request: Request, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        (after,) = read_cursor("partners", cursor, str) or [""]

        def view(partner: StoredPartner) -> dict[str, Any]:
            state = node.link.state(partner.name) if partner.confirmed else None
            return partner_view(partner, state, _language(request))

        return page("partners", node.store.partners(after, limit + 1), limit, lambda p: [p.name], view)

    @api.post("/partners/invite", responses=shaped(LineShape), dependencies=ONCE)
    async def invite() -> dict[str, str]:
        return {"line": node.partners.invite()}

    @api.post("/partners/accept", responses=shaped(AcceptedShape), dependencies=ONCE)
    async def accept(request: Request, body: TokenLine) -> dict[str, Any]:
        partner, reply = await node.partners.accept(body.line)
        return {**partner_view(partner, None, _language(request)), "reply": reply}

    @api.post("/partners/{name}/confirm", responses=shaped(PartnerShape), dependencies=ONCE)
    async def confirm(request: Request, name: str, body: FourWords) -> dict[str, Any]:
        return partner_view(node.partners.confirm(name, body.words), None, _language(request))


def _dataset_routes(api: APIRouter, node: Node) -> None:
    @api.get("/datasets", responses=shaped(PageShape[DatasetShape]))
    async def datasets(limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        name, version = read_cursor("datasets", cursor, str, int) or ["", 0]
        found = node.store.datasets((name, version), limit + 1)
        return page("datasets", found, limit, lambda d: [d.name, d.version], dataset_view)

    @api.post("/datasets", responses=shaped(DatasetShape), dependencies=ONCE)
    async def add(body: NewDataset) -> dict[str, Any]:
        given = body.model_dump()
        given["missing"] = tuple(body.missing)
        return dataset_view(
            await node.datasets.add(given.pop("name"), given.pop("path"), **given), whole=True
        )

    @api.get("/datasets/{title}", responses=shaped(DatasetShape))
    async def dataset(title: str) -> dict[str, Any]:
        return dataset_view(node.datasets.find(title), whole=True)


def _job_routes(api: APIRouter, node: Node, streams: Streams) -> None:
    jobs, own = node.jobs, node.config.party

    def view(job: StoredJob, request: Request) -> dict[str, Any]:
        folder = str(node.folder.job(job.id))
        return job_view(job, node.store.answers(job.id), jobs.step(job.id), folder, _language(request))

    def own_columns(job: JobFile) -> list[str] | None:
        if own not in job.inputs:
            return None
        try:
            return columns_in(job, own, node.datasets.find(job.inputs[own].dataset))
        except ConfigError:
            return None

    @api.get("/jobs", responses=shaped(PageShape[JobShape]))
    async def list_jobs(request: Request, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        (before,) = read_cursor("jobs", cursor, str) or [None]
        if before is not None and node.store.job(before) is None:
            raise bad_cursor()
        found = node.store.jobs(limit + 1, before)
        return page("jobs", found, limit, lambda job: [job.id], lambda job: view(job, request))

    @api.post("/jobs", responses=shaped(JobShape), dependencies=ONCE)
    async def propose(request: Request, body: NewJob) -> dict[str, Any]:
        return view(await jobs.propose(body.document.encode(), body.test_ids_path, body.assume), request)

    @api.post("/jobs/plan", responses=shaped(PlanShape))
    async def plan(request: Request, body: JobText) -> dict[str, Any]:
        made = jobs.plan(body.document.encode(), body.assume)
        return plan_view(made, _language(request), own_columns(parse_job(made.resolved)))

    @api.get("/jobs/{job_id}", responses=shaped(JobShape))
    async def show(request: Request, job_id: str) -> dict[str, Any]:
        return view(jobs.find(job_id), request)

    @api.get("/jobs/{job_id}/plan", responses=shaped(PlanShape))
    async def plan_of(request: Request, job_id: str) -> dict[str, Any]:
        made = jobs.plan_of(jobs.find(job_id))
        return plan_view(made, _language(request), own_columns(parse_job(made.resolved)))

    @api.get("/jobs/{job_id}/events", response_model=None, responses=shaped(PageShape[EventShape]))
    async def events(
        request: Request,
        job_id: str,
        after: Annotated[int, Query(ge=0, lt=2**63, description="The id of the last event seen.")] = 0,
        limit: Limit = LIMIT_MAX,
        cursor: Cursor = None,
        heartbeat_s: Annotated[int, Query(ge=1, le=60, description="Streams: the longest silence.")] = 15,
        last_event_id: Annotated[int | None, Header(ge=0, lt=2**63)] = None,
    ) -> dict[str, Any] | StreamingResponse:
        """A page of events; as a stream where `Accept` asks for `text/event-stream`."""
        job = jobs.find(job_id)
        if "text/event-stream" in request.headers.get("accept", ""):
            streams.check_room()
            since = after if last_event_id is None else last_event_id
            told = streams.follow(job.id, since, heartbeat_s)
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            return StreamingResponse(told, media_type="text/event-stream", headers=headers)
        (last,) = read_cursor("events", cursor, int) or [after]
        found = node.store.events(job.id, last, limit + 1)
        return page("events", found, limit, lambda e: [e.id], lambda e: event_view(e, own))

    @api.post("/jobs/{job_id}/accept", responses=shaped(JobShape), dependencies=ONCE)
    async def accept(request: Request, job_id: str) -> dict[str, Any]:
        return view(await jobs.accept(job_id), request)

    @api.post("/jobs/{job_id}/refuse", responses=shaped(JobShape), dependencies=ONCE)
    async def refuse(request: Request, job_id: str) -> dict[str, Any]:
        return view(jobs.refuse(job_id), request)


def _audit_routes(api: APIRouter, node: Node) -> None:
    @api.get("/audit", responses=shaped(AuditPageShape))
    async def lines(
        cursor: Annotated[int, Query(ge=0, lt=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 500,
        since: AwareDatetime | None = None,
    ) -> dict[str, Any]:
        found = node.store.audit(cursor, limit, since and since.astimezone(UTC))
        return {
            "lines": [asdict(line) for line in found],
            "next": found[-1].number if len(found) == limit else None,
        }

    @api.get("/audit/heads", responses=shaped(AuditHeadsShape))
    async def heads() -> dict[str, Any]:
        keys = {node.config.party: node.public_key} | {p.name: p.public_key for p in node.store.partners()}
        return {
            "party": node.config.party,
            "keys": {name: key.hex() for name, key in keys.items()},
            "heads": [kept_head_view(kept) for kept in node.store.heads()],
        }


def _language(request: Request) -> str:
    return language_of(request.headers)
