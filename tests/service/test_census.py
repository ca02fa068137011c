"""Every route with no token, a wrong one and the valid one; a route without a row fails. (A1, T26, M33, M34)"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from isthmus.service.api import make_app
from isthmus.service.gate import OPEN
from isthmus.service.node import Node
from tests.service.test_api import asking, check_problem, routes_of

# What an empty JSON body, and names that nobody has, are answered: no token, wrong token, valid token.
TABLE: dict[tuple[str, str], tuple[int, int, int]] = {
    ("GET", "/health"): (200, 200, 200),
    ("GET", "/ready"): (200, 200, 200),
    ("GET", "/metrics"): (401, 401, 200),
    ("GET", "/api/v1/openapi.json"): (401, 401, 200),
    ("GET", "/api/v1/node"): (401, 401, 200),
    ("GET", "/api/v1/node/doctor"): (401, 401, 200),
    ("GET", "/api/v1/partners"): (401, 401, 200),
    ("POST", "/api/v1/partners/invite"): (401, 401, 200),
    ("POST", "/api/v1/partners/accept"): (401, 401, 422),
    ("POST", "/api/v1/partners/{name}/confirm"): (401, 401, 422),
    ("GET", "/api/v1/audit"): (401, 401, 200),
    ("GET", "/api/v1/audit/heads"): (401, 401, 200),
    ("GET", "/api/v1/backup"): (401, 401, 200),
    ("GET", "/api/v1/datasets"): (401, 401, 200),
    ("POST", "/api/v1/datasets"): (401, 401, 422),
    ("GET", "/api/v1/datasets/{title}"): (401, 401, 404),
    ("GET", "/api/v1/jobs"): (401, 401, 200),
    ("POST", "/api/v1/jobs"): (401, 401, 422),
    ("POST", "/api/v1/jobs/plan"): (401, 401, 422),
    ("GET", "/api/v1/jobs/{job_id}"): (401, 401, 404),
    ("GET", "/api/v1/jobs/{job_id}/plan"): (401, 401, 404),
    ("GET", "/api/v1/jobs/{job_id}/events"): (401, 401, 404),
    ("POST", "/api/v1/jobs/{job_id}/accept"): (401, 401, 404),
    ("POST", "/api/v1/jobs/{job_id}/refuse"): (401, 401, 404),
    ("POST", "/api/v1/jobs/{job_id}/pause"): (401, 401, 404),
    ("POST", "/api/v1/jobs/{job_id}/resume"): (401, 401, 404),
    ("POST", "/api/v1/jobs/{job_id}/stop"): (401, 401, 404),
    ("POST", "/api/v1/jobs/{job_id}/clone"): (401, 401, 404),
}


def test_the_table_names_every_route_and_no_other(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        found = {(m, r.path) for r in routes_of(make_app(node, "x").routes) for m in r.methods or ()}
        assert found == set(TABLE)
        assert {path for (_, path), statuses in TABLE.items() if statuses[0] != 401} == OPEN

    asking(tmp_path, play)


@pytest.mark.parametrize(("method", "path"), TABLE)
def test_a_route_answers_as_the_table_says(tmp_path: Path, method: str, path: str) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        url = "http://node" + path.replace("{", "").replace("}", "")
        tokens = (None, "Bearer secret-tokem", "Bearer secret-token")
        for token, status in zip(tokens, TABLE[method, path], strict=True):
            client.headers.pop("authorization", None)
            headers = {} if token is None else {"Authorization": token}
            answer = await client.request(method, url, headers=headers, json={} if method == "POST" else None)
            assert answer.status_code == status, answer.text
            if status >= 400:
                check_problem(answer, status, answer.json()["code"])
            if status == 401:
                assert answer.json()["code"] == "sign_in"

    asking(tmp_path, play)


def test_without_a_token_a_path_that_exists_looks_like_one_that_does_not(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        del client.headers["authorization"]
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "BREW"):
            for path in ("/jobs", "/none", "/health", "/health%2f..%2fjobs", "/jobs%3f/health"):
                answer = await client.request(method, path)
                assert answer.status_code == 401, (method, path)
        for near in ("/health/", "/Health", "//health", "/metrics", "/ready/x"):
            assert (await client.get(f"http://node{near}")).status_code == 401, near

    asking(tmp_path, play)
