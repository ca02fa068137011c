"""Requests made out of the OpenAPI document, to a real node over real HTTP. (H7, A3, A8)

No failure of ours, no answer of another shape.

Of every route, fitting requests and spoiled ones; half of them name things that exist. The requests are the same in every run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from isthmus.service.api import partners
from tests.service.served import HELD, TOKEN, Served, serving
from tests.service.test_census import TABLE

EXAMPLES = 10
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FOUND = ("/api/v1/datasets/{", "/api/v1/partners/{", "/api/v1/jobs/{")
NEED_MORE = ("/resume", "/clone")
"""Of a job these need what the node of this test does not have: a partner and tables."""
ROUTES = [route for route in TABLE if route != ("GET", "/api/v1/openapi.json")]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("fuzzed")) as found:
        yield found


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
    def send(case: Case[Any]) -> None:
        answer = case.call(served.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
        case.validate_response(answer, checks=CHECKS)
        statuses.append(answer.status_code)

    send()
    return statuses


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_whatever_fits_the_document_is_answered_as_it_says(served: Served, method: str, path: str) -> None:
    assert ask(served, method, path, GenerationMode.POSITIVE)


@pytest.mark.parametrize(
    ("method", "path"), [r for r in ROUTES if r[1].startswith(FOUND) and not r[1].endswith("/revoke")]
)
def test_what_exists_is_found_whatever_else_is_asked(served: Served, method: str, path: str) -> None:
    held = {name: value for name, value in HELD.items() if f"{{{name}}}" in path}
    statuses = ask(served, method, path, GenerationMode.POSITIVE, path_parameters=held)
    assert path.endswith(NEED_MORE) or 404 not in statuses


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_whatever_is_spoiled_is_refused_in_the_form_of_a_problem(
    served: Served, method: str, path: str
) -> None:
    shown = served.document["paths"][path][method.lower()]
    if not shown.get("parameters") and "requestBody" not in shown:
        return  # nothing of it can be spoiled
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
        ask(Served(served.port, document), "GET", "/api/v1/node", GenerationMode.POSITIVE)


def test_a_failure_of_ours_is_seen(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*words: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(partners, "partner_view", fails)
    with pytest.raises(FailureGroup):
        ask(served, "GET", "/api/v1/partners", GenerationMode.POSITIVE)
