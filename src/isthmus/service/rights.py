"""Who may do what: one row a route. A route without a row is answered as if it did not exist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from starlette.routing import compile_path

from isthmus.store.users import UserRole

Reply = Literal["plain", "sealed", "never"]


@dataclass(frozen=True, slots=True)
class Right:
    """`roles`: who may. `door`: strangers too, since this is where they sign in. `own`: also a person who has yet to set up
    the second factor. `reply`: how it is kept under an idempotency key; `never` for what is not kept at all."""

    roles: frozenset[UserRole]
    door: bool = False
    own: bool = False
    reply: Reply = "plain"


def _may(*roles: UserRole, reply: Reply = "plain") -> Right:
    return Right(frozenset(roles), reply=reply)


_PEOPLE: tuple[UserRole, ...] = ("admin", "modeller", "approver", "auditor", "operator")
_EVERYBODY: tuple[UserRole, ...] = (*_PEOPLE, "service")
_WORK: tuple[UserRole, ...] = ("modeller", "approver", "auditor", "operator")

# An admin manages people and sees no data; an auditor reads everything and changes nothing.
RIGHTS: dict[tuple[str, str], Right] = {
    ("GET", "/metrics"): _may("operator", "auditor", "admin"),
    ("GET", "/api/v1/openapi.json"): _may(*_EVERYBODY),
    ("POST", "/api/v1/sign-in"): Right(frozenset(), door=True, reply="never"),
    ("POST", "/api/v1/sign-out"): Right(frozenset(_EVERYBODY), own=True, reply="never"),
    ("GET", "/api/v1/me"): Right(frozenset(_EVERYBODY), own=True),
    ("POST", "/api/v1/me/password"): Right(frozenset(_PEOPLE), own=True, reply="never"),
    ("POST", "/api/v1/me/second-factor"): Right(frozenset(_PEOPLE), own=True, reply="never"),
    ("POST", "/api/v1/me/second-factor/confirm"): Right(frozenset(_PEOPLE), own=True, reply="never"),
    ("GET", "/api/v1/users"): _may("admin", "auditor"),
    ("POST", "/api/v1/users"): _may("admin", reply="sealed"),
    ("GET", "/api/v1/users/{name}"): _may("admin", "auditor"),
    ("DELETE", "/api/v1/users/{name}"): _may("admin"),
    ("POST", "/api/v1/users/{name}/reset"): _may("admin", reply="sealed"),
    ("POST", "/api/v1/users/{name}/roles"): _may("admin"),
    ("GET", "/api/v1/roles"): _may(*_PEOPLE),
    ("GET", "/api/v1/tokens"): _may(*_PEOPLE),
    ("POST", "/api/v1/tokens"): _may("admin", "modeller", "operator", reply="sealed"),
    ("DELETE", "/api/v1/tokens/{token_id}"): _may("admin", "modeller", "operator"),
    ("GET", "/api/v1/node"): _may(*_PEOPLE),
    ("GET", "/api/v1/node/doctor"): _may("operator", "modeller", "auditor"),
    ("GET", "/api/v1/partners"): _may(*_WORK),
    ("POST", "/api/v1/partners/invite"): _may("operator", reply="sealed"),
    ("POST", "/api/v1/partners/accept"): _may("operator", reply="sealed"),
    ("POST", "/api/v1/partners/rotate"): _may("operator"),
    ("POST", "/api/v1/partners/{name}/confirm"): _may("approver"),
    ("POST", "/api/v1/partners/{name}/revoke"): _may("operator", "approver"),
    ("GET", "/api/v1/audit"): _may("auditor", "approver", "operator", "admin"),
    ("GET", "/api/v1/audit/heads"): _may("auditor", "approver", "operator", "admin"),
    ("GET", "/api/v1/backup"): _may("operator"),
    ("GET", "/api/v1/grants"): _may(*_WORK),
    ("POST", "/api/v1/grants"): _may("approver"),
    ("POST", "/api/v1/grants/ask"): _may("modeller"),
    ("GET", "/api/v1/grants/{grant_id}"): _may(*_WORK),
    ("POST", "/api/v1/grants/{grant_id}/give"): _may("approver"),
    ("POST", "/api/v1/grants/{grant_id}/refuse"): _may("approver"),
    ("POST", "/api/v1/grants/{grant_id}/revoke"): _may("approver"),
    ("GET", "/api/v1/projects"): _may(*_WORK),
    ("POST", "/api/v1/projects"): _may("modeller"),
    ("GET", "/api/v1/projects/{name}"): _may(*_WORK),
    ("POST", "/api/v1/projects/{name}/invite"): _may("modeller"),
    ("POST", "/api/v1/projects/{name}/archive"): _may("modeller"),
    ("GET", "/api/v1/approvals"): _may(*_WORK),
    ("GET", "/api/v1/approvals/{approval_id}"): _may(*_WORK),
    ("POST", "/api/v1/approvals/{approval_id}/approve"): _may("approver"),
    ("POST", "/api/v1/approvals/{approval_id}/refuse"): _may("approver"),
    ("GET", "/api/v1/datasets"): _may(*_WORK),
    ("POST", "/api/v1/datasets"): _may("modeller"),
    ("GET", "/api/v1/datasets/{title}"): _may(*_WORK),
    ("GET", "/api/v1/jobs"): _may(*_WORK),
    ("POST", "/api/v1/jobs"): _may("modeller"),
    ("POST", "/api/v1/jobs/plan"): _may("modeller", "approver", "auditor"),
    ("GET", "/api/v1/jobs/{job_id}"): _may(*_WORK),
    ("GET", "/api/v1/jobs/{job_id}/plan"): _may(*_WORK),
    ("GET", "/api/v1/jobs/{job_id}/events"): _may(*_WORK),
    ("POST", "/api/v1/jobs/{job_id}/accept"): _may("approver"),
    ("POST", "/api/v1/jobs/{job_id}/refuse"): _may("approver"),
    ("POST", "/api/v1/jobs/{job_id}/pause"): _may("modeller", "operator"),
    ("POST", "/api/v1/jobs/{job_id}/resume"): _may("modeller", "operator"),
    ("POST", "/api/v1/jobs/{job_id}/stop"): _may("modeller", "approver", "operator"),
    ("POST", "/api/v1/jobs/{job_id}/clone"): _may("modeller"),
    ("GET", "/api/v1/fleets"): _may(*_WORK),
    ("POST", "/api/v1/fleets"): _may("modeller", "operator"),
    ("GET", "/api/v1/fleets/{name}"): _may(*_WORK),
    ("POST", "/api/v1/fleets/{name}/kill"): _may("modeller", "approver", "operator"),
    ("GET", "/api/v1/fleets/{name}/devices"): _may(*_WORK),
    ("POST", "/api/v1/fleets/{name}/block"): _may("modeller", "operator"),
    ("GET", "/api/v1/fleets/{name}/releases"): _may(*_WORK),
    ("POST", "/api/v1/fleets/{name}/rollout"): _may("modeller", "operator"),
    ("POST", "/api/v1/fleets/{name}/tasks/plan"): _may(*_WORK),
    ("GET", "/api/v1/fleets/{name}/tasks"): _may(*_WORK),
    ("POST", "/api/v1/fleets/{name}/tasks"): _may("modeller"),
    ("GET", "/api/v1/fleets/{name}/tasks/{task}"): _may(*_WORK),
    ("POST", "/api/v1/fleets/{name}/tasks/{task}/stop"): _may("modeller", "approver", "operator"),
    ("GET", "/api/v1/helpers"): _may(*_WORK),
    ("POST", "/api/v1/helpers"): _may("modeller", "operator"),
}


class Rights:
    """Finds the row of a request. Templates are read as the router reads them; of two that fit, the one with fewer names in
    braces counts, which is also the one that the router takes."""

    def __init__(self, table: dict[tuple[str, str], Right] = RIGHTS) -> None:
        rows = sorted(table.items(), key=lambda row: (row[0][1].count("{"), row[0]))
        self._rows: list[tuple[str, str, re.Pattern[str], Right]] = [
            (method, path, compile_path(path)[0], right) for (method, path), right in rows
        ]

    def row(self, method: str, path: str) -> tuple[str, Right] | None:
        """The template and the right; None for what nobody may."""
        for of, template, pattern, right in self._rows:
            if of == method and pattern.match(path):
                return template, right
        return None

    def known(self, path: str) -> bool:
        """Whether anything may be done at this path."""
        return any(pattern.match(path) for _, _, pattern, _ in self._rows)
