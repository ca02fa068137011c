"""Grants, projects and approvals in plain maps: a part of the store in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from isthmus.store.agreements import (
    GrantRun,
    GrantState,
    StoredApproval,
    StoredGrant,
    StoredProject,
)
from isthmus.store.audit import Note


class AgreementsInMemory(ABC):
    def __init__(self) -> None:
        self._grants: dict[str, StoredGrant] = {}
        self._runs: dict[tuple[bytes, str], GrantRun] = {}
        self._projects: dict[str, StoredProject] = {}
        self._approvals: dict[str, StoredApproval] = {}

    @abstractmethod
    def add_lines(self, notes: Sequence[Note]) -> None: ...

    def add_grant(self, grant: StoredGrant, notes: Sequence[Note] = ()) -> bool:
        if grant.id in self._grants:
            return False
        self._grants[grant.id] = grant
        self.add_lines(notes)
        return True

    def change_grant(
        self, grant: StoredGrant, since: Collection[GrantState], notes: Sequence[Note] = ()
    ) -> bool:
        known = self._grants.get(grant.id)
        if known is None or known.state not in since:
            return False
        self._grants[grant.id] = grant
        self.add_lines(notes)
        return True

    def grant(self, grant_id: str) -> StoredGrant | None:
        return self._grants.get(grant_id)

    def grants(self, limit: int = 50, before: str | None = None) -> list[StoredGrant]:
        newest = list(self._grants)[::-1]
        if before is not None:
            newest = newest[newest.index(before) + 1 :] if before in self._grants else []
        return [self._grants[grant_id] for grant_id in newest[:limit]]

    def grants_with(self, partner: str, held: bool) -> list[StoredGrant]:
        return [g for g in self._grants.values() if (g.partner, g.held) == (partner, held)]

    def add_run(self, run: GrantRun, notes: Sequence[Note] = ()) -> bool:
        if (run.run, run.holder) in self._runs:
            return False
        self._runs[run.run, run.holder] = run
        self.add_lines(notes)
        return True

    def run_of(self, run: bytes, holder: str) -> GrantRun | None:
        return self._runs.get((run, holder))

    def note_sizes(self, run: bytes, holder: str, rows: int, shared: int) -> None:
        known = self._runs.get((run, holder))
        if known is not None:
            kept = replace(known, rows=rows or known.rows, shared=shared or known.shared)
            self._runs[run, holder] = kept

    def runs_under(self, grant_id: str) -> int:
        return sum(run.grant == grant_id for run in self._runs.values())

    def runs_since(self, holder: str, user: str, dataset: str, since: datetime) -> list[GrantRun]:
        wanted = (holder, user, dataset)
        return [
            r
            for r in self._runs.values()
            if (r.holder, r.user, r.dataset) == wanted and r.at.isoformat() >= since.isoformat()
        ]

    def put_project(self, project: StoredProject, notes: Sequence[Note] = ()) -> None:
        self._projects[project.name] = project
        self.add_lines(notes)

    def project(self, name: str) -> StoredProject | None:
        return self._projects.get(name)

    def projects(self, after: str = "", limit: int = -1) -> list[StoredProject]:
        found = [self._projects[name] for name in sorted(self._projects) if name > after]
        return found if limit < 0 else found[:limit]

    def add_approval(self, approval: StoredApproval) -> bool:
        if approval.id in self._approvals:
            return False
        self._approvals[approval.id] = approval
        return True

    def change_approval(
        self, approval: StoredApproval, people: tuple[str, ...], notes: Sequence[Note] = ()
    ) -> bool:
        known = self._approvals.get(approval.id)
        if known is None or (known.state, known.people) != ("open", people):
            return False
        self._approvals[approval.id] = approval
        self.add_lines(notes)
        return True

    def approval(self, approval_id: str) -> StoredApproval | None:
        return self._approvals.get(approval_id)

    def approvals(self, limit: int = 50, before: str | None = None) -> list[StoredApproval]:
        newest = list(self._approvals)[::-1]
        if before is not None:
            newest = newest[newest.index(before) + 1 :] if before in self._approvals else []
        return [self._approvals[approval_id] for approval_id in newest[:limit]]
