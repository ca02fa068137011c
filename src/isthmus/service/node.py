"""One running node: its folder, store, link, partners, datasets and jobs, put together."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import ConfigError, LocalError
from isthmus.crypto.password import Passwords
from isthmus.crypto.seal import TurningKey
from isthmus.service.approvals import Approvals
from isthmus.service.audit import Audit
from isthmus.service.backup import settle
from isthmus.service.datasets import Datasets
from isthmus.service.fleets import Fleets
from isthmus.service.grants import Grants
from isthmus.service.jobs import Jobs
from isthmus.service.joining import Side
from isthmus.service.keys import Keys
from isthmus.service.measured import Measurements
from isthmus.service.partner_line import (
    KeyOffered,
    KeyPinned,
    PartnerLines,
    PartnerMessage,
    RatesAsked,
    RatesTold,
)
from isthmus.service.partners import Partners
from isthmus.service.projects import Projects
from isthmus.service.rates import Rates
from isthmus.service.retention import Retention
from isthmus.service.users import Users
from isthmus.service.vault import Vault
from isthmus.store.audit import AuditKind
from isthmus.store.folder import NodeFolder
from isthmus.store.leader_folder import LeaderFolder
from isthmus.store.sql import SqlStore
from isthmus.wire.link import Link, Proxy, Relayed, certificate_der, server_context
from isthmus.wire.message import Message

_TEND_S = 60.0

_log = logging.getLogger(__name__)
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
        key = TurningKey(folder.party_key())
        proxy = None
        if self.config.proxy:
            user = self.config.proxy_user
            proxy = Proxy(self.config.proxy, user, folder.proxy_password() if user else "")
        shown = {"direct": folder.certificate, "relay": folder.relay_certificate}.get(self.config.mode)
        if shown is not None and not shown.is_file():
            raise ConfigError("key_missing", path=str(shown))
        certificate = None if shown is None else certificate_der(shown.read_bytes())
        own = Side(self.config.party, key.public, self.config.reached_at, certificate)
        self.relay: Relayed | None = None
        self.store = SqlStore(folder.place())
        self.link = Link(
            folder.party_key(),
            self.config.party,
            clock,
            join=self._join,
            proxy=proxy,
            met_with=self._met_with,
        )
        self.audit = Audit(self.config.party, key, self.store, clock)
        self.keys = Keys(self.config.party, folder, key, self.store, self.link, self.audit, clock)
        self.keys.begin()
        self.vault = Vault(folder.users_key(make=not self.store.users(limit=1)))
        self.users = Users(
            self.config.party, self.store, self.vault, self.audit, clock, self.config.sign_in, passwords
        )
        self.datasets = Datasets(self.store, [Path(data) for data in self.config.data], self.audit, clock)
        self.measured = Measurements(folder.home / "lines.json", clock)
        self.rates = Rates(self.link, self.measured, self._say_to, clock)
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
        self.fleets = Fleets(self.config.party, LeaderFolder(folder.home), key, self.audit, clock)
        self.partner_lines = PartnerLines(self.link, self._greeting, self._take)
        self.keys.say = self._say_to_all
        self.partners = Partners(
            self.store, own, key, self.link, self.audit, clock, self._talk_to, self._on_revoked
        )
        self.retention = Retention(self.config.retention, self.store, self.audit, clock, folder.job)
        self.key = key
        self._side = own
        self._tending: asyncio.Task[None] | None = None
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
        if self.config.relay and self._side.certificate_der is not None:
            self.relay = self.link.take_from(self.config.relay, self._side.certificate_der)
        self.audit.write(AuditKind.NODE_STARTED)
        self.partners.begin()
        self.jobs.begin()
        self.retention.begin()
        await self.link.start()
        self._tending = asyncio.create_task(self._tend())
        self._started = True

    def ready(self) -> bool:
        """Whether the node has started and its store can be read."""
        return self._started and self.store.answers_now()

    async def close(self) -> None:
        self._started = False
        await self.retention.close()
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
        await self.jobs.close()
        await self.rates.close()
        await self.partner_lines.close()
        await self.link.close()
        self.fleets.close()
        self.store.close()

    async def _join(self, body: bytes, caller: str) -> bytes:
        return await self.partners.join(body, caller)

    async def _tend(self) -> None:
        """Ends changes of keys when their time is up."""
        while True:
            try:
                self.keys.tend()
            except LocalError as error:
                _log.error("the change of a key waits: %s", error)
            await self.clock.sleep(_TEND_S)

    # --- what is said between nodes, beside jobs ---

    def _talk_to(self, partner: str) -> None:
        self.jobs.talk_to(partner)
        self.partner_lines.begin(partner)

    def _on_revoked(self, partner: str) -> None:
        self.partner_lines.end(partner)
        self.jobs.on_revoked(partner)

    def _met_with(self, partner: str, own: bytes, theirs: bytes) -> None:
        self.keys.met_with(partner, own, theirs)

    def _greeting(self, partner: str) -> list[Message]:
        offer = self.keys.offer()
        return [offer] if offer else []

    def _say_to(self, partner: str, message: Message) -> None:
        self.partner_lines.say(partner, message)

    def _say_to_all(self, message: Message) -> None:
        for partner in self.partner_lines.partners:
            self.partner_lines.say(partner, message)

    def _take(self, partner: str, message: PartnerMessage) -> None:
        match message:
            case KeyOffered():
                if (pinned := self.keys.on_offered(partner, message)) is not None:
                    self.partner_lines.say(partner, pinned)
            case KeyPinned():
                self.keys.on_pinned(partner, message)
            case RatesAsked():
                self.rates.on_asked(partner)
            case RatesTold():
                self.rates.on_told(partner, message)
