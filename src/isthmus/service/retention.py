"""What a node forgets: ended jobs, with their folders, once they are older than `retention.jobs_days`. The audit log stays."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from isthmus.base.clock import Clock
from isthmus.base.errors import LocalError
from isthmus.base.workers import in_thread
from isthmus.service.audit import Audit
from isthmus.store.audit import AuditKind
from isthmus.store.folder import RetentionConfig
from isthmus.store.records import Store

_log = logging.getLogger(__name__)

DAY_S = 24 * 3600.0


class Retention:
    """Looks once when it begins and then every day."""

    def __init__(
        self,
        config: RetentionConfig,
        store: Store,
        audit: Audit,
        clock: Clock,
        folder_of: Callable[[str], Path],
    ) -> None:
        self._config = config
        self._store = store
        self._audit = audit
        self._clock = clock
        self._folder_of = folder_of
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self._config.jobs_days:
            self._task = asyncio.create_task(self._daily())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _daily(self) -> None:
        while True:
            try:
                await self.look()
            except (LocalError, OSError) as error:  # a disk that is full or slow today may not be tomorrow
                _log.error("ended jobs were not removed: %s", type(error).__name__)
            await self._clock.sleep(DAY_S)

    async def look(self) -> int:
        """Removes what is too old now, and says how many jobs that were. The folder goes first: a job whose folder could not
        be removed is still there to be tried again."""
        before = self._clock.now() - timedelta(days=self._config.jobs_days)
        removed = 0
        for job in self._store.ended_before(before):
            folder = self._folder_of(job.id)
            if folder.exists():
                await in_thread(shutil.rmtree, folder)
            note = self._audit.note(AuditKind.JOB_REMOVED, job.id, digest=job.digest.hex())
            removed += self._store.remove_job(job.id, [note])
        return removed
