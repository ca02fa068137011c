"""The leader of fleets: opens rounds, takes reports, asks the helpers, makes and releases models. One event loop owns it.

What people ask for (tasks, stops, helpers) comes to it through rows that the node beside it writes; it looks every `tick_s`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import ConfigError, IsthmusError, LineError, LocalError, PeerError, PolicyError
from isthmus.base.typed_json import read, write
from isthmus.base.workers import in_thread
from isthmus.crypto.seal import PartyKey
from isthmus.fleet import models, rollout
from isthmus.fleet.desk import Desk, OpenRound, Pace
from isthmus.fleet.intake import Intake, LiveRound
from isthmus.fleet.listener import DeviceServer
from isthmus.fleet.manifest import charged
from isthmus.fleet.rounds import (
    ABORTED,
    COLLECTING,
    ENDED,
    LOOKING,
    OPENED,
    Answered,
    Ask,
    BatchState,
    Cancelled,
    Effect,
    Event,
    Form,
    Formed,
    Look,
    Looked,
    Open,
    Refusal,
    RoundState,
    Tick,
    due,
    form,
    opened,
    step,
)
from isthmus.fleet.task import FleetTask, load_task
from isthmus.protocols.device_round import (
    EVALUATE,
    TRAIN,
    Answer,
    CheckIn,
    Enrol,
    Manifest,
    Receipt,
    Release,
    Round,
    Signed,
    pack_blob,
    population_digest,
    read_paper,
    sign_paper,
    terms_of,
)
from isthmus.protocols.secure_sum import (
    REPORT_HEAD_MAX_BYTES,
    Batch,
    Report,
    Ticket,
    batch_for,
    check_report,
    check_ticket,
    open_sum,
    total,
)
from isthmus.protocols.secure_sum import (
    Looked as LookedAt,
)
from isthmus.store.fleet import (
    FINISHED,
    RUNNING,
    STOPPED,
    Device,
    FleetRows,
    ReleaseRow,
    ReportRow,
    RoundRow,
    Spool,
    Task,
)

_log = logging.getLogger(__name__)

TICK_S: Final = 0.5
LOOK_MAX: Final = 2000
"""Reports that a helper looks at in one request."""
_RETRY_S: Final = (0.5, 30.0)
_KEPT_WEIGHT: Final = 0.3
"""How much the last round counts in what is learned of devices that fall out."""


class HelperLine(Protocol):
    """The leader's line to one helper. Raises LineError when it is away; PolicyError and PeerError when it refuses."""

    async def look(self, batch: Batch) -> LookedAt: ...

    async def answer(self, batch: Batch) -> bytes: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Running:
    """A task that runs: its file, its paper, its row."""

    file: FleetTask
    manifest: Manifest
    row: Task


class Leader:
    """`folder` holds fleet.db and the spool; `lines` makes the line to a helper from its card."""

    def __init__(
        self,
        folder: Path,
        key: PartyKey,
        lines: Callable[[str], HelperLine],
        clock: Clock | None = None,
        pace: Pace | None = None,
        tick_s: float = TICK_S,
    ) -> None:
        self._folder = folder
        self._spools = folder / "spool"
        self._spools.mkdir(mode=0o700, exist_ok=True)
        self._key = key
        self._make_line = lines
        self._clock = clock or SystemClock()
        self._pace = pace or Pace()
        self._tick_s = tick_s
        self.rows = FleetRows(folder)
        self.server = DeviceServer(self, key.public, self._clock)
        self._intake = Intake(self.rows, self._clock, self._taken)
        self._desks: dict[str, Desk] = {}
        self._devices: dict[bytes, Device] = {}
        self._tasks: dict[bytes, Running] = {}
        self._live: dict[tuple[bytes, int], LiveRound] = {}
        self._doing: dict[tuple[tuple[bytes, int], Effect], asyncio.Task[None]] = {}
        self._lines: dict[str, tuple[str, HelperLine]] = {}
        self._releases: dict[str, list[ReleaseRow]] = {}
        self._ticking: asyncio.Task[None] | None = None
        self._seen_version, self._stale = -1, True
        self._finishing = asyncio.Lock()
        self.report_bytes = REPORT_HEAD_MAX_BYTES

    # --- from start to end ---

    async def start(self) -> None:
        self._reload()
        for running in self._tasks.values():
            for row in self.rows.rounds(running.row.digest):
                if row.phase not in ENDED:
                    self._revive(running, row)
        self._sweep_spools()
        self._intake.start()
        self._ticking = asyncio.create_task(self._tick_for_ever())

    async def failed(self) -> None:
        """Waits for ever, unless the leader cannot go on: then it raises why."""
        assert self._ticking is not None
        await asyncio.shield(self._ticking)

    async def close(self) -> None:
        await self.server.close()
        tasks = [*self._doing.values(), *([self._ticking] if self._ticking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._intake.close()
        for _, line in self._lines.values():
            await line.close()
        for live in self._live.values():
            live.spool.close()
        self.rows.close()

    async def _tick_for_ever(self) -> None:
        while True:
            try:
                await self._tick()
            except IsthmusError as error:
                _log.error("the fleet waits: %s", error)
            await self._clock.sleep(self._tick_s)

    async def _tick(self) -> None:
        self._reload()
        for task in list(self._tasks):
            if self._goes_on(task) and self._now_ms >= self._tasks[task].manifest.valid_until_ms:
                self.rows.end_task(task, STOPPED, "expired")  # devices refuse it from now on
                self._stale = True
                self._reload()
            for live in [live for live in self._live.values() if live.round.task == task]:
                await self._advance(live, Tick() if self._goes_on(task) else Cancelled("stopped"))
            if self._goes_on(task):
                # Looked up again: a round that was opened meanwhile has brought another model.
                await self._open_next(self._tasks[task])
        self._step_releases()
        for desk in self._desks.values():
            for (task, number), counts in desk.drain().items():
                self.rows.add_lost(task, number, counts)

    def _goes_on(self, task: bytes) -> bool:
        row = self._tasks[task].row
        return row.state == RUNNING and not self._desks[row.population].stopped

    @property
    def _now_ms(self) -> int:
        return round(self._clock.now().timestamp() * 1000)

    # --- what people have asked for ---

    def _reload(self) -> None:
        """Reads what the node has written since the last time, and what this leader has made."""
        for population in self.rows.populations():
            desk = self._desks.setdefault(population.name, Desk(self._pace))
            desk.stopped = population.stopped
        if (version := self.rows.version()) != self._seen_version:
            self._seen_version, self._stale = version, True
            for name, desk in self._desks.items():
                devices = self.rows.devices(name)
                desk.devices = sum(not device.revoked for device in devices)
                self._devices.update({device.key: device for device in devices})
        if self._stale:
            self._stale = False
            self._reload_tasks()

    def _reload_tasks(self) -> None:
        for name in self._desks:
            self._releases[name] = self.rows.releases(name)
        released = {each.task for releases in self._releases.values() for each in releases}
        for row in self.rows.tasks():
            known = self._tasks.get(row.digest)
            if known is not None:
                self._tasks[row.digest] = replace(known, row=row)
            elif row.state == RUNNING or row.digest in released:  # whose shares still grow
                paper = Signed(row.manifest, row.signature)
                manifest = read_paper(Manifest, paper, self._key.public)
                self._tasks[row.digest] = Running(load_task(row.document.encode()), manifest, row)
                self._desks[row.population].know(row.digest, self.rows.taken_part(row.digest))

    def _line(self, name: str) -> HelperLine:
        card = dict(self.rows.helpers()).get(name)
        if card is None:
            raise LineError("helper_away", helper=name)
        if name not in self._lines or self._lines[name][0] != card:
            self._lines[name] = (card, self._make_line(card))
        return self._lines[name][1]

    # --- rounds ---

    async def _open_next(self, running: Running) -> None:
        task = running.row.digest
        row = self.rows.task_of(task)  # the round before may have ended a moment ago
        assert row is not None
        open_now = [live for live in self._live.values() if live.round.task == task]
        collecting = sum(live.state.phase == COLLECTING for live in open_now)
        at_once = running.file.rounds.at_once
        if collecting or len(open_now) >= at_once:
            return
        rounds = self.rows.rounds(task)
        kind = models.next_kind(running.file, rounds)
        if kind is None:
            if not open_now:
                self.rows.end_task(task, FINISHED, "")
            return
        if kind == EVALUATE and open_now:
            return
        in_use = self._in_use(running, rounds)
        round_ = models.make_round(running.file, row, kind, len(rounds) + 1, in_use)
        rounds_file, now_ms = running.file.rounds, self._now_ms
        state = RoundState(
            COLLECTING,
            target=rounds_file.cohort,
            least=rounds_file.min_cohort,
            deadline_ms=now_ms + round(rounds_file.deadline_h * 3_600_000),
            answer_ms=round(rounds_file.answer_h * 3_600_000),
        )
        opening = RoundRow(
            task,
            round_.number,
            kind,
            write(round_).decode(),
            write(state).decode(),
            state.phase,
            now_ms,
            None,
            "{}",
        )
        try:
            spent = charged(running.manifest, self.rows.spent(running.row.population))
        except PolicyError as error:
            _log.warning("task %s ends: %s", running.row.name, error)
            self.rows.end_task(task, STOPPED, error.code)
            self._stale = True
            return
        await in_thread(self.rows.add_round, opening, spent)
        self._revive(running, opening)

    def _in_use(self, running: Running, rounds: Sequence[RoundRow]) -> bytes:
        """What a candidate is measured against: the model that this task has released, else the one that it began with."""
        for release in self._releases.get(running.row.population, []):
            if release.task == running.row.digest and release.state == rollout.LIVE:
                return release.model
        return read(Round, rounds[0].shown.encode()).models[0] if rounds else running.row.model

    def _revive(self, running: Running, row: RoundRow) -> None:
        """Takes up a round from its row."""
        round_ = read(Round, row.shown.encode())
        state = read(RoundState, row.state.encode())
        reports = self.rows.reports(row.task, row.number)
        size = max((report.at + report.size for report in reports), default=0)
        live = LiveRound(
            running.manifest,
            round_,
            terms_of(running.manifest, round_),
            state,
            Spool(self._spool_path(row.task, row.number), size),
        )
        live.known = {report.id: (report.digest, report.received_ms) for report in reports}
        live.devices = set(self.rows.reported(row.task, row.number))
        self._live[live.key] = live
        longest = live.terms.length * live.terms.width_bytes + REPORT_HEAD_MAX_BYTES
        self.report_bytes = max(self.report_bytes, longest)
        if state.phase == COLLECTING:
            self._desks[running.row.population].open(self._desk_round(running, live, state))

    def _desk_round(self, running: Running, live: LiveRound, state: RoundState) -> OpenRound:
        fixed = running.file.rounds.over_select
        kept = running.row.kept if fixed == "auto" else 1 / fixed
        span_ms = running.file.rounds.deadline_h * 3_600_000
        share = running.file.evaluate.device_share if live.round.kind == EVALUATE else 1.0
        return OpenRound(
            running.manifest,
            live.round,
            state.deadline_ms,
            target=state.target,
            kept=kept,
            patience_ms=round(min(span_ms / 4, 3_600_000)),
            share=share,
            ends_ms=state.deadline_ms + state.answer_ms,
            taken=len(live.devices),
            done=set(live.devices),
        )

    async def _advance(
        self, live: LiveRound, event: Event, keep: Callable[[str, str, int | None], None] | None = None
    ) -> None:
        """One step of a round, with what has to be kept together with it; then whatever is due."""
        async with live.lock:
            before, now_ms = live.state, self._now_ms
            state = step(before, event, now_ms)
            if state != before:
                ended_ms = now_ms if state.phase in ENDED else None
                text = write(state).decode()
                if keep is not None:
                    await in_thread(keep, text, state.phase, ended_ms)
                else:
                    task, number = live.key
                    await in_thread(self.rows.move_round, task, number, text, state.phase, ended_ms)
                live.state = state
        self._after(live)

    def _after(self, live: LiveRound) -> None:
        running = self._tasks[live.round.task]
        desk = self._desks[running.row.population]
        if live.state.phase != COLLECTING and (gone := desk.round(live.key)) is not None:
            asked, taken = len(gone.seen.get("offered", ())), gone.taken
            counts = desk.close(live.key)
            if counts:
                self.rows.add_lost(*live.key, counts)
            if asked >= 20 and live.state.phase == LOOKING:
                kept = (1 - _KEPT_WEIGHT) * running.row.kept + _KEPT_WEIGHT * min(1.0, taken / asked)
                self.rows.learn_kept(live.round.task, kept)
        if live.state.phase in ENDED:
            self._live.pop(live.key, None)
            live.spool.remove()
            if live.state.phase == ABORTED:
                _log.warning("round %d was given up: %s", live.round.number, live.state.reason)
            return
        for effect in due(live.state):
            if (live.key, effect) not in self._doing:
                task = asyncio.create_task(self._do(live, effect))
                self._doing[live.key, effect] = task
                task.add_done_callback(partial(self._did, (live.key, effect)))

    def _did(self, at: tuple[tuple[bytes, int], Effect], task: asyncio.Task[None]) -> None:
        self._doing.pop(at, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a round is stuck", exc_info=error)

    async def _do(self, live: LiveRound, effect: Effect) -> None:
        """Does what is due until it is done or the round has ended; nobody's fault is tried again."""
        wait_s = _RETRY_S[0]
        while live.state.phase not in ENDED and effect in due(live.state):
            try:
                await self._try(live, effect)
                return
            except (LineError, LocalError) as error:
                _log.warning("round %d: %s", live.round.number, error)
            await self._clock.sleep(wait_s)
            wait_s = min(2 * wait_s, _RETRY_S[1])

    async def _try(self, live: LiveRound, effect: Effect) -> None:
        match effect:
            case Look():
                await self._look(live, effect)
            case Form():
                await self._form(live)
            case Ask():
                await self._ask(live, effect)
            case Open():
                await self._open(live)

    def _batch(self, live: LiveRound, helper: int, id: bytes, reports: list[ReportRow]) -> Batch:
        return batch_for(live.terms, helper, id, (report.head for report in reports), self._key)

    async def _look(self, live: LiveRound, effect: Look) -> None:
        reports = await in_thread(self.rows.reports, *live.key)
        line = self._line(live.manifest.helpers[effect.helper].name)
        left_out: list[bytes] = []
        for start in range(0, len(reports), LOOK_MAX):
            part = await in_thread(
                self._batch, live, effect.helper, bytes(16), reports[start : start + LOOK_MAX]
            )
            found = (await line.look(part)).rows()
            left_out.extend(report.id for report in reports if report.id in found)
        await self._advance(
            live,
            Looked(effect.helper),
            lambda state, phase, _: self.rows.leave_out(*live.key, left_out, state, phase),
        )

    async def _form(self, live: LiveRound) -> None:
        running = self._tasks[live.round.task]
        reports = await in_thread(self.rows.reports, *live.key)
        buckets = running.file.robust.buckets if live.round.kind == TRAIN else 1
        made = form([report.id for report in reports], buckets, live.state.least, live.terms.digest)
        batches = tuple(BatchState(batch, len(ids)) for batch, ids in made)
        await self._advance(
            live,
            Formed(batches),
            lambda state, phase, ended: self.rows.form(*live.key, state, phase, ended, dict(made)),
        )

    async def _ask(self, live: LiveRound, effect: Ask) -> None:
        reports = await in_thread(self.rows.reports, *live.key, effect.batch)
        part = await in_thread(self._batch, live, effect.helper, effect.batch, reports)
        try:
            answer = await self._line(live.manifest.helpers[effect.helper].name).answer(part)
        except (PolicyError, PeerError) as error:
            _log.error("a helper refuses a batch of round %d: %s", live.round.number, error)
            await self._advance(live, Refusal(effect.batch, error.code))
            return
        await self._advance(
            live,
            Answered(effect.helper, effect.batch),
            lambda state, phase, _: self.rows.answered(
                *live.key, state, phase, effect.batch, effect.helper, answer
            ),
        )

    async def _open(self, live: LiveRound) -> None:
        async with self._finishing, live.lock:
            live.state = await in_thread(self._finish, live)
        self._stale = True
        self._reload()
        self._after(live)

    def _finish(self, live: LiveRound) -> RoundState:
        """Takes the masks off, makes the next model or the figures, and writes all of it at once."""
        running = self._tasks[live.round.task]
        sums = [found for found in (self._sum(live, each) for each in live.state.batches) if found]
        row, task = self.rows.round(*live.key), self.rows.task_of(live.round.task)
        assert row is not None
        assert task is not None
        now_ms = self._now_ms
        if not sums:
            state = replace(live.state, phase=ABORTED, reason="sum_check_failed")
            self.rows.move_round(*live.key, write(state).decode(), ABORTED, now_ms)
            return state
        state = opened(live.state)
        population = running.row.population
        releases = [each for each in self.rows.releases(population) if each.task == task.digest]
        others = self.rows.rounds(task.digest)
        versions = sum(
            each.kind == TRAIN and each.phase == OPENED and (each.ended_ms or 0) >= row.opened_ms
            for each in others
        )
        made = models.after_round(
            running.file, running.manifest, task, live.round, sums, self.rows.count_devices(population), versions,
            [models.read_figures(each.figures) for each in releases if each.state == rollout.LIVE],
        )  # fmt: skip
        row = replace(
            row,
            state=write(state).decode(),
            phase=OPENED,
            ended_ms=now_ms,
            figures=models.figures_text(made.figures),
        )
        release = None
        if made.released is not None:
            release = self._release(running, made.released, made.figures, now_ms)
        self.rows.finish_round(row, made.task, made.blobs, release)
        if made.fell:
            self._roll_back(running, now_ms)
        return state

    def _sum(self, live: LiveRound, of: BatchState) -> models.BucketSum | None:
        """The sum of one batch; None where a helper has not answered it, or not truly."""
        if not all(of.answered):
            return None
        reports = self.rows.reports(*live.key, of.id)
        masked = total(live.terms, (live.spool.read(report.at, report.size) for report in reports))
        try:
            values = open_sum(
                live.terms, masked, of.id, [report.id for report in reports], self.rows.answers(of.id)
            )
        except PeerError as error:
            _log.error("a sum of round %d does not open: %s", live.round.number, error)
            return None
        return models.BucketSum(values, sum(report.weight for report in reports), len(reports))

    # --- releases ---

    def _release(
        self, running: Running, model: bytes, figures: Any, now_ms: int, step: int = 0
    ) -> ReleaseRow:
        population = running.row.population
        number = max((each.number for each in self.rows.releases(population)), default=0) + 1
        paper = sign_paper(Release(population, running.row.digest, model, number), self._key)
        return ReleaseRow(
            population,
            number,
            running.row.digest,
            model,
            write(paper).decode(),
            step,
            now_ms,
            rollout.LIVE,
            models.figures_text(figures),
        )

    def _roll_back(self, running: Running, now_ms: int) -> None:
        """Puts the model before the newest release back, as a release of its own."""
        releases = self.rows.releases(running.row.population)
        newest = releases[0]
        before = rollout.before(releases, newest)
        if before is None:
            return
        steps = self._tasks[before.task].file.rollout.steps if before.task in self._tasks else (1.0,)
        instead = rollout.again(before, newest.number + 1, steps, self._key, now_ms)
        self.rows.roll_back(running.row.population, newest.number, instead)

    def _step_releases(self) -> None:
        for population, releases in self._releases.items():
            for release in releases[:1]:
                running = self._tasks.get(release.task)
                if running is None:
                    continue
                next_step = rollout.next_step(release, running.file.rollout, self._now_ms)
                if next_step is not None:
                    self.rows.step_release(population, release.number, next_step, self._now_ms)
                    self._stale = True

    # --- what devices ask ---

    async def enrol(self, device: bytes, said: Enrol) -> None:
        population = self.rows.population(said.population)
        if population is None:
            raise PeerError("unknown_device")
        name = population_digest(population.name, self._key.public)
        ticket = Ticket(said.expires_ms, said.ticket)
        check_ticket(population.authority, name, device, ticket, self._now_ms)
        row = Device(population.name, device, said.ticket, said.expires_ms, said.app_version, False)
        if not await in_thread(self.rows.enrol, row, self._now_ms):
            raise PolicyError("device_revoked")
        if device not in self._devices:
            self._desks.setdefault(population.name, Desk(self._pace)).devices += 1
        self._devices[device] = row

    def know(self, device: bytes) -> None:
        found = self._devices.get(device)
        if found is None:
            raise PeerError("unknown_device")
        if found.revoked:
            raise PolicyError("device_revoked")

    def check_in(self, device: bytes, said: CheckIn) -> Answer:
        population = self._devices[device].population
        if said.population != population:
            raise PeerError("unknown_device")
        steps = {running.row.digest: running.file.rollout.steps for running in self._tasks.values()}
        release = rollout.release_for(device, self._releases.get(population, []), steps)
        news = None
        if release is not None and release.number != said.release:
            news = read(Signed, release.signed.encode())
        return self._desks[population].check_in(
            device, said, news, self._now_ms, self._devices[device].expires_ms
        )

    async def take(self, device: bytes, report: Report) -> Signed:
        if report.device != device:
            raise PeerError("bad_message", why="the report is another device's")
        key = report.task, report.round
        live = self._live.get(key)
        if live is None:
            return self._late_receipt(report)
        now_ms = self._now_ms
        if report.id not in live.known:
            check_report(live.terms, report, now_ms)
            self._desks[self._devices[device].population].check(key, device)
        return self._receipt(report, await self._intake.take(live, report, now_ms))

    def _taken(self, live: LiveRound, reports: list[ReportRow]) -> None:
        desk = self._desks[self._tasks[live.round.task].row.population]
        for report in reports:
            desk.took(live.key, report.device, report.received_ms)
        if live.state.phase != COLLECTING:
            self._after(live)

    def _late_receipt(self, report: Report) -> Signed:
        """For a report that was taken and whose receipt was lost on its way, after the end of its round."""
        row = self.rows.report(report.id)
        if row is None or row.digest != report.digest:
            raise PolicyError("round_closed")
        return self._receipt(report, row.received_ms)

    def _receipt(self, report: Report, received_ms: int) -> Signed:
        return sign_paper(
            Receipt(report.id, report.task, report.round, len(report.masked), received_ms), self._key
        )

    async def blob(self, digest: bytes, base: bytes | None) -> bytes:
        return await in_thread(self._pack, digest, base)

    def _pack(self, digest: bytes, base: bytes | None) -> bytes:
        task = self.rows.task_of(digest)
        if task is not None:
            return pack_blob(write(Signed(task.manifest, task.signature)))
        body = self.rows.blob(digest)
        if body is None:
            raise ConfigError("not_found", what="such blob", list_command="isthmus fleet show")
        return pack_blob(body, self.rows.blob(base) if base else None)

    async def forget(self, device: bytes) -> None:
        found = self._devices[device]
        await in_thread(self.rows.revoke, found.population, device)
        self._devices[device] = replace(found, revoked=True)
        self._desks[found.population].devices -= 1

    # --- folders ---

    def _spool_path(self, task: bytes, number: int) -> Path:
        return self._spools / f"{task.hex()[:16]}-{number}.spool"

    def _sweep_spools(self) -> None:
        """Removes what ended rounds have left."""
        alive = {self._spool_path(*key) for key in self._live}
        for path in self._spools.glob("*.spool"):
            if path not in alive:
                path.unlink(missing_ok=True)
