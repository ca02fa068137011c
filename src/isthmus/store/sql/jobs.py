"""Jobs, the answers of their parties, and what happened to them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, update

from isthmus.store.audit import Note
from isthmus.store.records import ANY_RUN, ENDED, Answer, Event, JobState, StoredJob
from isthmus.store.sql.lines import Lines
from isthmus.store.sql.tables import BYTES, NUMBER, TEXT, as_json, noun

JOB = noun(
    "job",
    row=NUMBER,
    id=TEXT,
    digest=BYTES,
    number=NUMBER,
    document=BYTES,
    name=TEXT,
    role=TEXT,
    label_owner=TEXT,
    state=TEXT,
    test_ids_path=TEXT,
    created_at=TEXT,
    changed_at=TEXT,
    error=TEXT,
    result=TEXT,
)
ANSWER = noun("answer", job=TEXT, party=TEXT, state=TEXT, signature=BYTES, code=TEXT)
EVENT = noun("event", id=NUMBER, job=TEXT, at=TEXT, kind=TEXT, party=TEXT, data=TEXT)
PAST_RUN = noun("past_run", digest=BYTES, number=NUMBER)


class Jobs(Lines):
    def add_job(self, job: StoredJob, answers: Collection[Answer], notes: Sequence[Note] = ()) -> bool:
        fields = {
            "id": job.id,
            "digest": job.digest,
            "number": job.number,
            "document": job.document,
            "name": job.name,
            "role": job.role,
            "label_owner": job.label_owner,
            "state": job.state,
            "test_ids_path": job.test_ids_path,
            "created_at": job.created_at.isoformat(),
            "changed_at": job.changed_at.isoformat(),
            "error": as_json(job.error),
            "result": as_json(job.result),
        }
        with self._write():
            if job.number <= self._past(job.digest):
                return False
            added = self._count(self._insert(JOB).values(**fields).on_conflict_do_nothing())
            if added:
                for answer in answers:
                    self._put_answer(job.id, answer)
                self._add_event(job.id, job.created_at, "job.state", "", {"state": job.state})
                self._add_lines(notes)
        return bool(added)

    def job(self, job_id: str) -> StoredJob | None:
        row = self._first(select(JOB).where(JOB.c.id == job_id))
        return _job(row) if row else None

    def jobs(self, limit: int = 50, before: str | None = None) -> list[StoredJob]:
        found = select(JOB)
        if before is not None:
            found = found.where(JOB.c.row < select(JOB.c.row).where(JOB.c.id == before).scalar_subquery())
        return [_job(row) for row in self._all(found.order_by(JOB.c.row.desc()).limit(limit))]

    def jobs_in(self, states: Collection[JobState]) -> list[StoredJob]:
        found = select(JOB).where(JOB.c.state.in_(states)).order_by(JOB.c.row)
        return [_job(row) for row in self._all(found)]

    def count_jobs(self) -> dict[JobState, int]:
        rows = self._all(
            select(JOB.c.state, func.count().label("jobs")).select_from(JOB).group_by(JOB.c.state)
        )
        return {row.state: row.jobs for row in rows}

    def runs_of(self, digest: bytes) -> int:
        known = self._execute(select(func.max(JOB.c.number)).where(JOB.c.digest == digest)).scalar()
        return max(known or 0, self._past(digest), self._past(ANY_RUN))

    def begin_runs_after(self, number: int) -> None:
        with self._write():
            self._pass_run(ANY_RUN, number)

    def _past(self, digest: bytes) -> int:
        found = self._first(select(PAST_RUN.c.number).where(PAST_RUN.c.digest == digest))
        return found.number if found else 0

    def _pass_run(self, digest: bytes, number: int) -> None:
        fields = {"number": max(number, self._past(digest))}
        put = self._insert(PAST_RUN).values(digest=digest, **fields)
        self._execute(put.on_conflict_do_update(index_elements=["digest"], set_=fields))

    def ended_before(self, at: datetime) -> list[StoredJob]:
        found = select(JOB).where(JOB.c.state.in_(ENDED), JOB.c.changed_at < at.isoformat())
        return [_job(row) for row in self._all(found.order_by(JOB.c.changed_at))]

    def remove_job(self, job_id: str, notes: Sequence[Note] = ()) -> bool:
        with self._write():
            job = self.job(job_id)
            if job is None or job.state not in ENDED:
                return False
            self._execute(delete(EVENT).where(EVENT.c.job == job_id))
            self._execute(delete(ANSWER).where(ANSWER.c.job == job_id))
            self._execute(delete(JOB).where(JOB.c.id == job_id))
            self._pass_run(job.digest, job.number)
            self._add_lines(notes)
        return True

    def move_job(
        self,
        job_id: str,
        since: Collection[JobState],
        to: JobState,
        at: datetime,
        *,
        error: dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
        answers: Sequence[Answer] = (),
        notes: Sequence[Note] = (),
    ) -> bool:
        move = update(JOB).where(JOB.c.id == job_id, JOB.c.state.in_(since))
        fields = {
            "state": to,
            "changed_at": at.isoformat(),
            "error": as_json(error),
            "result": as_json(result),
        }
        with self._write():
            moved = self._count(move.values(**fields))
            if moved:
                for answer in answers:
                    self._put_answer(job_id, answer)
                self._add_event(job_id, at, "job.state", "", {"state": to})
                self._add_lines(notes)
        return bool(moved)

    def put_answer(self, job_id: str, answer: Answer, notes: Sequence[Note] = ()) -> None:
        with self._write():
            self._put_answer(job_id, answer)
            self._add_lines(notes)

    def _put_answer(self, job_id: str, answer: Answer) -> None:
        fields = {"state": answer.state, "signature": answer.signature, "code": answer.code}
        put = self._insert(ANSWER).values(job=job_id, party=answer.party, **fields)
        self._execute(put.on_conflict_do_update(index_elements=["job", "party"], set_=fields))

    def answers(self, job_id: str) -> list[Answer]:
        rows = self._all(select(ANSWER).where(ANSWER.c.job == job_id).order_by(ANSWER.c.party))
        return [Answer(row.party, row.state, row.signature, row.code) for row in rows]

    def add_event(self, job_id: str, at: datetime, kind: str, party: str, data: dict[str, Any]) -> Event:
        with self._write():
            return self._add_event(job_id, at, kind, party, data)

    def _add_event(self, job_id: str, at: datetime, kind: str, party: str, data: dict[str, Any]) -> Event:
        fields = {"job": job_id, "at": at.isoformat(), "kind": kind, "party": party, "data": as_json(data)}
        number = self._execute(self._insert(EVENT).values(**fields).returning(EVENT.c.id)).scalar_one()
        return Event(number, job_id, at, kind, party, data)

    def events(self, job_id: str, after: int = 0, limit: int = 500) -> list[Event]:
        found = select(EVENT).where(EVENT.c.job == job_id, EVENT.c.id > after)
        return [
            Event(r.id, r.job, datetime.fromisoformat(r.at), r.kind, r.party, json.loads(r.data))
            for r in self._all(found.order_by(EVENT.c.id).limit(limit))
        ]


def _job(row: Row[Any]) -> StoredJob:
    return StoredJob(
        id=row.id,
        digest=row.digest,
        number=row.number,
        document=row.document,
        name=row.name,
        role=row.role,
        label_owner=row.label_owner,
        state=row.state,
        test_ids_path=row.test_ids_path,
        created_at=datetime.fromisoformat(row.created_at),
        changed_at=datetime.fromisoformat(row.changed_at),
        error=json.loads(row.error) if row.error else None,
        result=json.loads(row.result) if row.result else None,
    )
