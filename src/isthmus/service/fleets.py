"""Fleets: the devices of an app, their tasks, the helpers. What people ask for becomes rows, which the leader's process reads.

Every act is on record in the audit log before it takes effect: the rows of the leader are a file of their own.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigError, IsthmusError, PolicyError
from isthmus.crypto.seal import PartyKey
from isthmus.fleet import rollout
from isthmus.fleet.cards import HelperCard, read_card
from isthmus.fleet.manifest import (
    admitted,
    document_of,
    ledger_of,
    make_manifest,
    make_task,
    plan_task,
    spent_of,
)
from isthmus.fleet.task import FleetTask, load_task
from isthmus.privacy.ledger import PrivacyLedger
from isthmus.protocols.device_round import vector_of
from isthmus.protocols.secure_sum import HelperKey
from isthmus.service.audit import Audit
from isthmus.service.fleet_plan import FleetPlan
from isthmus.store.audit import AuditKind
from isthmus.store.fleet import RUNNING, STOPPED, FleetRows, Population, ReleaseRow
from isthmus.store.fleet_views import FleetViews, TaskView
from isthmus.store.folder import PARTY_PATTERN
from isthmus.store.leader_folder import LeaderFolder
from isthmus.store.schema import bounds

EPSILON_MAX = 100.0
DELTA_MAX = 0.01


class Fleets:
    """The fleets that this party leads."""

    def __init__(self, own: str, folder: LeaderFolder, key: PartyKey, audit: Audit, clock: Clock) -> None:
        self.own = own
        self.folder = folder
        self.key = key
        self._audit = audit
        self._clock = clock
        self._opened: FleetRows | None = None

    @property
    def rows(self) -> FleetRows:
        """Made on first use."""
        if self._opened is None:
            self.folder.make()
            self._opened = FleetRows(self.folder.home)
        return self._opened

    @property
    def views(self) -> FleetViews:
        return FleetViews(self.rows)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    @property
    def now_ms(self) -> int:
        return round(self._clock.now().timestamp() * 1000)

    # --- fleets ---

    def all(self) -> list[Population]:
        return self.rows.populations() if self._opened or self.folder.database.exists() else []

    def find(self, name: str) -> Population:
        found = next((each for each in self.all() if each.name == name), None)
        if found is None:
            raise ConfigError("not_found", what=f"fleet {name[:64]}", list_command="isthmus fleet ls")
        return found

    def check_no_fleet(self) -> None:
        """Raises ConfigError `conflict` if this party leads one: devices, tickets and signed tasks name its key."""
        if names := [each.name for each in self.all()]:
            state = f"what devices of {', '.join(names)[:80]} know their leader by"
            raise ConfigError(
                "conflict",
                what=f"the key of {self.own}",
                state=state,
                needed="of no fleet",
                show_command="isthmus fleet ls",
            )

    def new(self, name: str, authority: bytes, epsilon: float, delta: float) -> Population:
        """`authority`: public key of the app's sign-in. `epsilon`, `delta`: what all tasks together may cost a device."""
        if not re.fullmatch(PARTY_PATTERN, name):
            raise ConfigError(
                "out_of_bounds", field="name", value=name[:80], allowed="1 to 64 of a-z, 0-9 and -"
            )
        if any(each.name == name for each in self.all()):
            raise ConfigError("already_there", what=f"fleet {name}")
        made = Population(name, authority, epsilon, delta, False, self.now_ms)
        self._note(AuditKind.FLEET_MADE, name, authority)
        self.rows.add_population(made)
        return made

    def kill(self, name: str, undo: bool = False) -> Population:
        """The kill switch: no device is offered work, open rounds are given up, until it is undone."""
        found = self.find(name)
        self._note(AuditKind.FLEET_RESUMED if undo else AuditKind.FLEET_KILLED, name)
        self.rows.stop_population(name, not undo)
        return replace(found, stopped=not undo)

    def block(self, name: str, device: bytes) -> None:
        """A device that is no longer spoken to; its key does not come back."""
        self.find(name)
        if self.rows.device(name, device) is None:
            what = f"device {device.hex()} in {name}"
            raise ConfigError("not_found", what=what, list_command=f"isthmus fleet devices {name}")
        self._note(AuditKind.FLEET_DEVICE_BLOCKED, name, device)
        self.rows.revoke(name, device)

    # --- tasks ---

    def task(self, name: str, task: str) -> TaskView:
        self.find(name)
        found = self.views.task(name, task)
        if found is None:
            what, listed = f"task {task[:64]} in {name}", f"isthmus fleet show {name}"
            raise ConfigError("not_found", what=what, list_command=listed)
        return found

    def plan(self, name: str, document: bytes) -> FleetPlan:
        """What a task would do and cost, and what is in its way. Raises ConfigError for a file that does not fit."""
        population = self.find(name)
        file = self._read(population, document)
        missing = [each for each in file.parties.helpers if each not in self._keys()]
        keys = [self._keys().get(each) or _stand_in(each) for each in file.parties.helpers]
        manifest = make_manifest(file, self.key.public, population.authority, keys)
        ledger = self.ledger(population)
        obstacles: list[IsthmusError] = [_no_helper(each) for each in missing]
        obstacles += self._obstacles(population, file)
        try:
            admitted(population, self.rows.spent(name), file, manifest)
        except PolicyError as error:
            obstacles.append(error)
        begins = self._beginning(name, file)
        return FleetPlan(
            file,
            document_of(file),
            None if missing else manifest.digest,
            plan_task(file, manifest, ledger),
            budget_of(ledger),
            begins.number if begins else None,
            tuple(obstacles),
        )

    def start(self, name: str, document: bytes) -> TaskView:
        """Signs a task and sets its privacy aside; the leader opens its first round.

        Raises ConfigError for a file that does not fit or a helper without a card; PolicyError `privacy_spent`.
        """
        population = self.find(name)
        file = self._read(population, document)
        for obstacle in self._obstacles(population, file):
            raise obstacle
        known = self._keys()
        for helper in file.parties.helpers:
            if helper not in known:
                raise _no_helper(helper)
        keys = [known[helper] for helper in file.parties.helpers]
        manifest = make_manifest(file, self.key.public, population.authority, keys)
        entry = admitted(population, self.rows.spent(name), file, manifest)
        begins = self._beginning(name, file)
        body = self.rows.blob(begins.model) if begins else None
        row, blobs = make_task(
            file,
            document_of(file),
            manifest,
            self.key,
            vector_of(body) if body else None,
            self.rows.count_devices(name),
            self.now_ms,
        )
        self._note(AuditKind.FLEET_TASK_STARTED, f"{name}/{row.name}", row.digest)
        self.rows.add_task(row, blobs, entry)
        return self.task(name, row.name)

    def _read(self, population: Population, document: bytes) -> FleetTask:
        file = load_task(document)
        wrong = (
            ("fleet.name", file.fleet.name, population.name),
            ("parties.leader", file.parties.leader, self.own),
        )
        for field, value, allowed in wrong:
            if value != allowed:
                raise bounds(field, value, allowed)
        today = self._clock.now().date().isoformat()
        if file.metadata.valid_until < today:
            raise bounds("metadata.valid_until", file.metadata.valid_until, f"{today} or later")
        return file

    def _obstacles(self, population: Population, file: FleetTask) -> list[ConfigError]:
        name, task = population.name, file.metadata.name
        found = []
        if self.views.has_task(task):
            found.append(ConfigError("already_there", what=f"task {task}"))
        if population.stopped:
            show = f"isthmus fleet kill {name} --undo"
            found.append(
                ConfigError("conflict", what=name, state="stopped", needed="in use", show_command=show)
            )
        return found

    def _keys(self) -> dict[str, HelperKey]:
        return {card.name: card.helper for card, _ in self.helpers()}

    def _beginning(self, name: str, file: FleetTask) -> ReleaseRow | None:
        """The release in use, where it is a model of the same form: a task goes on from what devices have."""
        release = self.release(name)
        paper = self.views.paper(release.task) if release else None
        if paper is None:
            return None
        before = load_task(paper[1].encode())
        same = (before.model.layers, before.model.loss, before.example.features) == (
            file.model.layers,
            file.model.loss,
            file.example.features,
        )
        return release if same else None

    def ledger(self, population: Population) -> PrivacyLedger:
        return ledger_of(population, self.rows.spent(population.name))

    def spent(self, task: TaskView) -> dict[str, Any] | None:
        """What a task may cost a device and has; None without differential privacy."""
        found = (spent_of(entry) for entry in self.rows.spent(task.population))
        return next((each for each in found if each["task"] == task.digest.hex()), None)

    def stop(self, name: str, task: str) -> TaskView:
        """Ends a task: open rounds are given up, what was released stays."""
        found = self.task(name, task)
        if found.state != RUNNING:
            show = f"isthmus fleet watch {task}"
            raise ConfigError("conflict", what=task, state=found.state, needed=RUNNING, show_command=show)
        self._note(AuditKind.FLEET_TASK_STOPPED, f"{name}/{task}", found.digest)
        self.rows.end_task(found.digest, STOPPED, f"by {self._audit.person}")
        return self.task(name, task)

    # --- releases ---

    def release(self, name: str) -> ReleaseRow | None:
        """The one in use."""
        self.find(name)
        return next((each for each in self.rows.releases(name) if each.state == rollout.LIVE), None)

    def roll_out(self, name: str) -> ReleaseRow:
        """The next share of the devices gets the newest release now."""
        release = self._live(name)
        steps = self.steps(name, release)
        if release.step >= len(steps) - 1:
            raise self._no_step(name, f"at step {release.step + 1} of {len(steps)}", "before its last step")
        self._note(AuditKind.FLEET_ROLLED_OUT, f"{name}/{release.number}", release.model)
        self.rows.step_release(name, release.number, release.step + 1, self.now_ms)
        return self._live(name)

    def roll_back(self, name: str) -> ReleaseRow:
        """The model before the newest release comes back to all devices, as a release of its own."""
        release = self._live(name)
        before = rollout.before(self.rows.releases(name), release)
        if before is None:
            raise self._no_step(name, "the first release", "released after another model")
        number = release.number + 1
        instead = rollout.again(before, number, self.steps(name, before), self.key, self.now_ms)
        self._note(AuditKind.FLEET_ROLLED_BACK, f"{name}/{release.number}", before.model)
        self.rows.roll_back(name, release.number, instead)
        return self._live(name)

    def steps(self, name: str, release: ReleaseRow) -> tuple[float, ...]:
        """The shares of devices that a release goes through."""
        paper = self.views.paper(release.task)
        return (1.0,) if paper is None else load_task(paper[1].encode()).rollout.steps

    def covered(self, name: str) -> int:
        """The number of the newest release that all devices have; who has an older one was last seen before it."""
        for release in self.rows.releases(name):
            if release.state == rollout.LIVE and release.step >= len(self.steps(name, release)) - 1:
                return release.number
        return 0

    def _live(self, name: str) -> ReleaseRow:
        release = self.release(name)
        if release is None:
            listed = f"isthmus fleet show {name}"
            raise ConfigError("not_found", what=f"release in {name}", list_command=listed)
        return release

    @staticmethod
    def _no_step(name: str, state: str, needed: str) -> ConfigError:
        show = f"isthmus fleet show {name}"
        return ConfigError(
            "conflict", what=f"the release of {name}", state=state, needed=needed, show_command=show
        )

    # --- helpers ---

    def helpers(self) -> list[tuple[HelperCard, int]]:
        """Cards, and when they were added (Unix milliseconds)."""
        rows = self.views.helpers() if self._opened or self.folder.database.exists() else []
        return [(read_card(HelperCard, card), added_ms) for _, card, added_ms in rows]

    def add_helper(self, card: str) -> HelperCard:
        """A card given again takes the place of the old one; tasks that run keep the keys that they were signed with."""
        made = read_card(HelperCard, card)
        if made.name == self.own:
            allowed = "a helper of another organisation"
            raise ConfigError("out_of_bounds", field="name", value=made.name, allowed=allowed)
        if not re.fullmatch(PARTY_PATTERN, made.name):
            allowed = "1 to 64 of a-z, 0-9 and -"
            raise ConfigError("out_of_bounds", field="name", value=made.name[:80], allowed=allowed)
        self._note(AuditKind.HELPER_ADDED, made.name, hashlib.sha256(card.encode()).digest())
        self.rows.add_helper(made.name, card, self.now_ms)
        return made

    def _note(self, kind: AuditKind, subject: str, digest: bytes = b"") -> None:
        self._audit.write(kind, subject, by=self._audit.person, digest=digest.hex())


def budget_of(ledger: PrivacyLedger) -> dict[str, float]:
    """What all tasks of a fleet may cost a device, and what is left of it for new ones."""
    epsilon, delta = ledger.set_aside
    allowed = ledger.allowance
    return {
        "epsilon": allowed.epsilon,
        "delta": allowed.delta,
        "epsilon_left": max(0.0, allowed.epsilon - epsilon),
        "delta_left": max(0.0, allowed.delta - delta),
    }


def _no_helper(name: str) -> ConfigError:
    return ConfigError("not_found", what=f"helper {name}", list_command="isthmus fleet helper ls")


def _stand_in(name: str) -> HelperKey:
    """For sizes alone: nothing is signed with it."""
    signing, sealing = (hashlib.sha256(f"{use} {name}".encode()).digest() for use in ("signing", "sealing"))
    return HelperKey(name, signing, sealing)
