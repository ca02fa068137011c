"""A laboratory for device rounds: a leader and two helpers as processes of their own, that are killed and started again, and
devices of which 30 % vanish at any stage of every round.

What is judged: the task ends by itself, every round ends by its deadline, the model is the one that follows from exactly the
reports that were counted, and after a round that was given up the next one begins within ten seconds.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from isthmus.base.typed_json import read
from isthmus.crypto.seal import PartyKey
from isthmus.fleet import models
from isthmus.fleet.cards import HelperCard, read_card
from isthmus.fleet.helper import HelperConfig, HelperFolder
from isthmus.fleet.manifest import admitted, document_of, make_manifest, make_task
from isthmus.fleet.rounds import RoundState
from isthmus.fleet.task import FleetTask
from isthmus.protocols.device_round import (
    METRIC_SCALE,
    TRAIN,
    Manifest,
    Offer,
    Round,
    encodings,
    population_digest,
    report_length,
)
from isthmus.store.fleet import FINISHED, FleetRows, Population, Task
from isthmus.store.helper import Served
from isthmus.wire.https import client_context
from isthmus.wire.link import certificate_der, make_certificate
from tests.fleet.world import Phone, task_of

LEADER, HELPERS = "leader", ("album-app", "audit-house")
PROCESSES = (LEADER, *HELPERS)
PROCESS = str(Path(__file__).with_name("fleet_process.py"))
DEVICES = 36
VANISHING = 0.3
LIMIT_S = 90.0
DEADLINE_S = 12.0
NEXT_ROUND_S = 10.0


@dataclass(frozen=True)
class FleetBlow:
    """What befalls one process: at a boundary, or so many seconds after the task was given."""

    process: str
    point: int = 0
    after_s: float = 0.0
    how: str = "kill"


@dataclass
class FleetOutcome:
    """What became of one experiment. `exact`: every model is the one of the counted reports. `gap_s`: the longest time from the
    end of a round to the beginning of the next."""

    finished: bool
    exact: bool
    passed: dict[str, int]
    struck: int
    rounds: int
    given_up: int
    gap_s: float
    over_s: float
    wall_s: float
    errors: list[str] = field(default_factory=list)


class Proc:
    """A leader or helper process, started again whenever it dies."""

    def __init__(self, home: Path, role: str, port: int) -> None:
        self.home, self._role, self._port = home, role, port
        self.starts = 0
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with (self.home / "log").open("ab") as log:
            command = [
                sys.executable,
                "-m",
                "tests.crash.fleet_process",
                self._role,
                str(self.home),
                str(self._port),
            ]
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def tend(self) -> None:
        if self.process.poll() is not None:
            self.process = self._start()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class LabPhone(Phone):
    """A device that may vanish at any stage."""

    def __init__(self, world: Any, port: int, session: aiohttp.ClientSession, seed: int) -> None:
        super().__init__(world, port, session)
        self.draw = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.gone: set[tuple[bytes, int]] = set()

    async def live(self) -> None:
        """Works for ever; a line that fails is tried again."""
        while True:
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                await self._turn()
            await asyncio.sleep(0.1)

    async def _turn(self) -> None:
        offer = (await self.check_in()).offer
        if offer is None:
            return
        key = (offer.round.task, offer.round.number)
        if key in self.gone:
            return
        stage = self.draw.choice(("asked", "fetched", "trained")) if self.draw.random() < VANISHING else ""
        if stage:
            self.gone.add(key)
        if stage == "asked":
            return
        report = await self.make(offer)
        if stage:
            return
        self.gone.add(key)
        while True:  # the same bytes until there is an answer
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                status, _ = await self.call("reports", report.encode())
                if status != 503:
                    return
            await asyncio.sleep(0.1)

    def values(self, manifest: Manifest, offer: Offer, model: Any) -> Any:
        if offer.round.kind != TRAIN:
            return self.numbers.integers(0, METRIC_SCALE, report_length(manifest, offer.round))
        update = self.numbers.normal(0, 0.1, model.size)
        return np.concatenate([each.encode(update).values for each in encodings(manifest, offer.round)])


@dataclass
class World:
    """What a phone knows of its fleet."""

    key: PartyKey
    authority: PartyKey
    population: bytes
    certificate: bytes


class FleetLab:
    """Folders are made once; every experiment runs on a copy of them, with ports of its own."""

    def __init__(self, root: Path) -> None:
        self._root, self._turn = root, 0
        self._key, self._authority = PartyKey.generate(), PartyKey.generate()

    def _task(self) -> FleetTask:
        return task_of(
            rounds={
                "count": 2, "cohort": 22, "over_select": 1.6, "deadline_h": DEADLINE_S / 3600, "answer_h": DEADLINE_S / 3600,
            },
            evaluate={"every": 2},
        )  # fmt: skip

    def _prepare(self, place: Path) -> tuple[dict[str, int], FleetTask, Task, World]:
        ports = dict(zip(PROCESSES, _free_ports(len(PROCESSES)), strict=True))
        home = place / LEADER
        home.mkdir(parents=True)
        (home / "party.key").write_bytes(self._key.to_bytes())
        certificate, tls_key = make_certificate("leader", ["127.0.0.1"])
        (home / "tls.pem").write_bytes(certificate)
        (home / "tls.key").write_bytes(tls_key)
        rows = FleetRows(home)
        population = Population("phones", self._authority.public, 100.0, 0.001, False, 0)
        rows.add_population(population)
        keys = []
        for name in HELPERS:
            folder = HelperFolder(place / name)
            address = f"127.0.0.1:{ports[name]}"
            folder.make(HelperConfig(name, address, f"https://{address}"), ["127.0.0.1"])
            record = folder.rows()
            record.allow("cloud-co", [Served("cloud-co", self._key.public, self._authority.public, 20, 1000)])
            record.close()
            rows.add_helper(name, folder.card(), 0)
            keys.append(read_card(HelperCard, folder.card()).helper)
        task = self._task()
        manifest = make_manifest(task, self._key.public, self._authority.public, keys)
        row, blobs = make_task(task, document_of(task), manifest, self._key, None, DEVICES, 0)
        rows.add_task(row, blobs, admitted(population, [], task, manifest))
        rows.close()
        world = World(
            self._key,
            self._authority,
            population_digest("phones", self._key.public),
            certificate_der(certificate),
        )
        return ports, task, row, world

    def run(self, blows: list[FleetBlow]) -> FleetOutcome:
        """One task under these blows, from its first round to its end."""
        self._turn += 1
        place = self._root / f"run-{self._turn}"
        ports, task, row, world = self._prepare(place)
        for blow in blows:
            if blow.point:
                role = "leader" if blow.process == LEADER else "helper"
                (place / blow.process / f"fate-{role}").write_text(f"{blow.how} {blow.point}")
        procs = {
            name: Proc(place / name, "leader" if name == LEADER else "helper", ports[name])
            for name in PROCESSES
        }
        began_s = time.monotonic()
        phones: list[LabPhone] = []
        try:
            finished, struck = asyncio.run(
                self._play(procs, blows, place, ports[LEADER], world, phones, began_s)
            )
        finally:
            for proc in procs.values():
                proc.close()
        outcome = self._judge(place, task, row, phones)
        outcome.finished, outcome.wall_s = finished, time.monotonic() - began_s
        outcome.struck = struck + sum(
            blow.point > 0 and not self._fate(place, blow).exists() for blow in blows
        )
        if outcome.finished and outcome.exact:
            shutil.rmtree(place)
        return outcome

    @staticmethod
    def _fate(place: Path, blow: FleetBlow) -> Path:
        return place / blow.process / f"fate-{'leader' if blow.process == LEADER else 'helper'}"

    async def _play(
        self, procs: dict[str, Proc], blows: list[FleetBlow], place: Path, port: int, world: World,
        phones: list[LabPhone], began_s: float,
    ) -> tuple[bool, int]:  # fmt: skip
        timed = sorted((blow for blow in blows if not blow.point), key=lambda blow: blow.after_s)
        struck = 0
        context = client_context(world.certificate)
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=16), timeout=timeout
        ) as session:
            phones += [LabPhone(world, port, session, seed) for seed in range(DEVICES)]
            lives = [asyncio.create_task(self._live(phone)) for phone in phones]
            rows = FleetRows(place / LEADER)
            try:
                while time.monotonic() - began_s < LIMIT_S:
                    await asyncio.sleep(0.05)
                    while timed and time.monotonic() - began_s >= timed[0].after_s:
                        procs[timed.pop(0).process].process.kill()
                        struck += 1
                    for proc in procs.values():
                        proc.tend()
                    if rows.tasks()[0].state == FINISHED:
                        return True, struck
                return False, struck
            finally:
                rows.close()
                for life in lives:
                    life.cancel()
                await asyncio.gather(*lives, return_exceptions=True)

    @staticmethod
    async def _live(phone: LabPhone) -> None:
        while True:
            try:
                await phone.enrol()
                break
            except (aiohttp.ClientError, OSError, TimeoutError, AssertionError):
                await asyncio.sleep(0.1)
        while True:
            with suppress(AssertionError):  # a 503 while the leader's disk is full
                await phone.live()

    def _judge(self, place: Path, task: FleetTask, row: Task, phones: list[LabPhone]) -> FleetOutcome:
        """Makes every model again from what the counted devices had sent in the clear."""
        plain = {id: values for phone in phones for id, values in phone.plain.items()}
        rows = FleetRows(place / LEADER)
        errors: list[str] = []
        manifest = make_manifest(
            task, self._key.public, self._authority.public,
            [read_card(HelperCard, card).helper for _, card in rows.helpers()],
        )  # fmt: skip
        found = rows.rounds(row.digest)
        given_up, over_s, gap_s = 0, 0.0, 0.0
        for at, each in enumerate(found):
            state = read(RoundState, each.state.encode())
            limit_ms = state.deadline_ms + state.answer_ms
            if each.ended_ms is None:
                continue
            over_s = max(over_s, (each.ended_ms - limit_ms) / 1000)
            if at + 1 < len(found):
                gap_s = max(gap_s, (found[at + 1].opened_ms - each.ended_ms) / 1000)
            if each.phase != "opened":
                given_up += 1
                continue
            sums = []
            for batch in state.batches:
                ids = [r.id for r in rows.reports(row.digest, each.number, batch.id)]
                if len(ids) != batch.reports or not all(batch.answered):
                    errors.append(f"round {each.number}: a batch does not hold what its state says")
                sums.append(models.BucketSum(np.sum([plain[id] for id in ids], axis=0), len(ids), len(ids)))
            shown = read(Round, each.shown.encode())
            made = models.after_round(task, manifest, row, shown, sums, rows.count_devices("phones"), 0, [])
            row = made.task
            if models.figures_text(made.figures) != each.figures:
                errors.append(f"round {each.number}: {each.figures} in place of {made.figures}")
        kept = rows.task_of(row.digest)
        assert kept is not None
        if kept.model != row.model:
            errors.append("the model is another one")
        passed = {}
        for name in PROCESSES:
            with suppress(FileNotFoundError):
                role = "leader" if name == LEADER else "helper"
                passed[name] = (place / name / f"passed-{role}").stat().st_size
        rows.close()
        return FleetOutcome(
            False, not errors, passed, 0, len(found), given_up, gap_s, max(over_s, 0.0), 0.0, errors
        )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
