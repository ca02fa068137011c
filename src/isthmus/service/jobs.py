"""The jobs of one node: proposed, accepted or refused, queued, run one at a time, and what both sides know of each.

A job runs at a node only after that node itself has signed it. What arrives on the link can move a job only along the path
that a person has opened here.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from isthmus.base.canonical import canonical_json
from isthmus.base.clock import Clock
from isthmus.base.document import read_document
from isthmus.base.errors import (
    ConfigError,
    DataError,
    IsthmusError,
    LineError,
    LocalError,
    PeerError,
    PolicyError,
)
from isthmus.base.progress import Step
from isthmus.base.record import STAGES
from isthmus.base.workers import in_thread
from isthmus.crypto.seal import PartyKey
from isthmus.jobs.consent import run_digest, sign, verify_consent
from isthmus.jobs.control import (
    Again,
    Ended,
    Go,
    Halted,
    HeadKept,
    HeadTold,
    Proposal,
    Reply,
    Start,
    Started,
    decode_control,
)
from isthmus.jobs.grant_messages import decode_grant
from isthmus.jobs.plan import Plan, make_plan
from isthmus.jobs.spec import JobFile, job_digest, parse_job, resolve
from isthmus.service.approvals import Approvals
from isthmus.service.audit import Audit, broken_rule
from isthmus.service.courses import Course, Following, Here, Leading, Lines, told
from isthmus.service.datasets import Datasets, known_columns
from isthmus.service.facts import facts_of, line_notes
from isthmus.service.grants import Grants
from isthmus.service.keys import lineage, signing_keys
from isthmus.service.measured import Measurements
from isthmus.service.offline import Offline
from isthmus.store.audit import AuditKind, Note, known_code
from isthmus.store.records import ENDED, STATES, Answer, JobState, Store, StoredDataset, StoredJob
from isthmus.table import file_digest
from isthmus.wire.channel import Line
from isthmus.wire.link import CONTROL
from isthmus.wire.message import Message

_log = logging.getLogger(__name__)

DISK_PAUSE_S = 1.0
PROPOSALS_MAX = 100
"""Open proposals of one partner; more are refused unseen."""


class Jobs:
    """Drives every job of this node. `measured` holds what is known of the lines, `folder_of` gives the folder of a job,
    `command` starts a worker."""

    def __init__(
        self,
        own: str,
        key: PartyKey,
        store: Store,
        datasets: Datasets,
        lines: Lines,
        measured: Measurements,
        audit: Audit,
        grants: Grants,
        approvals: Approvals,
        clock: Clock,
        folder_of: Callable[[str], Path],
        record_key: bytes,
        command: Sequence[str],
    ) -> None:
        self._own = own
        self._key = key
        self._store = store
        self._datasets = datasets
        self._lines = lines
        self._measured = measured
        self._audit = audit
        self._grants = grants
        self._approvals = approvals
        grants.speak(self._send, self._on_revoked)
        self._clock = clock
        self._courses: dict[str, Course] = {}
        self._here = Here(
            own,
            store,
            lines,
            audit,
            clock,
            folder_of,
            record_key,
            command,
            asyncio.Lock(),
            self._send,
            self._tell_head,
            self._check_start,
            self._still_allowed,
            grants.guard,
            self._marked,
        )
        self._outboxes: dict[str, asyncio.Queue[Message | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._runs = {_run_of(job): job.id for job in store.jobs_in(set(STATES))}

    # --- life ---

    def begin(self) -> None:
        """Goes on with what an earlier process of this node left behind; call it once, after the partners are known."""
        self._approvals.begin()
        self._spawn(Offline(self._store, self._lines, self._clock, self._courses).watch())
        for job in self._store.jobs_in({"queued", "running", "waiting"}):
            self._go_on(job)
        for job in self._store.jobs_in({"accepted"}):
            if job.role == "label_owner":
                self._enqueue(job)

    def talk_to(self, partner: str) -> None:
        """Opens the control channel to a confirmed partner, once, and says again what it may have missed."""
        if partner in self._outboxes:
            return
        outbox = self._outboxes[partner] = asyncio.Queue()
        line = self._lines.open(partner, CONTROL, 0)
        self._spawn(self._send_all(line, outbox))
        self._spawn(self._listen(line, partner, outbox))
        self._say_again(partner)

    def on_revoked(self, partner: str) -> None:
        """Stops every job that a partner which is trusted no more has a part in, tells it so, and says and hears nothing else."""
        for job in self._store.jobs_in(set(STATES) - ENDED - {"draft"}):
            if partner in _partners_of(job):
                self.stop(job.id)
        if (outbox := self._outboxes.pop(partner, None)) is not None:
            outbox.put_nowait(None)

    async def close(self) -> None:
        """Ends workers and waits for them; their jobs go on when the node runs again."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what people ask for ---

    def plan(self, text: bytes, assumed: int | None = None) -> Plan:
        """`assumed`: how many columns a partner has whose columns nobody named."""
        return self._plan(parse_job(read_document(text, "the job file")), assumed)

    def plan_of(self, job: StoredJob) -> Plan:
        return self._plan(_parse(job))

    def _plan(self, job: JobFile, assumed: int | None = None) -> Plan:
        plan = make_plan(job, facts_of(job, self._own, self._datasets, self._measured.last, assumed))
        notes = line_notes(job, self._own, plan.choice, self._datasets, self._measured, assumed)
        grants = self._grants.of_plan(job, plan.digest)
        return replace(plan, notes=(*plan.notes, *notes), grants=grants)

    async def propose(self, text: bytes, test_ids_path: str | None, assumed: int | None = None) -> StoredJob:
        """Checks the job against what this node has, signs it, and asks every feature owner."""
        plan = self.plan(text, assumed)
        job = parse_job(plan.resolved)
        if job.parties.label_owner != self._own:
            allowed = f"{self._own}: a job is proposed by its label owner"
            raise ConfigError(
                "out_of_bounds", field="parties.label_owner", value=job.parties.label_owner, allowed=allowed
            )
        self._check_day(job)
        for name in job.parties.feature_owners:
            partner = self._store.partner(name)
            if partner is None:
                raise ConfigError("not_found", what=f"partner {name}", list_command="isthmus partner ls")
            if not partner.confirmed:
                raise ConfigError("not_confirmed", partner=name)
        await self.check_own(job)
        if job.split.by == "ids":
            await self._check_test_ids(job, test_ids_path)
        number = self._store.runs_of(plan.digest) + 1
        now = self._clock.now()
        stored = StoredJob(
            id=job_id(plan.digest, number),
            digest=plan.digest,
            number=number,
            document=canonical_json(plan.resolved),
            name=job.metadata.name,
            role="label_owner",
            label_owner=self._own,
            state="proposed",
            test_ids_path=test_ids_path if job.split.by == "ids" else None,
            created_at=now,
            changed_at=now,
        )
        person = self._audit.person
        if self._approvals.four_eyes(stored):
            return self._draft(replace(stored, state="draft"), person)
        signature = sign(plan.digest, number, self._own, self._key)
        answers = [Answer(self._own, "accepted", signature)]
        answers += [Answer(name, "asked") for name in job.parties.feature_owners]
        notes = [
            self._note(AuditKind.JOB_PROPOSED, stored, person),
            self._note(AuditKind.CONSENT_SIGNED, stored, person),
        ]
        if not self._add(stored, answers, notes):
            raise ConfigError("already_there", what=f"job {stored.id}")
        for name in job.parties.feature_owners:
            self._send(name, Proposal(number, stored.document, signature))
            self._tell_head(name)
        return stored

    def _draft(self, stored: StoredJob, person: str) -> StoredJob:
        """Keeps a job that a second person of this party has to approve before it is signed and sent."""
        answers = [Answer(name, "asked") for name in _parse(stored).parties.all]
        if not self._add(stored, answers, [self._note(AuditKind.JOB_PROPOSED, stored, person)]):
            raise ConfigError("already_there", what=f"job {stored.id}")
        self._approvals.open(stored, person, (person,))
        return stored

    def _release(self, stored: StoredJob) -> StoredJob:
        """Signs and sends a draft that another person of this party approves."""
        self._check_day(_parse(stored))
        if self._approvals.yes(stored):
            signature = sign(stored.digest, stored.number, self._own, self._key)
            notes = [self._note(AuditKind.CONSENT_SIGNED, stored, self._audit.person)]
            answer, now = Answer(self._own, "accepted", signature), self._clock.now()
            self._store.move_job(stored.id, {"draft"}, "proposed", now, answers=[answer], notes=notes)
            for name in _parse(stored).parties.feature_owners:
                self._send(name, Proposal(stored.number, stored.document, signature))
                self._tell_head(name)
        return self.find(stored.id)

    async def accept(self, job_id: str, grant: bool = False) -> StoredJob:
        """Signs the hash, after checking the proposer's signature once more, the own dataset and that it is granted.

        `grant` gives a grant of one run for this job where none covers it. Where another person has to say yes too, the job
        stays as it is.
        """
        if self.find(job_id).state == "draft":
            return self._release(self.find(job_id))
        stored = self._proposed_to_us(job_id)
        job = _parse(stored)
        try:
            self._check_day(job)
        except PolicyError as error:
            self._audit.write(
                AuditKind.RULE_BROKEN,
                stored.id,
                digest=stored.digest.hex(),
                code=error.code,
                by=self._audit.person,
            )
            raise
        theirs = next(a for a in self._store.answers(stored.id) if a.party == stored.label_owner)
        self._verify(stored, stored.label_owner, theirs.signature or b"")
        await self.check_own(job)
        self._grants.check(stored, giving=grant)
        if not self._approvals.yes(stored):
            return self.find(stored.id)
        if grant:
            self._grants.give_for(stored)
        signature = sign(stored.digest, stored.number, self._own, self._key)
        person = self._audit.person
        notes = [
            self._note(AuditKind.JOB_ACCEPTED, stored, person),
            self._note(AuditKind.CONSENT_SIGNED, stored, person),
        ]
        answer, now = Answer(self._own, "accepted", signature), self._clock.now()
        if not self._store.move_job(stored.id, {"proposed"}, "accepted", now, answers=[answer], notes=notes):
            raise self._conflict(stored.id, "proposed")
        self._send(stored.label_owner, Reply(_run_of(stored), True, signature, ""))
        self._tell_head(stored.label_owner)
        return self.find(stored.id)

    def refuse(self, job_id: str, reason: str = "") -> StoredJob:
        """Says no to a proposed job, or to a draft of the own party. The reason stays here."""
        if self.find(job_id).state == "draft":
            return self._drop(self.find(job_id), reason)
        stored = self._proposed_to_us(job_id)
        self._approvals.no(stored, reason)
        error = told(PolicyError("refused", party=self._own))
        notes = [self._note(AuditKind.JOB_REFUSED, stored, self._audit.person, "refused")]
        answer, now = Answer(self._own, "refused", code="refused"), self._clock.now()
        if not self._store.move_job(
            stored.id, {"proposed"}, "refused", now, error=error, answers=[answer], notes=notes
        ):
            raise self._conflict(stored.id, "proposed")
        self._send(stored.label_owner, Reply(_run_of(stored), False, b"", "refused"))
        self._tell_head(stored.label_owner)
        return self.find(stored.id)

    def _drop(self, stored: StoredJob, reason: str) -> StoredJob:
        self._approvals.no(stored, reason)
        error = told(PolicyError("approval_refused", job=stored.id, party=self._own))
        notes = [self._note(AuditKind.JOB_REFUSED, stored, self._audit.person, "approval_refused")]
        answer, now = Answer(self._own, "refused", code="approval_refused"), self._clock.now()
        self._store.move_job(stored.id, {"draft"}, "refused", now, error=error, answers=[answer], notes=notes)
        return self.find(stored.id)

    def find(self, job_id: str) -> StoredJob:
        job = self._store.job(job_id)
        if job is None:
            raise ConfigError("not_found", what=f"job {job_id[:64]}", list_command="isthmus job ls")
        return job

    def step(self, job_id: str) -> Step | None:
        """Where a running job stands."""
        course = self._courses.get(job_id)
        return course.step if course else None

    def pause(self, job_id: str) -> StoredJob:
        """Ends the attempt that is under way; the job goes on from its last barrier once this node resumes it."""
        error = PolicyError("paused", party=self._own)
        return self._halt(job_id, "paused", error, AuditKind.JOB_PAUSED, {"queued", "running", "waiting"})

    def stop(self, job_id: str) -> StoredJob:
        """Ends the job at every party. Only this node can resume it."""
        since: set[JobState] = {"proposed", "accepted", "queued", "running", "waiting", "paused"}
        return self._halt(
            job_id, "stopped", PolicyError("stopped", party=self._own), AuditKind.JOB_STOPPED, since
        )

    def _halt(
        self, job_id: str, to: JobState, error: PolicyError, kind: AuditKind, since: set[JobState]
    ) -> StoredJob:
        job = self.find(job_id)
        notes = [self._note(kind, job, self._audit.person)]
        now = self._clock.now()
        if not self._store.move_job(job.id, since, to, now, error=told(error), notes=notes):
            raise self._conflict(job.id, "one that can be " + to)
        course = self._courses.get(job.id)
        if course is not None:
            course.halt(error, to)
        for name in _partners_of(job):
            if to == "stopped":
                self._send(name, Ended(_run_of(job), to))
            self._tell_head(name)
        return self.find(job.id)

    async def resume(self, job_id: str, stage: str | None = None) -> StoredJob:
        """Goes on with a job that is paused, failed, or was stopped by this node. With `stage`, at its label owner, all from
        that stage on is done again. Also the word of a person that a side which was rewound may go on."""
        job = self.find(job_id)
        if stage is not None and (job.role != "label_owner" or stage not in STAGES):
            allowed = ", ".join(STAGES) + ", at the label owner"
            raise ConfigError("out_of_bounds", field="stage", value=stage, allowed=allowed)
        theirs = job.state == "stopped" and (job.error or {}).get("fields", {}).get("party") != self._own
        if theirs or not self._consented(job):
            raise self._conflict(job.id, "paused or stopped here, or failed, and signed by every party")
        await self._check_start(job)
        notes = [self._note(AuditKind.JOB_RESUMED, job, self._audit.person)]
        since: set[JobState] = {"paused", "failed", "stopped"}
        if not self._store.move_job(job.id, since, "queued", self._clock.now(), notes=notes):
            raise self._conflict(job.id, "paused, failed or stopped")
        self._go_on(self.find(job.id), agreed=True, stage=stage)
        if job.role == "feature_owner":
            self._send(job.label_owner, Again(_run_of(job)))
        return self.find(job.id)

    async def clone(self, job_id: str) -> StoredJob:
        """Proposes the same file as its next run, which every party signs anew."""
        job = self.find(job_id)
        if job.role != "label_owner":
            raise self._conflict(job_id, "one that this node has proposed")
        return await self.propose(job.document, job.test_ids_path)

    def _consented(self, job: StoredJob) -> bool:
        """Whether this node holds its own signature and, as label owner, those of all."""
        answers = {a.party: a.signature for a in self._store.answers(job.id)}
        return all(answers.values()) if job.role == "label_owner" else bool(answers.get(self._own))

    # --- checks ---

    async def check_own(self, job: JobFile) -> StoredDataset:
        """The own dataset of a job: registered, unchanged, with the columns that the job names."""
        given = job.inputs[self._own]
        dataset = self._datasets.find(given.dataset)
        await self._datasets.check_unchanged(dataset)
        known = known_columns(dataset)
        needed = [given.key.column, *given.columns.categorical, *given.columns.numeric]
        if self._own == job.parties.label_owner:
            needed.append(job.sample.label)
        for column in needed:
            if column not in known:
                shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
                raise DataError("missing_column", file=dataset.title, column=column, known=shown)
        return dataset

    def _check_day(self, job: JobFile) -> None:
        day = job.metadata.valid_until
        if day is not None and day < self._clock.now().date().isoformat():
            raise PolicyError("expired", day=day)

    async def _check_test_ids(self, job: JobFile, path: str | None) -> None:
        if path is None:
            raise ConfigError("missing_field", where="the request", field="test_ids_path")
        file = self._datasets.allowed_file(path)
        if await in_thread(file_digest, file) != job.split.test_ids_sha256:
            raise DataError("dataset_changed", file=file.name)

    def _proposed_to_us(self, job_id: str) -> StoredJob:
        job = self.find(job_id)
        if job.role != "feature_owner" or job.state != "proposed":
            raise self._conflict(job_id, "proposed by a partner")
        return job

    def _conflict(self, job_id: str, needed: str) -> ConfigError:
        job = self.find(job_id)
        state = f"{job.state} ({job.role.replace('_', ' ')})"
        show = f"isthmus job show {job_id}"
        return ConfigError("conflict", what=job_id, state=state, needed=needed, show_command=show)

    def _verify(self, job: StoredJob, party: str, signature: bytes) -> None:
        partner = self._store.partner(party)
        if partner is None or not partner.confirmed:
            raise ConfigError("not_confirmed", partner=party)
        if signature in [a.signature for a in self._store.answers(job.id) if a.party == party]:
            keys = lineage(
                self._store, party, partner.public_key
            )  # it held when it came, whatever key counts now
        else:
            keys = signing_keys(self._store, partner, self._clock)
        verify_consent(job.digest, job.number, party, keys, signature)

    def _note(self, kind: AuditKind, job: StoredJob, by: str = "", code: str = "") -> Note:
        return self._audit.note(kind, job.id, by=by, digest=job.digest.hex(), code=code)

    # --- talk between nodes ---

    def _send(self, partner: str, message: Message) -> None:
        outbox = self._outboxes.get(partner)
        if outbox is not None:
            outbox.put_nowait(message)

    def _tell_head(self, partner: str) -> None:
        """The end of the own audit log, to be kept there; also to others whom it has outgrown by far."""
        for name in {partner, *filter(self._audit.due, self._outboxes)} & set(self._outboxes):
            head = self._audit.head(name)
            if head is not None:
                self._send(name, head)

    async def _send_all(self, line: Line, outbox: asyncio.Queue[Message | None]) -> None:
        while (message := await outbox.get()) is not None:
            try:
                await line.put(message.encode())
            except LineError as error:
                if error.code == "closed":
                    return
        await line.close()

    async def _listen(self, line: Line, partner: str, outbox: asyncio.Queue[Message | None]) -> None:
        while True:
            try:
                body = await line.get()
                if self._outboxes.get(partner) is not outbox:
                    return
                await self._take_surely(partner, body)
            except LineError as error:
                if error.code == "closed":
                    return
                self._partner_restarted(partner, error)
            except IsthmusError as error:
                _log.warning("%s on the control channel of %s: dropped", error.code, partner)
                if broken_rule(error):
                    with suppress(LocalError):  # a full disk must not end the conversation
                        self._audit.write_once(AuditKind.RULE_BROKEN, "control", partner, error.code)

    async def _take_surely(self, partner: str, body: bytes) -> None:
        """What has come is on nobody's record but this node's: while its disk is full, it is tried again."""
        while True:
            try:
                await self._take(partner, body)
                return
            except LocalError as error:
                if error.code not in ("disk_full", "disk_error"):
                    raise
                await self._clock.sleep(DISK_PAUSE_S)

    async def _take(self, partner: str, body: bytes) -> None:
        said = decode_grant(body)
        if said is not None:
            self._grants.take(partner, said)
            return
        message = decode_control(body)
        match message:
            case Proposal() as proposal:
                self._on_proposal(partner, proposal)
            case Reply() as reply:
                self._on_reply(partner, reply)
            case Start(run):
                self._on_start(partner, message, self._by_run(run, partner))
            case Started(run):
                if isinstance(course := self._course_of(run, partner), Leading):
                    course.on_started(partner, message)
            case Go(run):
                if isinstance(course := self._course_of(run, partner), Following):
                    course.on_go(message)
            case Halted(run):
                match self._course_of(run, partner):
                    case Leading() as leading:
                        leading.on_halted(partner, message)
                    case Following() as following:
                        following.on_halted(message)
            case Again(run):
                self._on_again(partner, self._by_run(run, partner))
            case Ended(run, code):
                self._on_ended(partner, run, code)
            case HeadTold() as head:
                known = self._store.partner(partner)
                keys = signing_keys(self._store, known, self._clock) if known else ()
                for kept in self._audit.on_told(partner, keys, head):
                    self._send(partner, kept)
            case HeadKept() as kept:
                self._audit.on_kept(partner, kept)

    def _on_proposal(self, partner: str, proposal: Proposal) -> None:
        try:
            document = read_document(proposal.document, "the proposal")
            job = parse_job(document)
            if canonical_json(resolve(job)) != proposal.document:
                raise PeerError("bad_message", why="the proposal is not a resolved job file")
            parties = job.parties
            if parties.label_owner != partner or self._own not in parties.feature_owners:
                raise PeerError("bad_message", why="the proposal is for other parties")
        except ConfigError:
            raise PeerError("bad_message", why="the proposal is not a job file") from None
        now, digest = self._clock.now(), job_digest(document)
        stored = StoredJob(
            id=job_id(digest, proposal.number),
            digest=digest,
            number=proposal.number,
            document=proposal.document,
            name=job.metadata.name,
            role="feature_owner",
            label_owner=partner,
            state="proposed",
            test_ids_path=None,
            created_at=now,
            changed_at=now,
        )
        self._verify(stored, partner, proposal.signature)
        known = self._by_run(_run_of(stored), partner)
        if known is None:
            waiting = [j for j in self._store.jobs_in({"proposed"}) if j.label_owner == partner]
            if len(waiting) >= PROPOSALS_MAX:
                self._audit.write_once(AuditKind.JOB_REFUSED, "control", partner, "busy")
                self._send(partner, Reply(_run_of(stored), False, b"", "busy"))
                return
            answers = [Answer(partner, "accepted", proposal.signature)]
            answers += [Answer(name, "asked") for name in job.parties.feature_owners]
            self._add(stored, answers, [self._note(AuditKind.JOB_PROPOSED, stored, partner)])
            self._approvals.open(stored, partner)
            self._tell_head(partner)
        else:
            self._reply_again(known)

    def _on_reply(self, partner: str, reply: Reply) -> None:
        job = self._by_run(reply.run, partner)
        if job is None or job.role != "label_owner":
            return
        if job.state == "accepted":
            self._enqueue(job)  # the disk was full just then, and this is heard again
        if job.state != "proposed":
            return
        answers = {a.party: a for a in self._store.answers(job.id)}
        if partner not in answers or answers[partner].state not in ("asked", "accepted"):
            return
        if not reply.accepted:
            code = reply.code or "refused"
            answer = Answer(partner, "refused", code=code)
            error = PolicyError("refused", party=partner)
            notes = [self._note(AuditKind.JOB_REFUSED, job, partner, known_code(code))]
            now = self._clock.now()
            self._store.move_job(
                job.id, {"proposed"}, "refused", now, error=told(error), answers=[answer], notes=notes
            )
            self._tell_head(partner)
            for other in answers:
                if other not in (self._own, partner):
                    self._send(other, Ended(reply.run, "refused"))
            return
        self._verify(job, partner, reply.signature)
        if answers[partner].state == "asked":
            answers[partner] = Answer(partner, "accepted", reply.signature)
            notes = [self._note(AuditKind.JOB_ACCEPTED, job, partner)]
            self._store.put_answer(job.id, answers[partner], notes)
            self._tell_head(partner)
        if all(a.state == "accepted" for a in answers.values()):
            self._store.move_job(job.id, {"proposed"}, "accepted", self._clock.now())
            self._enqueue(job)

    def _on_start(self, partner: str, start: Start, job: StoredJob | None) -> None:
        if job is None or job.role != "feature_owner" or not self._consented(job):
            return
        stopped_there = job.state == "stopped" and (job.error or {})["fields"].get("party") == partner
        if job.state in ("accepted", "failed") or stopped_there:
            # Both have signed this run; what ended it has been put right at the label owner.
            since: set[JobState] = {"accepted", "failed", "stopped"}
            self._store.move_job(job.id, since, "queued", self._clock.now())
            job = self.find(job.id)
        course = self._courses.get(job.id)
        if course is not None and course.halted:
            course = None
        if course is None and job.state in ("queued", "running", "waiting"):
            course = self._go_on(job)
        if isinstance(course, Following):
            course.on_start(start)
        elif job.state == "paused":
            self._send(partner, Halted(start.run, start.attempt, "paused", 0, 0))
        elif job.state in ENDED:
            self._send(partner, Ended(start.run, _ending_of(job)))

    def _on_again(self, partner: str, job: StoredJob | None) -> None:
        if job is None or job.role != "label_owner":
            return
        course = self._courses.get(job.id)
        if isinstance(course, Leading):
            course.on_again(partner)
        elif job.state in ENDED:
            self._send(partner, Ended(_run_of(job), _ending_of(job)))

    def _on_ended(self, partner: str, run: bytes, code: str) -> None:
        job = self._by_run(run, partner)
        if job is None:
            return
        if code:
            for answer in self._marked(job, [partner], code):
                self._store.put_answer(job.id, answer)
        if job.state in ENDED:
            return
        course = self._courses.get(job.id)
        if not code:
            if isinstance(course, Leading):
                course.on_finished(partner)
            elif isinstance(course, Following):
                course.close()
            return
        if job.role == "label_owner" and job.state == "proposed" and code != "stopped":
            return
        to: JobState = "failed"
        error: IsthmusError = PeerError("partner_failed", code=code, partner=partner)
        kind = AuditKind.JOB_FAILED
        if code == "stopped":
            to, error, kind = "stopped", PolicyError("stopped", party=partner), AuditKind.JOB_STOPPED
        elif code == "refused":
            to, kind = "refused", AuditKind.JOB_REFUSED
        if to == "failed" and course is not None and course.working:
            # What this side knows of it comes first: perhaps the partner only failed because of us.
            course.partner_failed(error)
            return
        notes = [self._note(kind, job, partner, known_code(code))]
        since: set[JobState] = {"proposed", "accepted", "queued", "running", "waiting", "paused"}
        marks, now = self._marked(job, [self._own], error.code), self._clock.now()
        if self._store.move_job(job.id, since, to, now, error=told(error), answers=marks, notes=notes):
            if course is not None:
                course.halt(error)
            for name in set(_partners_of(job)) - {partner}:
                self._send(name, Ended(run, code))
            self._tell_head(partner)

    def _partner_restarted(self, partner: str, error: LineError) -> None:
        for course in list(self._courses.values()):
            if partner in course.partners:
                course.interrupt(error)
        self._say_again(partner)

    def _say_again(self, partner: str) -> None:
        """Heads of both logs, proposals without an answer, answers that may have been lost, jobs that could go on."""
        for kept in self._audit.held(partner):
            self._send(partner, kept)
        self._tell_head(partner)
        self._grants.say_again(partner)
        for job in self._store.jobs_in({"proposed", "accepted"}):
            answers = {a.party: a for a in self._store.answers(job.id)}
            if job.role == "label_owner" and partner in answers and answers[partner].state == "asked":
                signature = answers[self._own].signature or b""
                self._send(partner, Proposal(job.number, job.document, signature))
            elif job.role == "feature_owner" and job.label_owner == partner:
                self._reply_again(job)
        for job in self._store.jobs_in({"queued", "running", "waiting"}):
            if job.role == "feature_owner" and job.label_owner == partner:
                self._send(partner, Again(_run_of(job)))

    def _reply_again(self, job: StoredJob) -> None:
        own = next(a for a in self._store.answers(job.id) if a.party == self._own)
        if own.signature and job.state == "accepted":
            self._send(job.label_owner, Reply(_run_of(job), True, own.signature, ""))
        elif own.state == "refused":
            self._send(job.label_owner, Reply(_run_of(job), False, b"", own.code or "refused"))

    def _add(self, job: StoredJob, answers: Sequence[Answer], notes: Sequence[Note]) -> bool:
        added = self._store.add_job(job, answers, notes)
        if added:
            self._runs[_run_of(job)] = job.id
        return added

    def _by_run(self, run: bytes, partner: str) -> StoredJob | None:
        """The job of this run in which `partner` takes part as the other role."""
        job = self._store.job(self._runs[run]) if run in self._runs else None
        if job is None:
            return None
        if job.role == "feature_owner":
            return job if job.label_owner == partner else None
        return job if partner in _parse(job).parties.feature_owners else None

    def _course_of(self, run: bytes, partner: str) -> Course | None:
        """The course of this run, in which `partner` takes part."""
        for course in self._courses.values():
            if not course.halted and course.run == run and partner in course.partners:
                return course
        return None

    # --- running ---

    def _enqueue(self, job: StoredJob) -> None:
        if self._store.move_job(job.id, {"accepted"}, "queued", self._clock.now()):
            self._go_on(job)

    def _go_on(self, job: StoredJob, agreed: bool = False, stage: str | None = None) -> Course:
        leads = job.role == "label_owner"
        course = Leading(self._here, job, agreed, stage) if leads else Following(self._here, job)
        before = self._courses.get(job.id)
        self._courses[job.id] = course
        self._spawn(self._follow(course, before), course)
        return course

    async def _follow(self, course: Course, before: Course | None) -> None:
        if before is not None:
            await before.over.wait()
        try:
            await course.follow()
        finally:
            course.over.set()
            if self._courses.get(course.id) is course:
                del self._courses[course.id]

    async def _check_start(self, job: StoredJob) -> StoredDataset:
        """What must hold before every attempt: approved, granted, the run counted, the table unchanged."""
        self._approvals.check(job)
        self._grants.start(job)
        return await self.check_own(_parse(job))

    def _still_allowed(self, job: StoredJob) -> IsthmusError | None:
        """What has come in the way of a running job; asked at every barrier."""
        return self._grants.still_covers(job)

    def _on_revoked(self, partner: str, dataset: str) -> None:
        """A grant was taken back: what runs under it ends, with `grant_revoked` at both sides."""
        for course in list(self._courses.values()):
            error = self._grants.still_covers(self.find(course.id))
            if error is not None:
                course.interrupt(error)
                course.wake()

    def _marked(self, job: StoredJob, parties: Collection[str], code: str | None) -> list[Answer]:
        """Where these parties stand: running (None), done (empty) or failed with a code; their consent is kept."""
        known = [a for a in self._store.answers(job.id) if a.party in parties and a.state != "refused"]
        if code is None:
            return [replace(a, state="running") for a in known]
        return [replace(a, state="failed" if code else "done", code=code or None) for a in known]

    def _spawn(self, work: Coroutine[Any, Any, None], course: Course | None = None) -> None:
        if self._closing:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._reap(ended, course))

    def _reap(self, task: asyncio.Task[None], course: Course | None) -> None:
        """A course that ended with a defect of ours must not leave its job waiting for ever."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            frames = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s\n%s", type(error).__name__, frames)
            if course is not None:
                course.fail(LocalError("bug", why=type(error).__name__))


def job_id(digest: bytes, number: int) -> str:
    """The same at every party: `j-` and 40 bits of the hash; later runs of one file end in their number."""
    short = base64.b32encode(digest[:5]).decode().lower()
    return f"j-{short}" if number == 1 else f"j-{short}-{number}"


def _parse(job: StoredJob) -> JobFile:
    return parse_job(read_document(job.document, "the job file"))


def _run_of(job: StoredJob) -> bytes:
    return run_digest(job.digest, job.number)


def _partners_of(job: StoredJob) -> tuple[str, ...]:
    parties = _parse(job).parties
    return tuple(parties.feature_owners) if job.role == "label_owner" else (job.label_owner,)


def _ending_of(job: StoredJob) -> str:
    """The code that tells a partner how a job has ended here; empty when it is done."""
    return "" if job.state == "done" else str((job.error or {}).get("code", job.state))
