"""The HTTP interface: every route asks for the token; errors are problem documents. (A1, A3, A8, T26)"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from isthmus.base.clock import Clock
from isthmus.service.api import make_app
from isthmus.service.gate import BODY_MAX_BYTES
from isthmus.service.node import Node
from isthmus.store.folder import NodeFolder, make_config
from isthmus.store.records import StoredPartner
from isthmus.store.settings import Limits
from isthmus.wire.link import make_certificate
from tests.jobs.examples import TEXT
from tests.service.people import QUICK

NOW = datetime(2026, 1, 2, tzinfo=UTC)
Ask = Callable[..., Awaitable[httpx.Response]]
FIELDS = {"type", "title", "status", "code", "class", "detail", "hint", "party", "field", "trace_id"}


def asking(
    tmp_path: Path,
    play: Callable[[httpx.AsyncClient, Node], Awaitable[None]],
    limits: Limits | None = None,
    clock: Clock | None = None,
) -> None:
    """Plays against the application of a node of its own, signed in as the owner of its folder."""

    async def run() -> None:
        config = make_config({"party": "bank", "mode": "dial-out", "data": [str(tmp_path)]}, "test")
        node = Node(NodeFolder.create(tmp_path / "node", config, make_certificate), clock, passwords=QUICK)
        await node.start()
        transport = httpx.ASGITransport(make_app(node, "secret-token", limits), raise_app_exceptions=False)
        headers = {"Authorization": "Bearer secret-token"}
        try:
            async with httpx.AsyncClient(
                transport=transport, base_url="http://node/api/v1", headers=headers
            ) as client:
                await play(client, node)
        finally:
            await node.close()

    asyncio.run(run())


def check_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.keys() >= FIELDS
    assert (body["status"], body["code"]) == (status, code)
    assert "Traceback" not in answer.text
    return body


def routes_of(routes: list[Any]) -> list[APIRoute]:
    """Every route, also of routers that are included as they are."""
    found: list[APIRoute] = []
    for route in routes:
        if isinstance(route, APIRoute):
            found.append(route)
        elif hasattr(route, "original_router"):
            found += routes_of(route.original_router.routes)
        else:
            raise AssertionError(f"a route that is none of ours: {route!r}")
    return found


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "bearer secret-token",
        "secret-token",
        "Bearer secret-token ",
        "Basic \xe9",
    ],
)
def test_every_route_refuses_a_missing_or_wrong_token(tmp_path: Path, header: str | None) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        routes = routes_of(make_app(node, "x").routes)
        assert len(routes) >= 17
        del client.headers["authorization"]
        headers = [] if header is None else [(b"authorization", header.strip(" ").encode("latin-1") or b" ")]
        if header is not None and header.endswith(" "):
            headers = [(b"authorization", header.encode("latin-1") + b"x")]
        for route in routes:
            if route.path == "/api/v1/sign-in":
                continue
            for method in route.methods or ():
                path = route.path.removeprefix("/api/v1").replace("{", "").replace("}", "")
                check_problem(await client.request(method, path, headers=headers, json={}), 401, "sign_in")

    asking(tmp_path, play)


def test_there_are_no_pages_beside_the_routes(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for path in (
            "/docs",
            "/redoc",
            "/openapi.json",
            "/",
            "/api/v1",
            "/api/v1/none",
            "/api/v1/jobs/a/b/c",
        ):
            check_problem(await client.get(f"http://node{path}"), 404, "not_found")
        check_problem(await client.delete("/jobs"), 405, "not_found")

    asking(tmp_path, play)


def test_errors_keep_their_code_and_come_in_the_language_asked_for(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        english = check_problem(await client.get("/jobs/j-none"), 404, "not_found")
        chinese = check_problem(
            await client.get("/jobs/j-none", headers={"Accept-Language": "zh"}), 404, "not_found"
        )
        assert english["detail"] == "There is no job j-none."
        assert chinese["detail"] == "找不到 job j-none。"
        bad = await client.post("/jobs", json={"document": TEXT + "model: {trees: 0}"})
        body = check_problem(bad, 422, "out_of_bounds")
        assert (body["field"], body["class"], body["party"]) == ("model.trees", "ConfigError", "bank")
        unknown = await client.post("/jobs/plan", json={"document": TEXT + "model: {tres: 0}"})
        assert check_problem(unknown, 422, "unknown_field")["field"] == "model.tres"

    asking(tmp_path, play)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_document"),
        (b'{"document": 1e999}', 400, "bad_document"),
        (b'{"document": 7}', 422, "out_of_bounds"),
        (b'{"document": null}', 422, "out_of_bounds"),
        (b'{"document": "a", "shell": "b"}', 422, "unknown_field"),
        (b"{}", 422, "missing_field"),
        (b"[]", 422, "out_of_bounds"),
        (b"\xff\xff", 400, "bad_document"),
        (b"[" * 100_000, 400, "bad_document"),
        (b'{"document": "' + b"a" * 300_000 + b'"}', 422, "out_of_bounds"),
        (b'{"document": "' + b"a" * BODY_MAX_BYTES + b'"}', 413, "too_large"),
        (b'{"document": "\\ud800"}', 400, "bad_document"),
    ],
)  # fmt: skip
def test_a_body_of_another_form_is_refused(tmp_path: Path, body: bytes, status: int, code: str) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        headers = {"content-type": "application/json"}
        check_problem(await client.post("/jobs/plan", content=body, headers=headers), status, code)

    asking(tmp_path, play)


def test_a_plan_needs_no_dataset_and_no_partner(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        plan = (await client.post("/jobs/plan", json={"document": TEXT})).json()
        assert len(plan["digest"]) == 64
        assert plan["own_columns"] is None
        assert {leak["party"] for leak in plan["leaks"]} == {"bank", "data-co"}
        assert (await client.get("/jobs")).json() == {"items": [], "next": None}
        check_problem(await client.post("/jobs", json={"document": TEXT}), 404, "not_found")
        for count in (0, -1, 100_001, "4", 1.5):
            body = {"document": TEXT, "assume": count}
            for path in ("/jobs", "/jobs/plan"):
                refused = check_problem(await client.post(path, json=body), 422, "out_of_bounds")
                assert refused["field"] == "assume"

    asking(tmp_path, play)


def test_a_dataset_is_added_and_shown(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        (tmp_path / "t.csv").write_text("id,x\n" + "".join(f"u{i},{i}\n" for i in range(9)))
        added = await client.post(
            "/datasets", json={"name": "t", "path": str(tmp_path / "t.csv"), "key": "id"}
        )
        assert added.json()["dataset"] == "t@1"
        assert (await client.get("/datasets/t@1")).json()["profile"][0]["name"] == "x"
        assert [d["rows"] for d in (await client.get("/datasets")).json()["items"]] == [9]
        outside = await client.post("/datasets", json={"name": "t", "path": "/etc/passwd", "key": "id"})
        check_problem(outside, 422, "bad_path")

    asking(tmp_path, play)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/grants", {"partner": "shop", "dataset": "t"}, "purpose"),
        ("/grants", {"partner": "shop", "dataset": "t", "purpose": "Rank by risk", "until": "soon"}, "until"),
        ("/grants", {"partner": "shop", "dataset": "t", "include": [""]}, "include.0"),
        ("/grants", {"partner": "shop", "dataset": "t", "runs": "3"}, "runs"),
        ("/grants", {"partner": "shop", "dataset": "t", "job": "0" * 64}, "job"),
        ("/grants/ask", {"holder": "shop", "dataset": "../t", "purpose": "Rank by risk", "until": "2099-01-01"}, "dataset"),
        ("/projects", {"name": "Cards", "purpose": "Joint models"}, "name"),
        ("/projects", {"name": "cards", "purpose": "short"}, "purpose"),
    ],
)  # fmt: skip
def test_terms_that_do_not_fit_are_refused_with_their_field(
    tmp_path: Path, path: str, body: dict[str, Any], field: str
) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        (tmp_path / "t.csv").write_text("id,x\n" + "".join(f"u{i},{i}\n" for i in range(9)))
        await client.post("/datasets", json={"name": "t", "path": str(tmp_path / "t.csv"), "key": "id"})
        node.store.put_partner(StoredPartner("shop", bytes(32), None, None, ("a",), True, NOW))
        answer = await client.post(path, json=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["fields"]["field"] == field
        assert node.store.grants() == []
        assert node.store.projects() == []

    asking(tmp_path, play)


def test_the_audit_log_is_read_page_by_page_and_only_read(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for _ in range(4):
            await client.post("/partners/invite")
        first = (await client.get("/audit", params={"limit": 3})).json()
        rest = (await client.get("/audit", params={"limit": 3, "cursor": first["next"]})).json()
        lines = first["lines"] + rest["lines"]
        assert [line["number"] for line in lines] == [1, 2, 3, 4, 5]
        assert [line["kind"] for line in lines] == ["node.started"] + ["partner.invited"] * 4
        assert (first["next"], rest["next"]) == (3, None)
        assert {line["actor"] for line in lines} == {"bank", "bank/local"}
        later = (await client.get("/audit", params={"since": "2999-01-01T00:00:00+08:00"})).json()
        assert later == {"lines": [], "next": None}
        heads = (await client.get("/audit/heads")).json()
        keys = {"bank": node.key.public.hex()}
        assert heads == {"party": "bank", "keys": keys, "earlier_keys": [], "heads": []}
        for query in (
            {"cursor": "-1"},
            {"limit": "501"},
            {"since": "yesterday"},
            {"since": "2026-01-01T00:00:00"},
        ):
            refused = check_problem(await client.get("/audit", params=query), 422, "out_of_bounds")
            assert refused["field"] == next(iter(query))
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            check_problem(await client.request(method, "/audit"), 405, "not_found")

    asking(tmp_path, play)


def test_the_token_and_the_key_are_in_no_answer(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for path in (
            "/node",
            "/node/doctor",
            "/partners",
            "/datasets",
            "/jobs",
            "/jobs/x",
            "/audit",
            "/audit/heads",
        ):
            text = (await client.get(path)).text
            assert "secret-token" not in text
            assert node.folder.party_key().to_bytes().hex() not in text

    asking(tmp_path, play)
