"""Grants and the runs under them, projects, approvals."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, TableClause, func, select, update

from isthmus.store.agreements import (
    GrantRun,
    GrantState,
    StoredApproval,
    StoredGrant,
    StoredProject,
)
from isthmus.store.audit import Note
from isthmus.store.sql.lines import Lines
from isthmus.store.sql.tables import BYTES, NUMBER, TEXT, as_json, noun

GRANT = noun(
    "data_grant",
    row=NUMBER,
    id=TEXT,
    held=NUMBER,
    partner=TEXT,
    state=TEXT,
    terms=BYTES,
    made_at=TEXT,
    changed_at=TEXT,
    signature=BYTES,
    ending=BYTES,
    columns=TEXT,
)
RUN = noun(
    "grant_run",
    row=NUMBER,
    run=BYTES,
    holder=TEXT,
    partner=TEXT,
    dataset=TEXT,
    data_grant=TEXT,
    at=TEXT,
    rows_brought=NUMBER,
    rows_shared=NUMBER,
)
PROJECT = noun(
    "project",
    name=TEXT,
    maker=TEXT,
    document=BYTES,
    signature=BYTES,
    state=TEXT,
    made_at=TEXT,
    changed_at=TEXT,
)
APPROVAL = noun(
    "approval",
    row=NUMBER,
    id=TEXT,
    kind=TEXT,
    job=TEXT,
    asked_by=TEXT,
    people=TEXT,
    state=TEXT,
    asked_at=TEXT,
    changed_at=TEXT,
    decided_by=TEXT,
    reason=TEXT,
)


class Agreements(Lines):
    def add_grant(self, grant: StoredGrant, notes: Sequence[Note] = ()) -> bool:
        return self._added(GRANT, _of_grant(grant), notes)

    def change_grant(
        self, grant: StoredGrant, since: Collection[GrantState], notes: Sequence[Note] = ()
    ) -> bool:
        known = update(GRANT).where(GRANT.c.id == grant.id, GRANT.c.state.in_(since))
        with self._write():
            changed = self._count(known.values(**_of_grant(grant)))
            if changed:
                self._add_lines(notes)
        return bool(changed)

    def grant(self, grant_id: str) -> StoredGrant | None:
        row = self._first(select(GRANT).where(GRANT.c.id == grant_id))
        return _grant(row) if row else None

    def grants(self, limit: int = 50, before: str | None = None) -> list[StoredGrant]:
        return [_grant(row) for row in self._newest(GRANT, limit, before)]

    def grants_with(self, partner: str, held: bool) -> list[StoredGrant]:
        found = select(GRANT).where(GRANT.c.partner == partner, GRANT.c.held == int(held))
        return [_grant(row) for row in self._all(found.order_by(GRANT.c.row))]

    def add_run(self, run: GrantRun, notes: Sequence[Note] = ()) -> bool:
        fields = {
            "run": run.run,
            "holder": run.holder,
            "partner": run.user,
            "dataset": run.dataset,
            "data_grant": run.grant,
            "at": run.at.isoformat(),
            "rows_brought": run.rows,
            "rows_shared": run.shared,
        }
        return self._added(RUN, fields, notes)

    def run_of(self, run: bytes, holder: str) -> GrantRun | None:
        row = self._first(select(RUN).where(RUN.c.run == run, RUN.c.holder == holder))
        return _run(row) if row else None

    def note_sizes(self, run: bytes, holder: str, rows: int, shared: int) -> None:
        known = {"rows_brought": rows, "rows_shared": shared}
        given = {name: size for name, size in known.items() if size}
        if given:
            with self._write():
                self._execute(update(RUN).where(RUN.c.run == run, RUN.c.holder == holder).values(**given))

    def runs_under(self, grant_id: str) -> int:
        found = select(func.count()).select_from(RUN).where(RUN.c.data_grant == grant_id)
        return int(self._execute(found).scalar() or 0)

    def runs_since(self, holder: str, user: str, dataset: str, since: datetime) -> list[GrantRun]:
        found = select(RUN).where(
            RUN.c.holder == holder,
            RUN.c.partner == user,
            RUN.c.dataset == dataset,
            RUN.c.at >= since.isoformat(),
        )
        return [_run(row) for row in self._all(found.order_by(RUN.c.row))]

    def put_project(self, project: StoredProject, notes: Sequence[Note] = ()) -> None:
        fields = {
            "name": project.name,
            "maker": project.maker,
            "document": project.document,
            "signature": project.signature,
            "state": project.state,
            "made_at": project.made_at.isoformat(),
            "changed_at": project.changed_at.isoformat(),
        }
        with self._write():
            added = self._insert(PROJECT).values(**fields)
            self._execute(added.on_conflict_do_update(index_elements=["name"], set_=fields))
            self._add_lines(notes)

    def project(self, name: str) -> StoredProject | None:
        row = self._first(select(PROJECT).where(PROJECT.c.name == name))
        return _project(row) if row else None

    def projects(self, after: str = "", limit: int = -1) -> list[StoredProject]:
        found = select(PROJECT).where(PROJECT.c.name > after).order_by(PROJECT.c.name)
        return [_project(row) for row in self._all(found.limit(limit if limit >= 0 else None))]

    def add_approval(self, approval: StoredApproval) -> bool:
        return self._added(APPROVAL, _of_approval(approval), ())

    def change_approval(
        self, approval: StoredApproval, people: tuple[str, ...], notes: Sequence[Note] = ()
    ) -> bool:
        known = update(APPROVAL).where(
            APPROVAL.c.id == approval.id, APPROVAL.c.state == "open", APPROVAL.c.people == " ".join(people)
        )
        with self._write():
            changed = self._count(known.values(**_of_approval(approval)))
            if changed:
                self._add_lines(notes)
        return bool(changed)

    def approval(self, approval_id: str) -> StoredApproval | None:
        row = self._first(select(APPROVAL).where(APPROVAL.c.id == approval_id))
        return _approval(row) if row else None

    def approvals(self, limit: int = 50, before: str | None = None) -> list[StoredApproval]:
        return [_approval(row) for row in self._newest(APPROVAL, limit, before)]

    def _added(self, table: TableClause, fields: dict[str, Any], notes: Sequence[Note]) -> bool:
        with self._write():
            added = self._count(self._insert(table).values(**fields).on_conflict_do_nothing())
            if added:
                self._add_lines(notes)
        return bool(added)

    def _newest(self, table: TableClause, limit: int, before: str | None) -> Sequence[Row[Any]]:
        found = select(table)
        if before is not None:
            found = found.where(
                table.c.row < select(table.c.row).where(table.c.id == before).scalar_subquery()
            )
        return self._all(found.order_by(table.c.row.desc()).limit(limit))


def _of_grant(grant: StoredGrant) -> dict[str, Any]:
    return {
        "id": grant.id,
        "held": int(grant.held),
        "partner": grant.partner,
        "state": grant.state,
        "terms": grant.terms,
        "made_at": grant.made_at.isoformat(),
        "changed_at": grant.changed_at.isoformat(),
        "signature": grant.signature,
        "ending": grant.ending,
        "columns": as_json(grant.columns),
    }


def _grant(row: Row[Any]) -> StoredGrant:
    return StoredGrant(
        id=row.id,
        held=bool(row.held),
        partner=row.partner,
        state=row.state,
        terms=bytes(row.terms),
        made_at=datetime.fromisoformat(row.made_at),
        changed_at=datetime.fromisoformat(row.changed_at),
        signature=bytes(row.signature),
        ending=bytes(row.ending),
        columns=json.loads(row.columns) if row.columns else None,
    )


def _run(row: Row[Any]) -> GrantRun:
    return GrantRun(
        run=bytes(row.run),
        holder=row.holder,
        user=row.partner,
        dataset=row.dataset,
        grant=row.data_grant,
        at=datetime.fromisoformat(row.at),
        rows=row.rows_brought,
        shared=row.rows_shared,
    )


def _project(row: Row[Any]) -> StoredProject:
    return StoredProject(
        name=row.name,
        maker=row.maker,
        document=bytes(row.document),
        signature=bytes(row.signature),
        state=row.state,
        made_at=datetime.fromisoformat(row.made_at),
        changed_at=datetime.fromisoformat(row.changed_at),
    )


def _of_approval(approval: StoredApproval) -> dict[str, Any]:
    return {
        "id": approval.id,
        "kind": approval.kind,
        "job": approval.job,
        "asked_by": approval.asked_by,
        "people": " ".join(approval.people),
        "state": approval.state,
        "asked_at": approval.asked_at.isoformat(),
        "changed_at": approval.changed_at.isoformat(),
        "decided_by": approval.decided_by,
        "reason": approval.reason,
    }


def _approval(row: Row[Any]) -> StoredApproval:
    return StoredApproval(
        id=row.id,
        kind=row.kind,
        job=row.job,
        asked_by=row.asked_by,
        people=tuple(row.people.split()),
        state=row.state,
        asked_at=datetime.fromisoformat(row.asked_at),
        changed_at=datetime.fromisoformat(row.changed_at),
        decided_by=row.decided_by,
        reason=row.reason,
    )
