"""Jobs: planned, proposed, answered, followed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from isthmus.base.document import MAX_BYTES
from isthmus.base.errors import ConfigError
from isthmus.jobs.spec import JobFile, parse_job
from isthmus.service.api.common import ONCE, Body, example, language, person_of
from isthmus.service.datasets import columns_in
from isthmus.service.node import Node
from isthmus.service.paging import LIMIT_MAX, Cursor, Limit, bad_cursor, page, read_cursor
from isthmus.service.shapes import EventShape, JobShape, PageShape, PlanShape, shaped
from isthmus.service.stream import Streams
from isthmus.service.views import event_view, job_view, plan_view
from isthmus.store.records import StoredJob


class JobText(Body):
    """A job file as text, YAML or JSON; how many columns a partner has whose columns nobody named."""

    model_config = example({"document": "apiVersion: isthmus/v1\nkind: Job\n..."})

    document: Annotated[str, Field(max_length=MAX_BYTES)]
    assume: Annotated[int, Field(ge=1, le=100_000)] | None = None


class FromStage(Body):
    """Where to go on; nothing: at the last barrier that every party has passed."""

    model_config = example({"stage": "train"})

    stage: Literal["bin", "train", "evaluate"] | None = None


class NewJob(JobText):
    """A job file; where the split is by ids, also the file that lists them."""

    model_config = example(
        {"document": "apiVersion: isthmus/v1\nkind: Job\n...", "test_ids_path": "/data/test-ids.csv"}
    )

    test_ids_path: Annotated[str, Field(max_length=4096)] | None = None


class AcceptJob(Body):
    """`grant`: where no grant covers the job, give one of one run for exactly this job."""

    model_config = example({"grant": True})

    grant: bool = False


def job_routes(api: APIRouter, node: Node, streams: Streams) -> None:
    jobs, own = node.jobs, node.config.party

    def view(job: StoredJob, request: Request) -> dict[str, Any]:
        folder = str(node.folder.job(job.id))
        return job_view(job, node.store.answers(job.id), jobs.step(job.id), folder, language(request))

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
        return plan_view(made, language(request), own_columns(parse_job(made.resolved)))

    @api.get("/jobs/{job_id}", responses=shaped(JobShape))
    async def show(request: Request, job_id: str) -> dict[str, Any]:
        return view(jobs.find(job_id), request)

    @api.get("/jobs/{job_id}/plan", responses=shaped(PlanShape))
    async def plan_of(request: Request, job_id: str) -> dict[str, Any]:
        made = jobs.plan_of(jobs.find(job_id))
        return plan_view(made, language(request), own_columns(parse_job(made.resolved)))

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
            person = person_of(request)
            told = streams.follow(job.id, since, heartbeat_s, lambda: node.users.still(person))
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            return StreamingResponse(told, media_type="text/event-stream", headers=headers)
        (last,) = read_cursor("events", cursor, int) or [after]
        found = node.store.events(job.id, last, limit + 1)
        return page("events", found, limit, lambda e: [e.id], lambda e: event_view(e, own))

    @api.post("/jobs/{job_id}/accept", responses=shaped(JobShape), dependencies=ONCE)
    async def accept(request: Request, job_id: str, body: AcceptJob | None = None) -> dict[str, Any]:
        return view(await jobs.accept(job_id, body is not None and body.grant), request)

    @api.post("/jobs/{job_id}/refuse", responses=shaped(JobShape), dependencies=ONCE)
    async def refuse(request: Request, job_id: str) -> dict[str, Any]:
        return view(jobs.refuse(job_id), request)

    @api.post("/jobs/{job_id}/pause", responses=shaped(JobShape), dependencies=ONCE)
    async def pause(request: Request, job_id: str) -> dict[str, Any]:
        return view(jobs.pause(job_id), request)

    @api.post("/jobs/{job_id}/resume", responses=shaped(JobShape), dependencies=ONCE)
    async def resume(request: Request, job_id: str, body: FromStage) -> dict[str, Any]:
        return view(await jobs.resume(job_id, body.stage), request)

    @api.post("/jobs/{job_id}/stop", responses=shaped(JobShape), dependencies=ONCE)
    async def stop(request: Request, job_id: str) -> dict[str, Any]:
        return view(jobs.stop(job_id), request)

    @api.post("/jobs/{job_id}/clone", responses=shaped(JobShape), dependencies=ONCE)
    async def clone(request: Request, job_id: str) -> dict[str, Any]:
        return view(await jobs.clone(job_id), request)
