"""The jobs of one node: proposed, accepted or refused, queued, run one at a time, and what both sides know of each.

A job runs at a node only after that node itself has signed it. What arrives on the link can move a job only along the path
that a person has opened here.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from isthmus.base.canonical import canonical_json
from isthmus.base.clock import Clock
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
from isthmus.base.workers import in_thread
from isthmus.crypto.seal import PartyKey
from isthmus.jobs.consent import run_digest, sign, verify_consent
from isthmus.jobs.control import (
    Ended,
    HeadKept,
    HeadTold,
    Proposal,
    Reply,
    Start,
    Started,
    decode_control,
)
from isthmus.jobs.document import read_document
from isthmus.jobs.instruction import Instruction
from isthmus.jobs.plan import Plan, make_plan
from isthmus.jobs.spec import JobFile, job_digest, parse_job, resolve
from isthmus.service.audit import Audit, broken_rule
from isthmus.service.datasets import Datasets, known_columns
from isthmus.service.facts import facts_of, line_notes
from isthmus.service.measured import Measurements
from isthmus.service.running import run_worker
from isthmus.store.audit import AuditKind, Note, known_code
from isthmus.store.records import Answer, JobState, Store, StoredDataset, StoredJob
from isthmus.table import file_digest
from isthmus.wire.channel import Line
from isthmus.wire.link import CONTROL
from isthmus.wire.message import Message

_log = logging.getLogger(__name__)

PROPOSALS_MAX = 100
"""Open proposals of one partner; more are refused unseen."""


class Lines(Protocol):
    """What jobs need of the link."""

    def open(self, partner_name: str, job_digest: bytes, number: int = 0) -> Line: ...


@dataclass(slots=True)
class _Run:
    """What a node keeps in memory of a job that waits or runs."""

    step: Step | None = None
    started: dict[str, asyncio.Future[None]] | None = None
    halt: asyncio.Future[IsthmusError] | None = None


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
        clock: Clock,
        folder_of: Callable[[str], Path],
        command: Sequence[str],
    ) -> None:
        self._own = own
        self._key = key
        self._store = store
        self._datasets = datasets
        self._lines = lines
        self._measured = measured
        self._audit = audit
        self._clock = clock
        self._folder_of = folder_of
        self._command = command
        self._slot = asyncio.Lock()
        self._runs: dict[str, _Run] = {}
        self._outboxes: dict[str, asyncio.Queue[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # --- life ---

    def begin(self) -> None:
        """Puts right what an earlier process of this node left behind; call it once, after the partners are known."""
        for job in self._store.jobs_in({"running"}):
            self._fail(job, LocalError("worker_killed", why="the node was restarted"), {"running"})
        for job in self._store.jobs_in({"queued"}):
            if job.role == "label_owner":
                self._spawn(self._lead(job), job)
            else:
                self._fail(job, LocalError("worker_killed", why="the node was restarted"), {"queued"})
        for job in self._store.jobs_in({"accepted"}):
            if job.role == "label_owner":
                self._enqueue(job)

    def talk_to(self, partner: str) -> None:
        """Opens the control channel to a confirmed partner, once, and says again what it may have missed."""
        if partner in self._outboxes:
            return
        self._outboxes[partner] = asyncio.Queue()
        line = self._lines.open(partner, CONTROL, 0)
        self._spawn(self._send_all(line, self._outboxes[partner]))
        self._spawn(self._listen(line, partner))
        self._say_again(partner)

    async def close(self) -> None:
        """Ends workers and waits for them; their jobs have failed, and the partners are told."""
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
        return replace(plan, notes=(*plan.notes, *notes))

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
        signature = sign(plan.digest, number, self._own, self._key)
        answers = [Answer(self._own, "accepted", signature)]
        answers += [Answer(name, "asked") for name in job.parties.feature_owners]
        person = self._audit.person
        notes = [
            self._note(AuditKind.JOB_PROPOSED, stored, person),
            self._note(AuditKind.CONSENT_SIGNED, stored, person),
        ]
        if not self._store.add_job(stored, answers, notes):
            raise ConfigError("already_there", what=f"job {stored.id}")
        for name in job.parties.feature_owners:
            self._send(name, Proposal(number, stored.document, signature))
            self._tell_head(name)
        return stored

    async def accept(self, job_id: str) -> StoredJob:
        """Signs the hash, after checking the proposer's signature once more and the own dataset."""
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
        signature = sign(stored.digest, stored.number, self._own, self._key)
        person = self._audit.person
        notes = [
            self._note(AuditKind.JOB_ACCEPTED, stored, person),
            self._note(AuditKind.CONSENT_SIGNED, stored, person),
        ]
        if not self._store.move_job(stored.id, {"proposed"}, "accepted", self._clock.now(), notes=notes):
            raise self._conflict(stored.id, "proposed")
        self._store.put_answer(stored.id, Answer(self._own, "accepted", signature))
        self._send(stored.label_owner, Reply(_run_of(stored), True, signature, ""))
        self._tell_head(stored.label_owner)
        return self.find(stored.id)

    def refuse(self, job_id: str) -> StoredJob:
        stored = self._proposed_to_us(job_id)
        error = _document(PolicyError("refused", party=self._own))
        notes = [self._note(AuditKind.JOB_REFUSED, stored, self._audit.person, "refused")]
        now = self._clock.now()
        if not self._store.move_job(stored.id, {"proposed"}, "refused", now, error=error, notes=notes):
            raise self._conflict(stored.id, "proposed")
        self._store.put_answer(stored.id, Answer(self._own, "refused", code="refused"))
        self._send(stored.label_owner, Reply(_run_of(stored), False, b"", "refused"))
        self._tell_head(stored.label_owner)
        return self.find(stored.id)

    def find(self, job_id: str) -> StoredJob:
        job = self._store.job(job_id)
        if job is None:
            raise ConfigError("not_found", what=f"job {job_id[:64]}", list_command="isthmus job ls")
        return job

    def step(self, job_id: str) -> Step | None:
        """Where a running job stands."""
        run = self._runs.get(job_id)
        return run.step if run else None

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
        verify_consent(job.digest, job.number, party, partner.public_key, signature)

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

    async def _send_all(self, line: Line, outbox: asyncio.Queue[Message]) -> None:
        while True:
            message = await outbox.get()
            try:
                await line.put(message.encode())
            except LineError as error:
                if error.code == "closed":
                    return

    async def _listen(self, line: Line, partner: str) -> None:
        while True:
            try:
                await self._take(partner, await line.get())
            except LineError as error:
                if error.code == "closed":
                    return
                self._partner_restarted(partner, error)
            except IsthmusError as error:
                _log.warning("%s on the control channel of %s: dropped", error.code, partner)
                if broken_rule(error):
                    with suppress(LocalError):  # a full disk must not end the conversation
                        self._audit.write_once(AuditKind.RULE_BROKEN, "control", partner, error.code)

    async def _take(self, partner: str, body: bytes) -> None:
        match decode_control(body):
            case Proposal() as proposal:
                self._on_proposal(partner, proposal)
            case Reply() as reply:
                self._on_reply(partner, reply)
            case Start(run):
                job = self._by_run(run, partner)
                if job and job.role == "feature_owner" and job.state == "accepted":
                    self._store.move_job(job.id, {"accepted"}, "queued", self._clock.now())
                    self._spawn(self._follow(job), job)
            case Started(run):
                job = self._by_run(run, partner)
                waiting = self._waiting(job, partner)
                if waiting:
                    waiting.set_result(None)
            case Ended(run, code):
                self._on_ended(partner, run, code)
            case HeadTold() as told:
                known = self._store.partner(partner)
                for kept in self._audit.on_told(partner, known.public_key if known else b"", told):
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
            self._store.add_job(stored, answers, [self._note(AuditKind.JOB_PROPOSED, stored, partner)])
            self._tell_head(partner)
        else:
            self._reply_again(known)

    def _on_reply(self, partner: str, reply: Reply) -> None:
        job = self._by_run(reply.run, partner)
        if job is None or job.role != "label_owner" or job.state != "proposed":
            return
        answers = {a.party: a for a in self._store.answers(job.id)}
        if partner not in answers or answers[partner].state != "asked":
            return
        if not reply.accepted:
            code = reply.code or "refused"
            self._store.put_answer(job.id, Answer(partner, "refused", code=code))
            error = PolicyError("refused", party=partner)
            notes = [self._note(AuditKind.JOB_REFUSED, job, partner, known_code(code))]
            now = self._clock.now()
            self._store.move_job(job.id, {"proposed"}, "refused", now, error=_document(error), notes=notes)
            self._tell_head(partner)
            for other in answers:
                if other not in (self._own, partner):
                    self._send(other, Ended(reply.run, "refused"))
            return
        self._verify(job, partner, reply.signature)
        answer = Answer(partner, "accepted", reply.signature)
        self._store.put_answer(job.id, answer, [self._note(AuditKind.JOB_ACCEPTED, job, partner)])
        self._tell_head(partner)
        answers[partner] = Answer(partner, "accepted", reply.signature)
        if all(a.state == "accepted" for a in answers.values()):
            self._store.move_job(job.id, {"proposed"}, "accepted", self._clock.now())
            self._enqueue(job)

    def _on_ended(self, partner: str, run_digest: bytes, code: str) -> None:
        job = self._by_run(run_digest, partner)
        if job is None:
            return
        self._mark(job, partner, code)
        error = PeerError("partner_failed", code=code or "closed", partner=partner)
        waiting = self._waiting(job, partner)
        run = self._runs.get(job.id)
        if waiting:
            waiting.set_exception(error)
        elif run and run.halt:
            if code and not run.halt.done():
                run.halt.set_result(error)
        elif job.role == "feature_owner":
            to: JobState = "refused" if code == "refused" else "failed"
            since: set[JobState] = {"proposed", "accepted", "queued"}
            kind = AuditKind.JOB_REFUSED if to == "refused" else AuditKind.JOB_FAILED
            notes = (
                [self._note(kind, job, partner, known_code(code))]
                if code
                else [self._note(kind, job, partner)]
            )
            self._store.move_job(job.id, since, to, self._clock.now(), error=_document(error), notes=notes)

    def _partner_restarted(self, partner: str, error: LineError) -> None:
        for job in self._store.jobs_in({"queued"}):
            waiting = self._waiting(job, partner)
            if waiting:
                waiting.set_exception(error)
        self._say_again(partner)

    def _say_again(self, partner: str) -> None:
        """Heads of both logs, proposals without an answer, answers that may have been lost, endings of jobs."""
        for kept in self._audit.held(partner):
            self._send(partner, kept)
        self._tell_head(partner)
        for job in self._store.jobs_in({"proposed", "accepted"}):
            answers = {a.party: a for a in self._store.answers(job.id)}
            if job.role == "label_owner" and partner in answers and answers[partner].state == "asked":
                signature = answers[self._own].signature or b""
                self._send(partner, Proposal(job.number, job.document, signature))
            elif job.role == "feature_owner" and job.label_owner == partner:
                self._reply_again(job)

    def _reply_again(self, job: StoredJob) -> None:
        own = next(a for a in self._store.answers(job.id) if a.party == self._own)
        if own.signature and job.state == "accepted":
            self._send(job.label_owner, Reply(_run_of(job), True, own.signature, ""))
        elif own.state == "refused":
            self._send(job.label_owner, Reply(_run_of(job), False, b"", own.code or "refused"))

    def _by_run(self, run: bytes, partner: str) -> StoredJob | None:
        """The job of this run in which `partner` takes part as the other role."""
        for job in self._store.jobs_in(
            {"proposed", "accepted", "queued", "running", "refused", "failed", "done"}
        ):
            if _run_of(job) == run:
                if job.role == "feature_owner":
                    return job if job.label_owner == partner else None
                return job if partner in _parse(job).parties.feature_owners else None
        return None

    def _waiting(self, job: StoredJob | None, partner: str) -> asyncio.Future[None] | None:
        run = self._runs.get(job.id) if job else None
        future = run.started.get(partner) if run and run.started else None
        return future if future and not future.done() else None

    # --- running ---

    def _enqueue(self, job: StoredJob) -> None:
        if self._store.move_job(job.id, {"accepted"}, "queued", self._clock.now()):
            self._spawn(self._lead(job), job)

    async def _lead(self, stored: StoredJob) -> None:
        """The label owner's course: every party's turn by rising name, then the worker."""
        parties = _parse(stored).parties
        futures = {name: asyncio.get_running_loop().create_future() for name in parties.feature_owners}
        self._runs[stored.id] = _Run(started=futures)
        held = False
        try:
            await self.check_own(_parse(stored))
            for name in sorted(parties.all):
                if name == self._own:
                    held = await self._slot.acquire()
                else:
                    self._send(name, Start(_run_of(stored)))
                    await futures[name]
            await self._work(stored, parties.feature_owners)
        except IsthmusError as error:
            self._fail(stored, error, {"queued", "running"})
        finally:
            del self._runs[stored.id]
            for future in futures.values():
                future.cancel()
            if held:
                self._slot.release()

    async def _follow(self, stored: StoredJob) -> None:
        """A feature owner's course: its own turn, then the worker."""
        self._runs[stored.id] = _Run()
        try:
            async with self._slot:
                if self.find(stored.id).state == "queued":
                    await self.check_own(_parse(stored))
                    self._send(stored.label_owner, Started(_run_of(stored)))
                    await self._work(stored, (stored.label_owner,))
        except IsthmusError as error:
            self._fail(stored, error, {"queued", "running"})
        finally:
            del self._runs[stored.id]

    async def _work(self, stored: StoredJob, partners: Sequence[str]) -> None:
        job = _parse(stored)
        dataset = await self.check_own(job)
        started = [self._note(AuditKind.JOB_STARTED, stored)]
        if not self._store.move_job(stored.id, {"queued"}, "running", self._clock.now(), notes=started):
            return
        for party in job.parties.all:
            self._mark(stored, party, None)
        folder = self._folder_of(stored.id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "job.json").write_bytes(stored.document)
        instruction = Instruction(
            job=read_document(stored.document, "the job file"),
            digest=stored.digest.hex(),
            party=self._own,
            role=stored.role,
            table_path=dataset.path,
            table_sha256=dataset.sha256,
            out=str(folder),
            sockets={},
            test_ids_path=stored.test_ids_path,
            reading=dataset.options,
        )
        lines = {name: self._lines.open(name, _run_of(stored), 0) for name in partners}
        run, began_s = self._runs[stored.id], self._clock.monotonic_s()

        def on_step(step: Step) -> None:
            if run.step is None or run.step.stage != step.stage:
                data = {"stage": step.stage}
                self._store.add_event(stored.id, self._clock.now(), "stage.state", self._own, data)
            run.step = step

        run.halt = asyncio.get_running_loop().create_future()
        log = folder / "worker.log"
        try:
            done = await run_worker(self._command, instruction, lines, log, on_step, run.halt, job.run.cores)
        except asyncio.CancelledError:
            self._fail(stored, LocalError("worker_killed", why="the node was stopped"), {"running"})
            raise
        result = done["result"] | {
            "cpu_s": done["cpu_s"],
            "peak_bytes": done["peak_bytes"],
            "wall_s": self._clock.monotonic_s() - began_s,
        }
        ended = [self._note(AuditKind.JOB_DONE, stored)]
        self._store.move_job(stored.id, {"running"}, "done", self._clock.now(), result=result, notes=ended)
        self._mark(stored, self._own, "")
        for name in partners:
            self._send(name, Ended(_run_of(stored), ""))
            self._tell_head(name)

    def _mark(self, job: StoredJob, party: str, code: str | None) -> None:
        """Where a party stands: running (None), done (empty) or failed with a code; its consent is kept."""
        known = next((a for a in self._store.answers(job.id) if a.party == party), None)
        if known is None or known.state in ("done", "failed", "refused"):
            return
        if code is None:
            self._store.put_answer(job.id, replace(known, state="running"))
        elif code == "":
            self._store.put_answer(job.id, replace(known, state="done", code=None))
        else:
            self._store.put_answer(job.id, replace(known, state="failed", code=code))

    def _fail(self, job: StoredJob, error: IsthmusError, since: set[JobState]) -> None:
        notes = [self._note(AuditKind.JOB_FAILED, job, "", error.code)]
        if broken_rule(error):
            # Whose name the error carries; who broke a rule that needs no one culprit is not said.
            named = error.fields.get("partner", "")
            by = named if named in _parse(job).parties.all else ""
            notes.insert(0, self._note(AuditKind.RULE_BROKEN, job, by, error.code))
        now = self._clock.now()
        if not self._store.move_job(job.id, since, "failed", now, error=_document(error), notes=notes):
            return
        self._mark(job, self._own, error.code)
        parties = _parse(job).parties
        others = parties.feature_owners if job.role == "label_owner" else (job.label_owner,)
        for name in others:
            self._send(name, Ended(_run_of(job), error.code))
            self._tell_head(name)

    def _spawn(self, work: Coroutine[Any, Any, None], job: StoredJob | None = None) -> None:
        if self._closing:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._reap(ended, job))

    def _reap(self, task: asyncio.Task[None], job: StoredJob | None) -> None:
        """A course that ended with a defect of ours must not leave its job waiting for ever."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            frames = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s\n%s", type(error).__name__, frames)
            if job is not None:
                self._fail(job, LocalError("bug", why=type(error).__name__), {"queued", "running"})


def job_id(digest: bytes, number: int) -> str:
    """The same at every party: `j-` and 40 bits of the hash; later runs of one file end in their number."""
    short = base64.b32encode(digest[:5]).decode().lower()
    return f"j-{short}" if number == 1 else f"j-{short}-{number}"


def _parse(job: StoredJob) -> JobFile:
    return parse_job(read_document(job.document, "the job file"))


def _run_of(job: StoredJob) -> bytes:
    return run_digest(job.digest, job.number)


def _document(error: IsthmusError) -> dict[str, Any]:
    return {"class": type(error).__name__, "code": error.code, "fields": error.fields}
