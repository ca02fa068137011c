"""A store that forgets when the process ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from isthmus.store.agreements_memory import AgreementsInMemory
from isthmus.store.audit import AuditLine, KeptHead, Note
from isthmus.store.memory_users import MemoryUsers
from isthmus.store.records import (
    ANY_RUN,
    ENDED,
    HEADS_MAX,
    Answer,
    Event,
    Invitation,
    JobState,
    KeptReply,
    KnownKey,
    StoredDataset,
    StoredJob,
    StoredPartner,
)


class MemoryStore(MemoryUsers, AgreementsInMemory):
    """The store in plain maps."""

    def __init__(self) -> None:
        MemoryUsers.__init__(self)
        AgreementsInMemory.__init__(self)
        self._partners: dict[str, StoredPartner] = {}
        self._known_keys: dict[tuple[str, bytes], KnownKey] = {}
        self._invitations: dict[str, Invitation] = {}
        self._datasets: dict[tuple[str, int], StoredDataset] = {}
        self._jobs: dict[str, StoredJob] = {}
        self._answers: dict[str, dict[str, Answer]] = {}
        self._past_runs: dict[bytes, int] = {}
        self._events: list[Event] = []
        self._last_event = 0
        self._lines: list[AuditLine] = []
        self._heads: dict[tuple[str, str, int, bytes], KeptHead] = {}
        self._keys: dict[str, KeptReply] = {}

    def put_partner(self, partner: StoredPartner, notes: Sequence[Note] = ()) -> None:
        self._partners[partner.name] = partner
        self.add_lines(notes)

    def partner(self, name: str) -> StoredPartner | None:
        return self._partners.get(name)

    def partners(self, after: str = "", limit: int = -1) -> list[StoredPartner]:
        found = [self._partners[name] for name in sorted(self._partners) if name > after]
        return found if limit < 0 else found[:limit]

    def known_keys(self, party: str | None = None) -> list[KnownKey]:
        return sorted((k for k in self._known_keys.values() if party in (None, k.party)), key=lambda k: k.at)

    def change_keys(
        self,
        notes: Sequence[Note],
        *,
        put: Sequence[KnownKey] = (),
        drop: Sequence[tuple[str, bytes]] = (),
        partner: StoredPartner | None = None,
        gone: Collection[str] = (),
        void_invitations: bool = False,
    ) -> None:
        for dropped in drop:
            self._known_keys.pop(dropped, None)
        self._known_keys |= {(key.party, key.public_key): key for key in put}
        for name in gone:
            self._partners.pop(name, None)
        if partner is not None:
            self._partners[partner.name] = partner
        if void_invitations:
            self._invitations.clear()
        self.add_lines(notes)

    def put_invitation(self, invitation: Invitation, notes: Sequence[Note] = ()) -> None:
        self._invitations[invitation.id] = invitation
        self.add_lines(notes)

    def invitation(self, invitation_id: str) -> Invitation | None:
        return self._invitations.get(invitation_id)

    def spend_invitation(
        self, invitation_id: str, partner: StoredPartner, notes: Sequence[Note] = ()
    ) -> bool:
        if self._invitations.pop(invitation_id, None) is None:
            return False
        self.put_partner(partner, notes)
        return True

    def add_dataset(
        self,
        name: str,
        path: str,
        sha256: str,
        options: dict[str, Any],
        profile: dict[str, Any],
        at: datetime,
        notes: Sequence[Note] = (),
    ) -> StoredDataset:
        version = 1 + max((v for n, v in self._datasets if n == name), default=0)
        dataset = StoredDataset(name, version, path, sha256, options, profile, at)
        self._datasets[name, version] = dataset
        self.add_lines(notes)
        return dataset

    def dataset(self, name: str, version: int) -> StoredDataset | None:
        return self._datasets.get((name, version))

    def datasets(self, after: tuple[str, int] = ("", 0), limit: int = -1) -> list[StoredDataset]:
        found = [self._datasets[key] for key in sorted(self._datasets) if key > after]
        return found if limit < 0 else found[:limit]

    def add_job(self, job: StoredJob, answers: Collection[Answer], notes: Sequence[Note] = ()) -> bool:
        taken = any((j.digest, j.number) == (job.digest, job.number) for j in self._jobs.values())
        if taken or job.id in self._jobs or job.number <= self._past_runs.get(job.digest, 0):
            return False
        self._jobs[job.id] = job
        self._answers[job.id] = {a.party: a for a in answers}
        self.add_event(job.id, job.created_at, "job.state", "", {"state": job.state})
        self.add_lines(notes)
        return True

    def job(self, job_id: str) -> StoredJob | None:
        return self._jobs.get(job_id)

    def jobs(self, limit: int = 50, before: str | None = None) -> list[StoredJob]:
        newest = list(self._jobs)[::-1]
        if before is not None:
            newest = newest[newest.index(before) + 1 :] if before in self._jobs else []
        return [self._jobs[job_id] for job_id in newest[:limit]]

    def jobs_in(self, states: Collection[JobState]) -> list[StoredJob]:
        return [job for job in self._jobs.values() if job.state in states]

    def count_jobs(self) -> dict[JobState, int]:
        return dict(Counter(job.state for job in self._jobs.values()))

    def runs_of(self, digest: bytes) -> int:
        known = [job.number for job in self._jobs.values() if job.digest == digest]
        return max(0, *known, *(self._past_runs.get(run, 0) for run in (digest, ANY_RUN)))

    def begin_runs_after(self, number: int) -> None:
        self._pass_run(ANY_RUN, number)

    def _pass_run(self, digest: bytes, number: int) -> None:
        self._past_runs[digest] = max(number, self._past_runs.get(digest, 0))

    def ended_before(self, at: datetime) -> list[StoredJob]:
        found = [job for job in self._jobs.values() if job.state in ENDED and job.changed_at < at]
        return sorted(found, key=lambda job: job.changed_at)

    def remove_job(self, job_id: str, notes: Sequence[Note] = ()) -> bool:
        job = self._jobs.get(job_id)
        if job is None or job.state not in ENDED:
            return False
        del self._jobs[job_id], self._answers[job_id]
        self._events = [event for event in self._events if event.job != job_id]
        self._pass_run(job.digest, job.number)
        self.add_lines(notes)
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
        job = self._jobs.get(job_id)
        if job is None or job.state not in since:
            return False
        self._jobs[job_id] = replace(job, state=to, changed_at=at, error=error, result=result)
        self._answers[job_id].update({answer.party: answer for answer in answers})
        self.add_event(job_id, at, "job.state", "", {"state": to})
        self.add_lines(notes)
        return True

    def put_answer(self, job_id: str, answer: Answer, notes: Sequence[Note] = ()) -> None:
        self._answers[job_id][answer.party] = answer
        self.add_lines(notes)

    def answers(self, job_id: str) -> list[Answer]:
        found = self._answers.get(job_id, {})
        return [found[party] for party in sorted(found)]

    def add_event(self, job_id: str, at: datetime, kind: str, party: str, data: dict[str, Any]) -> Event:
        self._last_event += 1
        event = Event(self._last_event, job_id, at, kind, party, data)
        self._events.append(event)
        return event

    def events(self, job_id: str, after: int = 0, limit: int = 500) -> list[Event]:
        return [e for e in self._events if e.job == job_id and e.id > after][:limit]

    def add_lines(self, notes: Sequence[Note]) -> None:
        for note in notes:
            self._lines.append(note.after(self.last_line()))

    def audit(self, after: int = 0, limit: int = 500, since: datetime | None = None) -> list[AuditLine]:
        first = since.isoformat() if since else ""
        return [line for line in self._lines if line.number > after and line.at >= first][:limit]

    def last_line(self) -> AuditLine | None:
        return self._lines[-1] if self._lines else None

    def put_head(self, kept: KeptHead, notes: Sequence[Note] = ()) -> bool:
        key = (kept.partner, kept.whose, kept.head.number, kept.head.digest)
        if key in self._heads:
            return False
        self._heads[key] = kept
        same = sorted(found for found in self._heads if found[:2] == key[:2])
        for found in same[:-HEADS_MAX]:
            del self._heads[found]
        self.add_lines(notes)
        return True

    def heads(self) -> list[KeptHead]:
        return list(self._heads.values())

    def claim_key(self, claim: KeptReply, since: datetime) -> KeptReply | None:
        self._keys = {key: kept for key, kept in self._keys.items() if kept.at >= since}
        if claim.key in self._keys:
            return self._keys[claim.key]
        self._keys[claim.key] = claim
        return None

    def keep_reply(self, key: str, status: int, body: bytes) -> None:
        self._keys[key] = replace(self._keys[key], status=status, body=body)

    def free_key(self, key: str) -> None:
        del self._keys[key]

    def answers_now(self) -> bool:
        return True

    def close(self) -> None:
        pass
