"""Reports on their way to the disk: many are made durable by one transaction, and each is acknowledged only after it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from isthmus.base.clock import Clock
from isthmus.base.errors import IsthmusError, PeerError, PolicyError
from isthmus.base.typed_json import write
from isthmus.base.workers import in_thread
from isthmus.fleet.rounds import COLLECTING, RoundState, Took, step
from isthmus.protocols.device_round import Manifest, Round
from isthmus.protocols.secure_sum import Report, Terms
from isthmus.store.fleet import FleetRows, ReportRow, Spool

GATHER_S = 0.01
"""How long the first report of a transaction waits for others."""


@dataclass(slots=True)
class LiveRound:
    """A round that is under way. `state` moves only under `lock`, and only together with its row."""

    manifest: Manifest
    round: Round
    terms: Terms
    state: RoundState
    spool: Spool
    known: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    """Ids of reports: their digest, and when they came."""
    devices: set[bytes] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def key(self) -> tuple[bytes, int]:
        return self.round.task, self.round.number


@dataclass(slots=True)
class _Waiting:
    live: LiveRound
    row: ReportRow


class Intake:
    """Takes reports of rounds that are open. `taken` hears of those that are durable, before their devices do."""

    def __init__(
        self, rows: FleetRows, clock: Clock, taken: Callable[[LiveRound, list[ReportRow]], None]
    ) -> None:
        self._rows = rows
        self._clock = clock
        self._taken = taken
        self._waiting: list[_Waiting] = []
        self._pending: dict[bytes, asyncio.Future[int]] = {}
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def take(self, live: LiveRound, report: Report, now_ms: int) -> int:
        """When it came (Unix milliseconds), once it is durable; the same report again gets the same answer.

        Raises PolicyError `round_closed`; PeerError `report_changed` for another report under a known id or of the same device.
        """
        if (known := live.known.get(report.id)) is not None:
            if known[0] != report.digest:
                raise PeerError("report_changed")
            pending = self._pending.get(report.id)
            return known[1] if pending is None else await asyncio.shield(pending)
        if report.device in live.devices:
            raise PeerError("report_changed")
        if live.state.phase != COLLECTING:
            raise PolicyError("round_closed")
        at = live.spool.add(report.masked)
        task, number = live.key
        row = ReportRow(
            report.id, task, number, report.device, report.weight, report.head, report.digest,
            at, len(report.masked), now_ms, "taken", None,
        )  # fmt: skip
        live.known[report.id] = (report.digest, now_ms)
        live.devices.add(report.device)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending[report.id] = done
        self._waiting.append(_Waiting(live, row))
        self._some.set()
        return await asyncio.shield(done)

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            await self._clock.sleep(GATHER_S)
            self._some.clear()
            batch, self._waiting = self._waiting, []
            for live in {id(each.live): each.live for each in batch}.values():
                await self._commit(live, [each for each in batch if each.live is live])

    async def _commit(self, live: LiveRound, batch: list[_Waiting]) -> None:
        async with live.lock:
            if live.state.phase != COLLECTING:
                self._fail(batch, PolicyError("round_closed"))
                return
            now_ms = round(self._clock.now().timestamp() * 1000)
            state = step(live.state, Took(len(batch)), now_ms)
            try:
                await in_thread(self._keep, live, [each.row for each in batch], state)
            except IsthmusError as error:
                self._fail(batch, error)
                return
            live.state = state
        self._taken(live, [each.row for each in batch])
        for each in batch:
            self._pending.pop(each.row.id).set_result(each.row.received_ms)

    def _keep(self, live: LiveRound, rows: list[ReportRow], state: RoundState) -> None:
        live.spool.sync()
        self._rows.take(rows, write(state).decode(), state.phase)

    def _fail(self, batch: list[_Waiting], error: IsthmusError) -> None:
        for each in batch:
            each.live.known.pop(each.row.id)
            each.live.devices.discard(each.row.device)
            done = self._pending.pop(each.row.id)
            done.set_exception(error)
            done.exception()  # it has been looked at, even if the device is gone
