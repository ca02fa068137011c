"""What the client asks of a node about grants, projects and approvals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Any, TypedDict
from urllib.parse import quote


class GrantView(TypedDict):
    """A grant, or a request for one; `held` where the data is this party's."""

    id: str
    state: str
    held: bool
    holder: str
    user: str
    dataset: str
    purpose: str
    operations: list[str]
    until: str
    days_left: int
    runs: int
    runs_left: int
    runs_30d: int | None
    min_rows: int
    partner_rows_max: int | None
    min_change: int | None
    job: str
    columns: int | None
    aliases: list[str]
    own_columns: dict[str, Any] | None
    signature: str
    made_at: str
    changed_at: str


class ProjectView(TypedDict):
    name: str
    maker: str
    purpose: str
    parties: list[str]
    four_eyes: bool
    state: str
    made_at: str
    changed_at: str


class ApprovalView(TypedDict):
    """A decision of this party: who asked, who said yes, how many have to."""

    id: str
    kind: str
    job: str
    name: str
    state: str
    asked_by: str
    people: list[str]
    needed: int
    decided_by: str
    reason: str
    asked_at: str
    changed_at: str


class AgreementCalls(ABC):
    """A part of `Client`."""

    def grants(self, limit: int = 50) -> list[GrantView]:
        return list(islice(self._all("/grants"), limit))

    def grant(self, grant_id: str) -> GrantView:
        grant: GrantView = self._call("GET", f"/grants/{quote(grant_id, '')}")
        return grant

    def ask_grant(self, holder: str, **wanted: Any) -> GrantView:
        """`wanted`: dataset, purpose, until, runs, min_rows, operations."""
        grant: GrantView = self._call("POST", "/grants/ask", {"holder": holder, **wanted})
        return grant

    def give_grant(self, partner: str | None = None, ask: str | None = None, **terms: Any) -> GrantView:
        """To a partner, or in answer to a request. `terms`: dataset, purpose, until, runs, include and so on."""
        if ask is not None:
            grant: GrantView = self._call("POST", f"/grants/{quote(ask, '')}/give", terms)
        else:
            grant = self._call("POST", "/grants", {"partner": partner, **terms})
        return grant

    def refuse_grant(self, grant_id: str) -> GrantView:
        grant: GrantView = self._call("POST", f"/grants/{quote(grant_id, '')}/refuse")
        return grant

    def revoke_grant(self, grant_id: str) -> GrantView:
        grant: GrantView = self._call("POST", f"/grants/{quote(grant_id, '')}/revoke")
        return grant

    def projects(self) -> list[ProjectView]:
        return list(self._all("/projects"))

    def project(self, name: str) -> ProjectView:
        project: ProjectView = self._call("GET", f"/projects/{quote(name, '')}")
        return project

    def new_project(self, name: str, purpose: str, parties: list[str], four_eyes: bool) -> ProjectView:
        body = {"name": name, "purpose": purpose, "parties": parties, "four_eyes": four_eyes}
        project: ProjectView = self._call("POST", "/projects", body)
        return project

    def invite_to_project(self, name: str, party: str) -> ProjectView:
        project: ProjectView = self._call("POST", f"/projects/{quote(name, '')}/invite", {"party": party})
        return project

    def archive_project(self, name: str) -> ProjectView:
        project: ProjectView = self._call("POST", f"/projects/{quote(name, '')}/archive")
        return project

    def approvals(self, limit: int = 50) -> list[ApprovalView]:
        return list(islice(self._all("/approvals"), limit))

    def approval(self, approval_id: str) -> ApprovalView:
        approval: ApprovalView = self._call("GET", f"/approvals/{quote(approval_id, '')}")
        return approval

    def approve(self, approval_id: str, grant: bool = False) -> ApprovalView:
        path = f"/approvals/{quote(approval_id, '')}/approve"
        approval: ApprovalView = self._call("POST", path, {"grant": grant})
        return approval

    def refuse_approval(self, approval_id: str, reason: str) -> ApprovalView:
        path = f"/approvals/{quote(approval_id, '')}/refuse"
        approval: ApprovalView = self._call("POST", path, {"reason": reason})
        return approval

    @abstractmethod
    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, str] | None = None
    ) -> Any: ...

    @abstractmethod
    def _all(self, path: str, query: dict[str, str] | None = None) -> Iterator[Any]: ...
