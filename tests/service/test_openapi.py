"""The OpenAPI document: every route, shapes with examples, and answers that keep to them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel

from isthmus.base.canonical import canonical_json
from isthmus.jobs.spec import parse_job, resolve
from isthmus.service import agreement_shapes, api, fleet_shapes, shapes, user_shapes
from isthmus.service.node import Node
from isthmus.service.rights import RIGHTS
from isthmus.store.records import Answer, StoredJob, StoredPartner
from tests.jobs.examples import TEXT, document
from tests.service.test_api import asking
from tests.service.test_census import TABLE

JOB = canonical_json(resolve(parse_job(document())))
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def models(module: Any, base: type[BaseModel]) -> list[type[BaseModel]]:
    found = [m for m in vars(module).values() if isinstance(m, type) and issubclass(m, base)]
    return [m for m in found if m.__module__ == module.__name__ and "examples" in m.model_json_schema()]


def test_every_example_has_its_shape() -> None:
    rooms = [
        importlib.import_module(room.name)
        for room in pkgutil.iter_modules(api.__path__, "isthmus.service.api.")
    ]
    answers = [
        m for room in (shapes, user_shapes, agreement_shapes, fleet_shapes) for m in models(room, BaseModel)
    ]
    bodies = [model for room in rooms for model in models(room, BaseModel)]
    assert (len(answers), len(bodies)) == (46, 26)
    for model in answers + bodies:
        for example in model.model_json_schema()["examples"]:
            model.model_validate(example)


def test_the_document_names_every_route_its_answer_and_its_refusal(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        document = (await client.get("/openapi.json")).json()
        operations = {(m.upper(), p): o for p, item in document["paths"].items() for m, o in item.items()}
        assert set(operations) == set(TABLE) - {("GET", "/api/v1/openapi.json")}
        for (method, path), operation in operations.items():
            if TABLE[method, path][0] == 401:
                assert operation["security"] == [{"HTTPBearer": []}], path
                assert "application/problem+json" in operation["responses"]["default"]["content"], path
            if path == "/api/v1/backup":
                assert "application/zip" in operation["responses"]["200"]["content"]
            elif path.startswith("/api/"):
                schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
                assert "$ref" in schema or "items" in schema, path
            headers = [p["name"].lower() for p in operation.get("parameters", []) if p["in"] == "header"]
            makes = method == "POST" and not path.endswith("/plan") and RIGHTS[method, path].reply != "never"
            assert ("idempotency-key" in headers) == makes, path
        named = set(re.findall(r'"#/components/schemas/([^"]+)"', (await client.get("/openapi.json")).text))
        assert named <= set(document["components"]["schemas"])

    asking(tmp_path, play)


def test_answers_keep_to_their_shapes(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        async def get(path: str) -> Any:
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            return answer.json()

        (tmp_path / "t.csv").write_text("id,x\n" + "".join(f"u{i},{i}\n" for i in range(9)))
        given = {"name": "t", "path": str(tmp_path / "t.csv"), "key": "id"}
        shapes.DatasetShape.model_validate((await client.post("/datasets", json=given)).json())
        shapes.LineShape.model_validate((await client.post("/partners/invite")).json())
        node.store.put_partner(StoredPartner("new", bytes(32), None, None, ("a",), False, NOW))
        error = {"class": "PolicyError", "code": "refused", "fields": {"party": "data-co"}}
        job = StoredJob(
            "j-1", bytes(32), 1, JOB, "card", "label_owner", "bank", "refused", None, NOW, NOW, error
        )
        node.store.add_job(job, [Answer("bank", "accepted", b"s")])
        shapes.NodeShape.model_validate(await get("/node"))
        for finding in await get("/node/doctor"):
            shapes.FindingShape.model_validate(finding)
        for path, shape in (
            ("/partners", shapes.PageShape[shapes.PartnerShape]),
            ("/datasets", shapes.PageShape[shapes.DatasetShape]),
            ("/jobs", shapes.PageShape[shapes.JobShape]),
            ("/jobs/j-1/events", shapes.PageShape[shapes.EventShape]),
        ):
            assert len(shape.model_validate(await get(path)).items) == 1, path
        node.store.put_partner(StoredPartner("shop", bytes(32), None, None, ("a",), True, NOW))
        wanted = {"dataset": "t", "purpose": "Rank applicants by risk", "until": "2099-01-01"}
        project = {"name": "cards", "purpose": "Joint models for cards", "parties": ["shop"]}
        for path, body in (
            ("/grants", wanted | {"partner": "shop", "aliases": {"x": "first"}, "runs": 3}),
            ("/grants/ask", wanted | {"holder": "shop"}),
            ("/projects", project),
        ):
            answer = await client.post(path, json=body)
            assert answer.status_code == 200, answer.text
        node.approvals.open(job, "shop")
        for path, kept, count in (
            ("/grants", shapes.PageShape[agreement_shapes.GrantShape], 2),
            ("/projects", shapes.PageShape[agreement_shapes.ProjectShape], 1),
            ("/approvals", shapes.PageShape[agreement_shapes.ApprovalShape], 1),
        ):
            assert len(kept.model_validate(await get(path)).items) == count, path
        assert shapes.AuditPageShape.model_validate(await get("/audit")).lines
        shapes.AuditHeadsShape.model_validate(await get("/audit/heads"))
        shapes.PlanShape.model_validate((await client.post("/jobs/plan", json={"document": TEXT})).json())
        shapes.ProblemShape.model_validate((await client.get("/jobs/j-none")).json())

    asking(tmp_path, play)
