"""The HTTP interface of a node, on loopback: every route stands in one router that asks for the token."""

from __future__ import annotations

import hmac
from dataclasses import asdict
from datetime import UTC
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

import isthmus
from isthmus.base.errors import ConfigError, DataError, IsthmusError, LocalError, PolicyError
from isthmus.jobs.document import MAX_BYTES
from isthmus.jobs.spec import JobFile, parse_job
from isthmus.service.datasets import columns_in
from isthmus.service.doctor import examine_node, examine_partner
from isthmus.service.node import Node
from isthmus.service.views import dataset_view, job_view, kept_head_view, partner_view, plan_view, problem
from isthmus.store.records import StoredJob
from isthmus.table import IdForm

BODY_MAX_BYTES = 4 * 2**20
PROBLEM = "application/problem+json"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TokenLine(_Body):
    """An invitation or a reply, one line."""

    line: Annotated[str, Field(max_length=16 * 1024)]


class FourWords(_Body):
    words: Annotated[list[Annotated[str, Field(max_length=16)]], Field(min_length=4, max_length=4)]


class NewDataset(_Body):
    """How to read a table; as in `table.ReadOptions`."""

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

    document: Annotated[str, Field(max_length=MAX_BYTES)]
    assume: Annotated[int, Field(ge=1, le=100_000)] | None = None


class NewJob(JobText):
    """A job file; where the split is by ids, also the file that lists them."""

    test_ids_path: Annotated[str, Field(max_length=4096)] | None = None


def make_app(node: Node, token: str) -> FastAPI:
    """The application of one node."""
    app = FastAPI(title="Isthmus", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.node = node

    def signed_in(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise PolicyError("sign_in")

    api = APIRouter(prefix="/api/v1", dependencies=[Depends(signed_in)])
    _node_routes(api, node)
    _partner_routes(api, node)
    _dataset_routes(api, node)
    _job_routes(api, node)
    _audit_routes(api, node)
    app.include_router(api)
    app.add_middleware(_BodyLimit)
    _error_handlers(app, node)
    return app


def _node_routes(api: APIRouter, node: Node) -> None:
    @api.get("/node")
    async def show() -> dict[str, Any]:
        return {
            "party": node.config.party,
            "version": isthmus.__version__,
            "mode": node.config.mode,
            "address": node.config.address,
            "link_port": node.link_port,
            "home": str(node.folder.home),
        }

    @api.get("/node/doctor")
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
    @api.get("/partners")
    async def partners(request: Request) -> list[dict[str, Any]]:
        states = {p.name: node.link.state(p.name) for p in node.store.partners() if p.confirmed}
        return [partner_view(p, states.get(p.name), _language(request)) for p in node.store.partners()]

    @api.post("/partners/invite")
    async def invite() -> dict[str, str]:
        return {"line": node.partners.invite()}

    @api.post("/partners/accept")
    async def accept(request: Request, body: TokenLine) -> dict[str, Any]:
        partner, reply = await node.partners.accept(body.line)
        return {**partner_view(partner, None, _language(request)), "reply": reply}

    @api.post("/partners/{name}/confirm")
    async def confirm(request: Request, name: str, body: FourWords) -> dict[str, Any]:
        return partner_view(node.partners.confirm(name, body.words), None, _language(request))


def _dataset_routes(api: APIRouter, node: Node) -> None:
    @api.get("/datasets")
    async def datasets() -> list[dict[str, Any]]:
        return [dataset_view(dataset) for dataset in node.datasets.all()]

    @api.post("/datasets")
    async def add(body: NewDataset) -> dict[str, Any]:
        given = body.model_dump()
        given["missing"] = tuple(body.missing)
        return dataset_view(
            await node.datasets.add(given.pop("name"), given.pop("path"), **given), whole=True
        )

    @api.get("/datasets/{title}")
    async def dataset(title: str) -> dict[str, Any]:
        return dataset_view(node.datasets.find(title), whole=True)


def _job_routes(api: APIRouter, node: Node) -> None:
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

    @api.get("/jobs")
    async def list_jobs(
        request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 50
    ) -> list[dict[str, Any]]:
        return [view(job, request) for job in node.store.jobs(limit)]

    @api.post("/jobs")
    async def propose(request: Request, body: NewJob) -> dict[str, Any]:
        return view(await jobs.propose(body.document.encode(), body.test_ids_path, body.assume), request)

    @api.post("/jobs/plan")
    async def plan(request: Request, body: JobText) -> dict[str, Any]:
        made = jobs.plan(body.document.encode(), body.assume)
        return plan_view(made, _language(request), own_columns(parse_job(made.resolved)))

    @api.get("/jobs/{job_id}")
    async def show(request: Request, job_id: str) -> dict[str, Any]:
        return view(jobs.find(job_id), request)

    @api.get("/jobs/{job_id}/plan")
    async def plan_of(request: Request, job_id: str) -> dict[str, Any]:
        made = jobs.plan_of(jobs.find(job_id))
        return plan_view(made, _language(request), own_columns(parse_job(made.resolved)))

    @api.get("/jobs/{job_id}/events")
    async def events(
        job_id: str, after: int = 0, limit: Annotated[int, Query(ge=1, le=500)] = 500
    ) -> list[dict[str, Any]]:
        return [
            {"id": e.id, "at": e.at.isoformat(), "kind": e.kind, "party": e.party or own, "data": e.data}
            for e in node.store.events(jobs.find(job_id).id, after, limit)
        ]

    @api.post("/jobs/{job_id}/accept")
    async def accept(request: Request, job_id: str) -> dict[str, Any]:
        return view(await jobs.accept(job_id), request)

    @api.post("/jobs/{job_id}/refuse")
    async def refuse(request: Request, job_id: str) -> dict[str, Any]:
        return view(jobs.refuse(job_id), request)


def _audit_routes(api: APIRouter, node: Node) -> None:
    @api.get("/audit")
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

    @api.get("/audit/heads")
    async def heads() -> dict[str, Any]:
        keys = {node.config.party: node.public_key} | {p.name: p.public_key for p in node.store.partners()}
        return {
            "party": node.config.party,
            "keys": {name: key.hex() for name, key in keys.items()},
            "heads": [kept_head_view(kept) for kept in node.store.heads()],
        }


def _language(request: Request) -> str:
    return "zh" if request.headers.get("accept-language", "").startswith("zh") else "en"


def _error_handlers(app: FastAPI, node: Node) -> None:
    def answer(request: Request, error: IsthmusError, status: int | None = None) -> JSONResponse:
        body = problem(error, _language(request), node.config.party)
        status = status or (401 if error.code == "sign_in" else error.status)
        return JSONResponse(body | {"status": status}, status, media_type=PROBLEM)

    @app.exception_handler(IsthmusError)
    async def ours(request: Request, error: IsthmusError) -> JSONResponse:
        codes = {"not_found": 404, "conflict": 409, "already_there": 409}
        return answer(request, error, codes.get(error.code))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            return answer(
                request, ConfigError("unknown_field", where="the request", field=field, known="see docs")
            )
        if first["type"] == "missing":
            return answer(request, ConfigError("missing_field", where="the request", field=field))
        if first["type"] == "json_invalid":
            return answer(
                request, ConfigError("bad_document", where="the request", why="it is not JSON"), 400
            )
        return answer(
            request, ConfigError("out_of_bounds", field=field, value="of another form", allowed=first["msg"])
        )

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code in (404, 405):
            missing = ConfigError("not_found", what="such a route", list_command="isthmus --help")
            return answer(request, missing, error.status_code)
        if error.status_code == 413:
            limit = f"{BODY_MAX_BYTES // 2**20} MiB"
            return answer(request, DataError("too_large", what="the request", size="more", limit=limit), 413)
        return answer(
            request, ConfigError("bad_document", where="the request", why="it is not JSON"), error.status_code
        )

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        return answer(request, LocalError("bug", why=type(error).__name__))


class _BodyLimit:
    """Refuses a body that is, or turns out to be, longer than allowed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size_bytes = 0

        async def counted() -> Any:
            nonlocal size_bytes
            message = await receive()
            size_bytes += len(message.get("body", b""))
            if size_bytes > BODY_MAX_BYTES:
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)
