"""One running node: its folder, store, link, partners, datasets and jobs, put together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import LocalError
from isthmus.crypto.password import Passwords
from isthmus.service.approvals import Approvals
from isthmus.service.audit import Audit
from isthmus.service.backup import settle
from isthmus.service.datasets import Datasets
from isthmus.service.grants import Grants
from isthmus.service.jobs import Jobs
from isthmus.service.joining import Side
from isthmus.service.measured import Measurements
from isthmus.service.partners import Partners
from isthmus.service.projects import Projects
from isthmus.service.retention import Retention
from isthmus.service.users import Users
from isthmus.service.vault import Vault
from isthmus.store.audit import AuditKind
from isthmus.store.folder import NodeFolder
from isthmus.store.sql import SqlStore
from isthmus.wire.link import Link, certificate_der, server_context

WORKER = (sys.executable, "-m", "isthmus.jobs.worker")


class Node:
    """Reads the folder; `start` listens and dials, `close` ends everything. One event loop owns it."""

    def __init__(
        self,
        folder: NodeFolder,
        clock: Clock | None = None,
        worker: Sequence[str] = WORKER,
        passwords: Passwords | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self.clock = clock
        self.folder = folder
        self.config = folder.config()
        folder.check_modes()
        key = folder.party_key()
        direct = self.config.mode == "direct"
        certificate = certificate_der(folder.certificate.read_bytes()) if direct else None
        own = Side(self.config.party, key.public, self.config.address if direct else None, certificate)
        self.store = SqlStore(folder.place())
        self.link = Link(key, self.config.party, clock, join=self._join)
        self.audit = Audit(self.config.party, key, self.store, clock)
        self.vault = Vault(folder.users_key(make=not self.store.users(limit=1)))
        self.users = Users(
            self.config.party, self.store, self.vault, self.audit, clock, self.config.sign_in, passwords
        )
        self.datasets = Datasets(self.store, [Path(data) for data in self.config.data], self.audit, clock)
        self.measured = Measurements(folder.home / "lines.json", clock)
        self.projects = Projects(self.config.party, key, self.store, self.audit, clock)
        self.grants = Grants(
            self.config.party, key, self.store, self.datasets, self.projects, self.audit, clock
        )
        self.approvals = Approvals(self.config.party, self.store, self.projects, self.audit, clock)
        self.jobs = Jobs(
            self.config.party,
            key,
            self.store,
            self.datasets,
            self.link,
            self.measured,
            self.audit,
            self.grants,
            self.approvals,
            clock,
            folder.job,
            folder.record_key(),
            worker,
        )
        self.partners = Partners(self.store, own, key, self.link, self.audit, clock, self.jobs.talk_to)
        self.retention = Retention(self.config.retention, self.store, self.audit, clock, folder.job)
        self.public_key = key.public
        self.link_port: int | None = None
        self._started = False

    async def start(self) -> None:
        settle(self.folder, self.store, self.audit, self.clock)
        if self.config.listen:
            host, _, port = self.config.listen.rpartition(":")
            context = server_context(str(self.folder.certificate), str(self.folder.tls_key))
            try:
                self.link_port = await self.link.listen(host.strip("[]"), int(port), context)
            except (OSError, OverflowError) as error:
                why = getattr(error, "strerror", None) or "it cannot be opened"
                raise LocalError("port_taken", port=self.config.listen, why=why) from None
        self.audit.write(AuditKind.NODE_STARTED)
        self.partners.begin()
        self.jobs.begin()
        self.retention.begin()
        await self.link.start()
        self._started = True

    def ready(self) -> bool:
        """Whether the node has started and its store can be read."""
        return self._started and self.store.answers_now()

    async def close(self) -> None:
        self._started = False
        await self.retention.close()
        await self.jobs.close()
        await self.link.close()
        self.store.close()

    async def _join(self, body: bytes, caller: str) -> bytes:
        return await self.partners.join(body, caller)
