"""Every route for everybody: strangers, each role, expired and deleted people. (A1, T26, M33, M34)"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter

from isthmus.service.api import app as app_module
from isthmus.service.api import make_app
from isthmus.service.gate import OPEN
from isthmus.service.node import Node
from isthmus.service.rights import RIGHTS, Rights
from isthmus.store.settings import Limits
from isthmus.store.users import USER_ROLES, UserRole
from tests.service.people import bearer, give_pass, give_user
from tests.service.test_api import asking, check_problem, routes_of

PEOPLE = "admin modeller approver auditor operator"
ALL = f"{PEOPLE} service"
WORK = "modeller approver auditor operator"
LOG = "admin approver auditor operator"

# What an empty JSON body, and names that nobody has, are answered: a stranger, and these roles; all other roles get 403.
TABLE: dict[tuple[str, str], tuple[int, int, str]] = {
    ("GET", "/health"): (200, 200, ALL),
    ("GET", "/ready"): (200, 200, ALL),
    ("GET", "/metrics"): (401, 200, "admin operator auditor"),
    ("GET", "/api/v1/openapi.json"): (401, 200, ALL),
    ("POST", "/api/v1/sign-in"): (422, 422, ALL),
    ("POST", "/api/v1/sign-out"): (401, 200, ALL),
    ("GET", "/api/v1/me"): (401, 200, ALL),
    ("POST", "/api/v1/me/password"): (401, 422, PEOPLE),
    ("POST", "/api/v1/me/second-factor"): (401, 409, PEOPLE),
    ("POST", "/api/v1/me/second-factor/confirm"): (401, 422, PEOPLE),
    ("GET", "/api/v1/users"): (401, 200, "admin auditor"),
    ("POST", "/api/v1/users"): (401, 422, "admin"),
    ("GET", "/api/v1/users/{name}"): (401, 404, "admin auditor"),
    ("DELETE", "/api/v1/users/{name}"): (401, 404, "admin"),
    ("POST", "/api/v1/users/{name}/reset"): (401, 404, "admin"),
    ("POST", "/api/v1/users/{name}/roles"): (401, 422, "admin"),
    ("GET", "/api/v1/roles"): (401, 200, PEOPLE),
    ("GET", "/api/v1/tokens"): (401, 200, PEOPLE),
    # An empty body asks for a token of nobody, which only an admin may make: it names no role then.
    ("POST", "/api/v1/tokens"): (401, 422, "admin"),
    ("DELETE", "/api/v1/tokens/{token_id}"): (401, 404, "admin modeller operator"),
    ("GET", "/api/v1/node"): (401, 200, PEOPLE),
    ("GET", "/api/v1/node/doctor"): (401, 200, "operator modeller auditor"),
    ("GET", "/api/v1/partners"): (401, 200, WORK),
    ("POST", "/api/v1/partners/invite"): (401, 200, "operator"),
    ("POST", "/api/v1/partners/accept"): (401, 422, "operator"),
    ("POST", "/api/v1/partners/rotate"): (401, 200, "operator"),
    ("POST", "/api/v1/partners/{name}/revoke"): (401, 404, "operator approver"),
    ("POST", "/api/v1/partners/{name}/confirm"): (401, 422, "approver"),
    ("GET", "/api/v1/audit"): (401, 200, LOG),
    ("GET", "/api/v1/audit/heads"): (401, 200, LOG),
    ("GET", "/api/v1/backup"): (401, 200, "operator"),
    ("GET", "/api/v1/grants"): (401, 200, WORK),
    ("POST", "/api/v1/grants"): (401, 422, "approver"),
    ("POST", "/api/v1/grants/ask"): (401, 422, "modeller"),
    ("GET", "/api/v1/grants/{grant_id}"): (401, 404, WORK),
    ("POST", "/api/v1/grants/{grant_id}/give"): (401, 404, "approver"),
    ("POST", "/api/v1/grants/{grant_id}/refuse"): (401, 404, "approver"),
    ("POST", "/api/v1/grants/{grant_id}/revoke"): (401, 404, "approver"),
    ("GET", "/api/v1/projects"): (401, 200, WORK),
    ("POST", "/api/v1/projects"): (401, 422, "modeller"),
    ("GET", "/api/v1/projects/{name}"): (401, 404, WORK),
    ("POST", "/api/v1/projects/{name}/invite"): (401, 422, "modeller"),
    ("POST", "/api/v1/projects/{name}/archive"): (401, 404, "modeller"),
    ("GET", "/api/v1/approvals"): (401, 200, WORK),
    ("GET", "/api/v1/approvals/{approval_id}"): (401, 404, WORK),
    ("POST", "/api/v1/approvals/{approval_id}/approve"): (401, 404, "approver"),
    ("POST", "/api/v1/approvals/{approval_id}/refuse"): (401, 404, "approver"),
    ("GET", "/api/v1/datasets"): (401, 200, WORK),
    ("POST", "/api/v1/datasets"): (401, 422, "modeller"),
    ("GET", "/api/v1/datasets/{title}"): (401, 404, WORK),
    ("GET", "/api/v1/jobs"): (401, 200, WORK),
    ("POST", "/api/v1/jobs"): (401, 422, "modeller"),
    ("POST", "/api/v1/jobs/plan"): (401, 422, "modeller approver auditor"),
    ("GET", "/api/v1/jobs/{job_id}"): (401, 404, WORK),
    ("GET", "/api/v1/jobs/{job_id}/plan"): (401, 404, WORK),
    ("GET", "/api/v1/jobs/{job_id}/events"): (401, 404, WORK),
    ("POST", "/api/v1/jobs/{job_id}/accept"): (401, 404, "approver"),
    ("POST", "/api/v1/jobs/{job_id}/refuse"): (401, 404, "approver"),
    ("POST", "/api/v1/jobs/{job_id}/pause"): (401, 404, "modeller operator"),
    ("POST", "/api/v1/jobs/{job_id}/resume"): (401, 404, "modeller operator"),
    ("POST", "/api/v1/jobs/{job_id}/stop"): (401, 404, "modeller approver operator"),
    ("POST", "/api/v1/jobs/{job_id}/clone"): (401, 404, "modeller"),
    ("GET", "/api/v1/fleets"): (401, 200, WORK),
    ("POST", "/api/v1/fleets"): (401, 422, "modeller operator"),
    ("GET", "/api/v1/fleets/{name}"): (401, 404, WORK),
    ("POST", "/api/v1/fleets/{name}/kill"): (401, 404, "modeller approver operator"),
    ("GET", "/api/v1/fleets/{name}/devices"): (401, 404, WORK),
    ("POST", "/api/v1/fleets/{name}/block"): (401, 422, "modeller operator"),
    ("GET", "/api/v1/fleets/{name}/releases"): (401, 404, WORK),
    ("POST", "/api/v1/fleets/{name}/rollout"): (401, 422, "modeller operator"),
    ("POST", "/api/v1/fleets/{name}/tasks/plan"): (401, 422, WORK),
    ("GET", "/api/v1/fleets/{name}/tasks"): (401, 404, WORK),
    ("POST", "/api/v1/fleets/{name}/tasks"): (401, 422, "modeller"),
    ("GET", "/api/v1/fleets/{name}/tasks/{task}"): (401, 404, WORK),
    ("POST", "/api/v1/fleets/{name}/tasks/{task}/stop"): (401, 404, "modeller approver operator"),
    ("GET", "/api/v1/helpers"): (401, 200, WORK),
    ("POST", "/api/v1/helpers"): (401, 422, "modeller operator"),
}
DOOR = ("POST", "/api/v1/sign-in")


def sample(path: str) -> str:
    return "http://node" + path.replace("{", "").replace("}", "")


@pytest.mark.trust("T26")
def test_the_table_names_every_route_and_no_other(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        found = {(m, r.path) for r in routes_of(make_app(node, "x").routes) for m in r.methods or ()}
        assert found == set(TABLE)
        assert {path for (_, path), statuses in TABLE.items() if statuses[0] == 200} == OPEN
        assert set(RIGHTS) == {row for row in TABLE if row[1] not in OPEN}
        for row in RIGHTS:
            found_row = Rights().row(row[0], sample(row[1]).removeprefix("http://node"))
            assert found_row is not None
            assert found_row[0] == row[1]

    asking(tmp_path, play)


@pytest.mark.trust("T26")
def test_every_route_answers_everybody_as_the_table_says(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        del client.headers["authorization"]
        for role in USER_ROLES:
            give_user(node, f"the-{role}", role)
        give_user(node, "nothing")
        give_user(node, "gone", "admin", "modeller", "approver", "auditor", "operator")
        gone = give_pass(node, "gone", "gone")
        gone_token = give_pass(node, "gone-token", "gone", "token")
        node.store.remove_user("gone")
        give_user(node, "late", "admin", "modeller", "approver", "auditor", "operator")
        late = give_pass(node, "late", "late", lasts=timedelta(0))
        late_token = give_pass(node, "late-token", None, "token", ("operator",), timedelta(0))
        code = give_pass(node, "code", "late", "once")
        strangers = [
            {},
            {"Authorization": "Basic eA=="},
            bearer("wrong"),
            gone,
            gone_token,
            late,
            late_token,
            code,
        ]
        for number, (method, path) in enumerate(TABLE):
            stranger, permitted, roles = TABLE[method, path]

            async def send(headers: dict[str, str], method: str = method, path: str = path) -> httpx.Response:
                body: dict[str, str] | None = {} if method == "POST" else None
                return await client.request(method, sample(path), headers=headers, json=body)

            for headers in strangers:
                answer = await send(headers)
                assert answer.status_code == stranger, (method, path, headers, answer.text)
                if stranger == 401:
                    check_problem(answer, 401, "sign_in")
                    assert answer.headers["connection"] == "close"
            for role in USER_ROLES:
                for kind in ("session", "token"):
                    headers = give_pass(node, f"{role}-{kind}-{number}", f"the-{role}", kind)
                    answer = await send(headers)
                    wanted = expected(method, path, role, kind, permitted, roles)
                    assert answer.status_code == wanted, (method, path, role, kind, answer.text)
                    if wanted >= 400:
                        check_problem(answer, wanted, answer.json()["code"])
            answer = await send(give_pass(node, f"nothing-{number}", "nothing"))
            wanted = 403 if stranger == 401 else stranger
            assert answer.status_code == wanted, (method, path, answer.text)

    asking(tmp_path, play, Limits(sign_ins_per_min=600))


def expected(method: str, path: str, role: UserRole, kind: str, permitted: int, roles: str) -> int:
    """A token of a user has its roles, but for admin and approver."""
    if (method, path) == DOOR or path in OPEN:
        return permitted
    if role not in roles.split() or (kind == "token" and role in ("admin", "approver")):
        return 403
    if kind == "token" and path == "/api/v1/me/second-factor":
        return 403
    return permitted


def test_an_auditor_may_read_everything_and_change_nothing() -> None:
    own = {"/api/v1/sign-in", "/api/v1/sign-out", "/api/v1/jobs/plan", "/api/v1/fleets/{name}/tasks/plan"}
    for (method, path), right in RIGHTS.items():
        if path == "/api/v1/backup":  # the whole database, for who looks after the node
            assert right.roles == {"operator"}
        elif method == "GET":
            assert "auditor" in right.roles, path
        elif path not in own and not path.startswith("/api/v1/me/"):
            assert "auditor" not in right.roles, path


def test_whoever_has_yet_to_set_up_the_second_factor_reaches_only_what_is_needed_for_it(
    tmp_path: Path,
) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        give_user(node, "new", "admin", "modeller", "approver", "auditor", "operator", second_on=False)
        reached = set()
        for number, (method, path) in enumerate(TABLE):
            headers = give_pass(node, f"new-{number}", "new")
            answer = await client.request(
                method, sample(path), headers=headers, json={} if method == "POST" else None
            )
            if answer.status_code == 403:
                check_problem(answer, 403, "second_factor")
            else:
                reached.add(path)
        own = {"sign-in", "sign-out", "me", "me/password", "me/second-factor", "me/second-factor/confirm"}
        assert reached == OPEN | {f"/api/v1/{path}" for path in own}

    asking(tmp_path, play)


def test_a_route_without_a_row_is_reached_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlisted(api: APIRouter, node: Node) -> None:
        @api.get("/unlisted")
        async def reached() -> str:
            raise AssertionError("it is reached")

    async def play(client: httpx.AsyncClient, node: Node) -> None:
        assert any(r.path == "/api/v1/unlisted" for r in routes_of(make_app(node, "x").routes))
        check_problem(await client.get("/unlisted"), 404, "not_found")

    monkeypatch.setattr(app_module, "user_routes", unlisted)
    asking(tmp_path, play)


def test_without_a_token_a_path_that_exists_looks_like_one_that_does_not(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        del client.headers["authorization"]
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "BREW"):
            for path in ("/jobs", "/none", "/health", "/health%2f..%2fjobs", "/jobs%3f/health", "/sign-in/"):
                answer = await client.request(method, path)
                assert answer.status_code == 401, (method, path)
        for near in ("/health/", "/Health", "//health", "/metrics", "/ready/x"):
            assert (await client.get(f"http://node{near}")).status_code == 401, near

    asking(tmp_path, play)
