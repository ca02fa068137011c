"""The events of a job as Server-Sent Events: told as they come, from any event on, until the job has ended.

Stored events carry their id, so a reader that comes back with `Last-Event-ID` misses nothing, over a restart either. Between them
stands `stage.progress`, which is not stored and has no id. A comment is sent when nothing else was for a while, so that a silent
line can be told from a dead one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from isthmus.base.clock import Clock
from isthmus.base.errors import PolicyError
from isthmus.service.jobs import Jobs
from isthmus.service.views import event_view, progress_view
from isthmus.store.records import ENDED, Store

LOOK_S = 0.5
STILL_S = 5.0
STREAMS_MAX = 32
_BATCH = 200


class Streams:
    """Every open stream of a node; `close` ends them all, so that none keeps the server from ending."""

    def __init__(self, own: str, jobs: Jobs, store: Store, clock: Clock) -> None:
        self._own = own
        self._jobs = jobs
        self._store = store
        self._clock = clock
        self._open = 0
        self._closing = False

    def close(self) -> None:
        self._closing = True

    def check_room(self) -> None:
        """Raises PolicyError `rate` where too many streams are open."""
        if self._open >= STREAMS_MAX:
            raise PolicyError("rate", what=f"{STREAMS_MAX} event streams", wait_s=1)

    async def follow(
        self, job_id: str, after: int, heartbeat_s: float, still: Callable[[], bool]
    ) -> AsyncIterator[str]:
        """`still`: whether whoever reads may go on; asked every few seconds."""
        self._open += 1
        try:
            async for text in self._follow(job_id, after, heartbeat_s, still):
                yield text
        finally:
            self._open -= 1

    async def _follow(
        self, job_id: str, after: int, heartbeat_s: float, still: Callable[[], bool]
    ) -> AsyncIterator[str]:
        told_s, progress = self._clock.monotonic_s(), None
        asked_s = told_s
        yield "retry: 1000\n\n"
        while not self._closing:
            if self._clock.monotonic_s() - asked_s >= STILL_S:
                asked_s = self._clock.monotonic_s()
                if not still():
                    return
            # The state is read before the events: what an ended job has told is then all there.
            job = self._jobs.find(job_id)
            found = self._store.events(job_id, after, _BATCH)
            for event in found:
                after = event.id
                yield _event(event.kind, event_view(event, self._own), event.id)
            before, progress = progress, progress_view(job, self._jobs.step(job_id))
            if progress is not None and progress != before:
                yield _event("stage.progress", progress)
            now_s = self._clock.monotonic_s()
            if found or progress != before:
                told_s = now_s
            elif now_s - told_s >= heartbeat_s:
                told_s = now_s
                yield ": still here\n\n"
            if len(found) == _BATCH:
                continue
            if job.state in ENDED:
                return
            await self._clock.sleep(LOOK_S)


def _event(kind: str, data: dict[str, Any], number: int | None = None) -> str:
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
