"""How a job that every party has signed runs at this node: in attempts, each from the last barrier that all parties have passed.

An attempt ends badly when a worker or a node dies, a disk is full, a line is closed for good or a person pauses the job; what
lasts is the record of the run (store/checkpoints.py), and the label owner begins the next attempt by itself:

    label owner                                       feature owner
      1  Start    attempt, own barrier     -------->  waits for its turn
      2                                    <--------  Started   own barrier
      3  Go       the oldest of the barriers ------>  drops what is later, shuts out older workers, starts a new one
      4  Halted   why                      <------->  Halted    the attempt is over on this side
      5                                    <--------  Ended     this side has all that it needs
      6  Ended    every side has           -------->  done, and the record is deleted

A turn is the one slot that a node has for work. Turns are taken by rising name of party, so that jobs which share parties
cannot wait for each other, and given back between attempts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from isthmus.base.clock import Clock
from isthmus.base.document import read_document
from isthmus.base.errors import IsthmusError, LineError, LocalError, PeerError, PolicyError
from isthmus.base.progress import Step
from isthmus.base.record import ALIGNED, FINISHED, STAGES, check_told
from isthmus.jobs.consent import run_digest
from isthmus.jobs.control import Ended, Go, Halted, Start, Started
from isthmus.jobs.instruction import Instruction
from isthmus.jobs.spec import parse_job
from isthmus.service.audit import Audit, broken_rule
from isthmus.service.running import run_worker
from isthmus.store.audit import AuditKind, Note
from isthmus.store.checkpoints import Checkpoints
from isthmus.store.records import Answer, JobState, Store, StoredDataset, StoredJob
from isthmus.wire.channel import Line
from isthmus.wire.message import Message

T = TypeVar("T")
RECORD = "record.db"
DEATHS_MAX = 3
"""Deaths of a worker in a row, no barrier passed between; then the job has failed."""
AGAIN_MAX = 20
"""Attempts after which a person must agree to more."""
PAUSE_S, PAUSE_MAX_S = 0.2, 30.0
GO_S = 60.0
_BUSY: frozenset[JobState] = frozenset({"queued", "running", "waiting"})
_LASTING = frozenset(
    {
        "worker_killed",
        "disk_full",
        "disk_error",
        "superseded",
        "partner_restarted",
        "closed",
        "unreachable",
        "paused",
    }
)


class Lines(Protocol):
    """What jobs need of the link."""

    def open(self, partner_name: str, job_digest: bytes, number: int = 0) -> Line: ...

    def drop(self, partner_name: str, job_digest: bytes, number: int = 0) -> None:
        """Forget a channel whose attempt has ended badly."""

    def away_s(self, partner_name: str) -> float | None:
        """For how long the line to a partner has been down; None while it stands."""


@dataclass(frozen=True)
class Here:
    """What courses use of their node. `check_start` raises what stands in the way of a job, `still_allowed` tells what has come
    in its way since, `guard` watches what comes on a line to a worker, `marked` tells where parties stand: running (None), done
    (empty) or failed with a code."""

    own: str
    store: Store
    lines: Lines
    audit: Audit
    clock: Clock
    folder_of: Callable[[str], Path]
    record_key: bytes
    command: Sequence[str]
    slot: asyncio.Lock
    send: Callable[[str, Message], None]
    tell_head: Callable[[str], None]
    check_start: Callable[[StoredJob], Awaitable[StoredDataset]]
    still_allowed: Callable[[StoredJob], IsthmusError | None]
    guard: Callable[[StoredJob, Line, Callable[[IsthmusError], None]], Line]
    marked: Callable[[StoredJob, Collection[str], str | None], list[Answer]]

    def record(self, job_id: str) -> Checkpoints:
        folder = self.folder_of(job_id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Checkpoints(folder / RECORD, self.record_key)

    def forget(self, job_id: str) -> None:
        """Delete the record of a run that is done."""
        for ending in ("", "-wal", "-shm"):
            self.folder_of(job_id).joinpath(RECORD + ending).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the record of a run stands: the last attempt, the last barrier, the secrets that are burned."""

    attempt: int
    barrier: int
    burned: int


class Course:
    """One job at this node, from its first attempt to its end or until a person stops it."""

    def __init__(self, here: Here, job: StoredJob) -> None:
        self.here = here
        self.id = job.id
        self.run = run_digest(job.digest, job.number)
        self.parties = parse_job(read_document(job.document, "the job file")).parties
        self.partners = self.parties.feature_owners if job.role == "label_owner" else (job.label_owner,)
        self.step: Step | None = None
        self._figures: dict[str, Any] = {}
        self._interrupt: asyncio.Future[IsthmusError] = asyncio.get_running_loop().create_future()
        self._wake = asyncio.Event()
        self.over = asyncio.Event()
        self.working = False
        """Whether an attempt is under way, which `interrupt` would end."""
        self.has_worker = False
        self.halted = False
        """A person or a partner has ended this course; another one may follow."""
        self._failed_there: IsthmusError | None = None
        self._passed = False
        self._deaths = 0
        self._attempt = 0
        self._left_open: bytes | None = None

    async def follow(self) -> None:
        """All attempts; returns once the job has ended here or a person has stopped it."""
        raise NotImplementedError

    def interrupt(self, error: IsthmusError) -> None:
        """End the attempt that is under way, if one is."""
        if not self._interrupt.done():
            self._interrupt.set_result(error)

    def halt(self, error: IsthmusError, code: str = "") -> None:
        """A person or a partner has ended the job or paused it: the store says so already. `code` goes to the partners."""
        self.halted = True
        self.interrupt(error)
        self.wake()
        if code == "paused":
            for name in self.partners:
                self.here.send(name, Halted(self.run, self._attempt, code, 0, 0))

    def partner_failed(self, error: IsthmusError) -> None:
        """End the attempt that is under way, and with it the job, unless this side knows more of what went wrong."""
        self._failed_there = error
        self.interrupt(error)

    def wake(self) -> None:
        """Do not wait any longer before the next attempt."""
        self._wake.set()

    def job(self) -> StoredJob:
        job = self.here.store.job(self.id)
        if job is None:
            raise LocalError("bug", why="a running job is not in the store")
        return job

    def standing(self) -> Standing:
        with self.here.record(self.id) as record:
            return Standing(record.attempt, record.barrier, record.count("burned"))

    # --- what both sides do ---

    def _new_attempt(self) -> None:
        if self._left_open is not None:
            # Where this side had ended well and another one had not, nobody closes the other end any more.
            for name in self.partners:
                self.here.lines.drop(name, self._left_open, 0)
            self._left_open = None
        self._interrupt = asyncio.get_running_loop().create_future()
        self._wake.clear()
        self._passed = False

    async def _either(self, work: Awaitable[T]) -> T:
        """What `work` gives, unless the attempt is interrupted before: then that error is raised."""
        task = asyncio.ensure_future(work)
        both: set[asyncio.Future[Any]] = {task, self._interrupt}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise self._interrupt.result()
        finally:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    def _begin(self, attempt: int, barrier: int, burned: int = 0) -> None:
        with self.here.record(self.id) as record:
            record.begin(attempt, barrier, burned)

    async def _work(self, attempt: int, barrier: int, dataset: StoredDataset) -> None:
        """One worker, from its start to its end."""
        here, stored = self.here, self.job()
        job = parse_job(read_document(stored.document, "the job file"))
        kind = AuditKind.JOB_STARTED if attempt == 1 else AuditKind.JOB_RESUMED
        notes = [self.note(kind, stored)]
        marks = here.marked(stored, self.parties.all, None)
        if not here.store.move_job(self.id, _BUSY, "running", here.clock.now(), answers=marks, notes=notes):
            raise LineError("closed")  # a person was faster
        here.store.add_event(
            self.id, here.clock.now(), "job.attempt", here.own, {"attempt": attempt, "barrier": barrier}
        )
        folder = here.folder_of(self.id)
        (folder / "job.json").write_bytes(stored.document)
        instruction = Instruction(
            job=read_document(stored.document, "the job file"),
            digest=stored.digest.hex(),
            party=here.own,
            role=stored.role,
            table_path=dataset.path,
            table_sha256=dataset.sha256,
            out=str(folder),
            attempt=attempt,
            record_path=str(folder / RECORD),
            record_key=here.record_key.hex(),
            sockets={},
            test_ids_path=stored.test_ids_path,
            reading=dataset.options,
        )
        digest = attempt_digest(self.run, attempt)
        lines = {
            name: here.guard(stored, here.lines.open(name, digest, 0), self.interrupt)
            for name in self.partners
        }
        began_s = here.clock.monotonic_s()

        def on_step(step: Step) -> None:
            if self.step is None or self.step.stage != step.stage:
                data = {"stage": step.stage}
                here.store.add_event(self.id, here.clock.now(), "stage.state", here.own, data)
            self.step = step

        def on_kept(barrier: int) -> None:
            self._passed = True
            here.store.add_event(self.id, here.clock.now(), "job.barrier", here.own, {"barrier": barrier})
            error = here.still_allowed(stored)
            if error is not None:
                self.interrupt(error)

        log, cores = folder / "worker.log", job.run.cores
        self.has_worker = True
        try:
            done = await run_worker(
                here.command, instruction, lines, log, on_step, self._interrupt, cores, on_kept
            )
        except BaseException:
            for name in self.partners:
                here.lines.drop(name, digest, 0)
            raise
        finally:
            self.has_worker = False
        self._left_open = digest
        self._figures = {
            "cpu_s": done["cpu_s"],
            "peak_bytes": done["peak_bytes"],
            "wall_s": here.clock.monotonic_s() - began_s,
        }

    def _finish(self) -> None:
        """Every party has all it needs: the job is done."""
        here, stored = self.here, self.job()
        with here.record(self.id) as record:
            found = record.found("figures")
            attempts = record.attempt
        result = json.loads(found[-1]) if found else {}
        result |= {"cpu_s": None, "peak_bytes": None, "wall_s": None} | self._figures | {"attempts": attempts}
        notes = [self.note(AuditKind.JOB_DONE, stored)]
        marks = here.marked(stored, self.parties.all, "")
        now = here.clock.now()
        here.store.move_job(self.id, _BUSY, "done", now, result=result, answers=marks, notes=notes)
        for name in self.partners:
            here.send(name, Ended(self.run, ""))
            here.tell_head(name)
        here.forget(self.id)

    def _wait(self, error: IsthmusError) -> bool:
        """Show why nothing goes on for the moment; False if a person or a partner has ended the job meanwhile."""
        here, now, job = self.here, self.here.clock.now(), self.job()
        self.step = None
        if job.state == "waiting" and job.error == told(error):
            return True  # it has been said, and since when
        with suppress(LocalError):  # where not even this can be written, the next attempt says so again
            here.store.move_job(self.id, _BUSY, "waiting", now, error=told(error))
        return self.job().state in _BUSY

    def fail(self, error: IsthmusError) -> None:
        here, job = self.here, self.job()
        notes = [self.note(AuditKind.JOB_FAILED, job, code=error.code)]
        if broken_rule(error):
            # Whose name the error carries; who broke a rule that needs no one culprit is not said.
            named = error.fields.get("partner", "")
            by = named if named in self.parties.all else ""
            notes.insert(0, self.note(AuditKind.RULE_BROKEN, job, by, error.code))
        marks = here.marked(job, [here.own], error.code)
        now = here.clock.now()
        if not here.store.move_job(
            self.id, _BUSY, "failed", now, error=told(error), answers=marks, notes=notes
        ):
            return
        for name in self.partners:
            here.send(name, Ended(self.run, "gave_up" if cause_of(error) == "gave_up" else error.code))
            here.tell_head(name)

    def note(self, kind: AuditKind, job: StoredJob, by: str = "", code: str = "") -> Note:
        return self.here.audit.note(kind, job.id, by=by, digest=job.digest.hex(), code=code)

    async def _end_badly(self, error: IsthmusError, tell: bool = True) -> bool:
        """After an attempt: whether there is to be another one."""
        if self.halted or self.job().state not in _BUSY:
            return False
        reason = self._interrupt.result() if self._interrupt.done() else None
        if isinstance(reason, PolicyError):
            error = reason  # what was taken back here comes before what that did to the lines
        elif self._failed_there is not None and lasting(error):
            error = self._failed_there
        if error.code == "worker_killed":
            self._deaths = 1 if self._passed else self._deaths + 1
            if self._deaths >= DEATHS_MAX:
                error = LocalError("gave_up", why=error.fields.get("why", ""), times=self._deaths)
        if not lasting(error):
            while True:
                try:
                    self.fail(error)
                    return False
                except LocalError:  # the disk is full: the ending must not be lost
                    await self.here.clock.sleep(PAUSE_S)
        if tell:
            for name in self.partners:
                self.here.send(name, Halted(self.run, self._attempt, cause_of(error), 0, 0))
        return self._wait(error)


class Leading(Course):
    """The label owner's course."""

    def __init__(self, here: Here, job: StoredJob, agreed: bool = False, stage: str | None = None) -> None:
        """`agreed`: a person has agreed to go on with a side that was rewound, or after many attempts. `stage`: do all from
        this stage on again."""
        super().__init__(here, job)
        self._agreed = agreed
        self._stage = stage
        self._above = self._burned_there = 0
        self._told: dict[str, asyncio.Future[Started]] = {}
        self._finished: set[str] = set()
        self._all_finished = asyncio.Event()

    async def follow(self) -> None:
        pauses = 0
        while True:
            self._new_attempt()
            try:
                self.working = True
                await self._one_attempt()
                self._finish()
                return
            except IsthmusError as error:
                self.working = False
                again = cause_of(error) not in ("rewound", "partner_rewound") and (
                    self._attempt <= AGAIN_MAX or self._agreed
                )
                if not self.halted and not again:
                    self._pause(error)
                    return
                if not await self._end_badly(error):
                    return
            pauses = 0 if self._passed else pauses + 1
            with suppress(TimeoutError):
                pause_s = min(PAUSE_S * 2.0 ** min(pauses, 20), PAUSE_MAX_S)
                await asyncio.wait_for(self._wake.wait(), pause_s)

    def on_started(self, partner: str, started: Started) -> None:
        waiting = self._told.get(partner)
        if started.attempt == self._attempt and waiting and not waiting.done():
            waiting.set_result(started)

    def on_again(self, partner: str) -> None:
        """The partner is there for another attempt: do not wait for an answer that it may not owe any more."""
        waiting = self._told.get(partner)
        if waiting and not waiting.done():
            self.interrupt(LineError("closed"))
        self.wake()

    def on_halted(self, partner: str, halted: Halted) -> None:
        if halted.attempt != self._attempt:
            return
        if halted.code != "rewound":
            self.interrupt(PeerError("partner_failed", code=halted.code, partner=partner))
        elif not self._agreed:
            # Its numbers wait, unused, for a person: a partner alone must not move what is on record here.
            self.interrupt(LocalError("rewound", partner=partner))
        else:
            stands = self.standing()
            try:
                check_told(halted.had, stands.attempt)
                check_told(halted.burned, stands.burned)
            except PeerError as error:
                self.interrupt(error)
                return
            self._above = max(self._above, halted.had)
            self._burned_there = max(self._burned_there, halted.burned)
            self.interrupt(LineError("closed"))

    def on_finished(self, partner: str) -> None:
        told = self._told.get(partner)
        if told is None or not told.done():
            return  # it speaks of an attempt before this one, whose work may have to be done again
        self._finished.add(partner)
        if self._finished >= set(self.partners):
            self._all_finished.set()

    async def _one_attempt(self) -> None:
        here, held = self.here, False
        dataset = await here.check_start(self.job())
        stands = self.standing()
        attempt = self._attempt = max(stands.attempt, self._above) + 1
        barrier, burned = stands.barrier, max(stands.burned, self._burned_there)
        if self._stage is not None:
            barrier = min(barrier, STAGES[self._stage])
        loop = asyncio.get_running_loop()
        self._told = {name: loop.create_future() for name in self.partners}
        self._finished, self._all_finished = set(), asyncio.Event()
        try:
            for name in sorted(self.parties.all):
                if name == here.own:
                    held = await self._either(here.slot.acquire())
                else:
                    here.send(name, Start(self.run, attempt, barrier, burned))
                    self._check(stands, await self._either(self._told[name]), name)
            common = min(barrier, *(told.result().barrier for told in self._told.values()))
            if common < FINISHED:
                self._begin(attempt, common, burned)
                self._stage = None
                for name in self.partners:
                    here.send(name, Go(self.run, attempt, common))
                await self._work(attempt, common, dataset)
        finally:
            if held:
                here.slot.release()
        if common < FINISHED:
            await self._either(self._all_finished.wait())

    def _check(self, stands: Standing, told: Started, name: str) -> None:
        if told.had == 0 and stands.attempt > 0 and stands.barrier >= ALIGNED and not self._agreed:
            raise PeerError("partner_rewound", partner=name)

    def _pause(self, error: IsthmusError) -> None:
        """Nothing more happens until a person agrees."""
        here, job = self.here, self.job()
        notes = [self.note(AuditKind.JOB_PAUSED, job, code=error.code)]
        here.store.move_job(self.id, _BUSY, "paused", here.clock.now(), error=told(error), notes=notes)
        for name in self.partners:
            here.send(name, Halted(self.run, self._attempt, "paused", 0, 0))


class Following(Course):
    """A feature owner's course."""

    def __init__(self, here: Here, job: StoredJob) -> None:
        super().__init__(here, job)
        self._start: Start | None = None
        self._came = asyncio.Event()
        self._go: asyncio.Future[Go] = asyncio.get_running_loop().create_future()

    async def follow(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            start = self._start
            if start is None or self.halted or self.job().state not in _BUSY:
                return
            self._attempt = start.attempt
            self._new_attempt()
            self._go = asyncio.get_running_loop().create_future()
            try:
                self.working = True
                await self._one_attempt(start)
                self.working = False
                self.here.send(self.partners[0], Ended(self.run, ""))
            except IsthmusError as error:
                self.working = False
                if error.code == "partner_rewound":
                    stands = self.standing()
                    told = Halted(self.run, start.attempt, "rewound", stands.attempt, stands.burned)
                    self.here.send(self.partners[0], told)
                    if self.halted or not self._wait(error):
                        return
                elif not await self._end_badly(error, tell=not self._came.is_set()):
                    return

    def on_start(self, start: Start) -> None:
        self._start = start
        self._came.set()
        self.interrupt(LineError("partner_restarted", partner=self.partners[0]))

    def on_go(self, go: Go) -> None:
        if self._start and go.attempt == self._start.attempt and not self._go.done():
            self._go.set_result(go)

    def on_halted(self, halted: Halted) -> None:
        if self._start and halted.attempt == self._start.attempt:
            error = PeerError("partner_failed", code=halted.code, partner=self.partners[0])
            self.interrupt(error)

    def halt(self, error: IsthmusError, code: str = "") -> None:
        super().halt(error, code)
        self._came.set()

    def close(self) -> None:
        """The label owner says that every side has what it needs."""
        if self.standing().barrier == FINISHED:
            self._finish()
            self._start = None
            self._came.set()
            self.interrupt(LineError("closed"))

    async def _one_attempt(self, start: Start) -> None:
        here = self.here
        await self._either(here.slot.acquire())
        try:
            dataset = await here.check_start(self.job())
            stands = self.standing()
            if start.attempt <= stands.attempt or start.burned < stands.burned:
                raise PeerError("partner_rewound", partner=self.partners[0])
            check_told(start.attempt, stands.attempt)
            here.send(
                self.partners[0],
                Started(self.run, start.attempt, stands.barrier, stands.burned, stands.attempt),
            )
            try:
                go = await asyncio.wait_for(self._either(self._go), GO_S)
            except TimeoutError:
                raise LineError("closed") from None
            if go.barrier > stands.barrier:
                raise PeerError("bad_message", why="the work is to go on at a barrier that was not passed")
            self._begin(start.attempt, go.barrier)
            await self._work(start.attempt, go.barrier, dataset)
        finally:
            here.slot.release()


def attempt_digest(run: bytes, attempt: int) -> bytes:
    """32 bytes that name one attempt of a run; its channels are opened under it."""
    return hashlib.sha256(b"isthmus/job-attempt/v1\0" + run + attempt.to_bytes(4, "big")).digest()


def cause_of(error: IsthmusError) -> str:
    """The code of what happened, here or at the partner."""
    return str(error.fields.get("code", "")) if error.code == "partner_failed" else error.code


def lasting(error: IsthmusError) -> bool:
    """Whether the job goes on in another attempt after this error."""
    return cause_of(error) in _LASTING or (isinstance(error, LineError) and error.code != "version_gap")


def told(error: IsthmusError) -> dict[str, Any]:
    return {"class": type(error).__name__, "code": error.code, "fields": error.fields}
