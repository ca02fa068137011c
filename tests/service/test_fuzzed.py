"""Requests made out of the OpenAPI document, to a real node over real HTTP. (H7, A3, A8)

No failure of ours, no answer of another shape.

Of every route, fitting requests and spoiled ones; half of them name things that exist. The requests are the same in every run.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from isthmus.base.canonical import canonical_json
from isthmus.jobs.spec import parse_job, resolve
from isthmus.service.api import make_app, partners
from isthmus.service.gate import Limits
from isthmus.service.node import Node
from isthmus.store.folder import NodeFolder, make_config
from isthmus.store.records import Answer, StoredJob, StoredPartner
from isthmus.wire.link import make_certificate
from tests.jobs.examples import document
from tests.service.test_census import TABLE

TOKEN = "fuzzed-token"
EXAMPLES = 25
NOW = datetime(2026, 1, 2, tzinfo=UTC)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ROUTES = [route for route in TABLE if route != ("GET", "/api/v1/openapi.json")]
HELD = {"title": "risk@1", "name": "new", "job_id": "j-1"}
"""What the node holds, by the name that a path has for it."""


@dataclass
class Served:
    """A node behind a port of this machine, and what it says of itself."""

    url: str
    document: dict[str, Any]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("fuzzed")
    (folder / "t.csv").write_text("phone,x,bad\n" + "".join(f"138{i:08d},{i},{i % 2}\n" for i in range(40)))
    ready: list[tuple[uvicorn.Server, Served]] = []
    up = threading.Event()

    async def serve() -> None:
        config = make_config({"party": "bank", "mode": "dial-out", "data": [str(folder)]}, "test")
        node = Node(NodeFolder.create(folder / "node", config, make_certificate))
        await node.start()
        await node.datasets.add("risk", str(folder / "t.csv"), key="phone")
        node.store.put_partner(StoredPartner("new", bytes(32), None, None, ("a",) * 4, False, NOW))
        job = canonical_json(resolve(parse_job(document())))
        stored = StoredJob("j-1", bytes(32), 1, job, "card", "label_owner", "bank", "refused", None, NOW, NOW)
        node.store.add_job(stored, [Answer("bank", "accepted", b"s")])
        app = make_app(node, TOKEN, Limits(burst=1_000_000, per_s=1_000_000))
        config_of = uvicorn.Config(app, "127.0.0.1", 0, log_config=None, access_log=False, lifespan="off")
        server = uvicorn.Server(config_of)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - the server sends no event
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        ready.append((server, Served(f"http://127.0.0.1:{port}", app.openapi())))
        up.set()
        await serving
        await node.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert up.wait(60)
    server, found = ready[0]
    yield found
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


def ask(served: Served, method: str, path: str, mode: GenerationMode, **held: Any) -> list[int]:
    """Sends generated requests to one route and holds each answer against the document; their statuses."""
    operation = schemathesis.openapi.from_dict(served.document)[path][method]
    statuses: list[int] = []

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode, **held))
    def send(case: Case) -> None:
        answer = case.call(served.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
        case.validate_response(answer, checks=CHECKS)
        statuses.append(answer.status_code)

    send()
    return statuses


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_whatever_fits_the_document_is_answered_as_it_says(served: Served, method: str, path: str) -> None:
    assert ask(served, method, path, GenerationMode.POSITIVE)


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if "{" in route[1]])
def test_what_exists_is_found_whatever_else_is_asked(served: Served, method: str, path: str) -> None:
    held = {name: value for name, value in HELD.items() if f"{{{name}}}" in path}
    statuses = ask(served, method, path, GenerationMode.POSITIVE, path_parameters=held)
    assert 404 not in statuses


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_whatever_is_spoiled_is_refused_in_the_form_of_a_problem(
    served: Served, method: str, path: str
) -> None:
    shown = served.document["paths"][path][method.lower()]
    if not shown.get("parameters") and "requestBody" not in shown:
        assert method == "GET" or path.endswith("/invite")
        return
    assert ask(served, method, path, GenerationMode.NEGATIVE)


@pytest.mark.parametrize(
    ("schema", "changed"),
    [("NodeShape", {"party": {"type": "integer"}}), ("NodeShape", {"none": {"type": "string"}})],
)
def test_an_answer_of_another_shape_is_seen(served: Served, schema: str, changed: dict[str, Any]) -> None:
    document = copy.deepcopy(served.document)
    shape = document["components"]["schemas"][schema]
    shape["properties"] |= changed
    shape["required"] = [*shape["properties"]]
    with pytest.raises(FailureGroup):
        ask(Served(served.url, document), "GET", "/api/v1/node", GenerationMode.POSITIVE)


def test_a_failure_of_ours_is_seen(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*words: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(partners, "partner_view", fails)
    with pytest.raises(FailureGroup):
        ask(served, "GET", "/api/v1/partners", GenerationMode.POSITIVE)
