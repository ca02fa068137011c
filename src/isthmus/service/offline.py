"""Shows at every job that the line to one of its partners is down, and since when.

An attempt that is under way is not disturbed: what it sends waits in the link, and the job runs on when the line stands again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Final

from isthmus.base.clock import Clock
from isthmus.base.errors import LineError, LocalError
from isthmus.service.courses import Course, Lines, told
from isthmus.store.records import JobState, Store

LOOK_S: Final = 1.0
AFTER_S: Final = 5.0
"""A line that comes back sooner is no news: a partner that restarts takes about as long."""


class Offline:
    """Looks at the lines of all jobs that are under way in `courses`."""

    def __init__(self, store: Store, lines: Lines, clock: Clock, courses: Mapping[str, Course]) -> None:
        self._store = store
        self._lines = lines
        self._clock = clock
        self._courses = courses

    async def watch(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            with suppress(LocalError):  # a disk that is full: it is said later
                self.look()

    def look(self) -> None:
        """Moves jobs to `waiting` with `partner_offline`, and back when all their partners are there again."""
        for course in list(self._courses.values()):
            job = self._store.job(course.id)
            if job is None or job.state not in ("queued", "running", "waiting"):
                continue
            error = self._missing(course.partners)
            said = job.error is not None and job.error["code"] == "partner_offline"
            to: JobState = "waiting" if error else "running" if course.has_worker else "queued"
            if said != (error is not None):
                now = self._clock.now()
                self._store.move_job(job.id, {job.state}, to, now, error=told(error) if error else None)

    def _missing(self, partners: Collection[str]) -> LineError | None:
        """Of the partners that have been away for long enough, the one that was the first to go."""
        away = {name: self._lines.away_s(name) or 0.0 for name in partners}
        first = max(away, key=lambda name: away[name])
        if away[first] < AFTER_S:
            return None
        since = self._clock.now() - timedelta(seconds=away[first])
        return LineError("partner_offline", partner=first, since=since.isoformat(timespec="seconds"))
