"""Projects: a purpose that several parties share, signed by the one that made it and told to the others.

Who made a project may add parties and archive it. What it is for, and whether it takes two people of each party, never changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Literal, Self

import pydantic
from annotated_types import Interval
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from isthmus.base.canonical import canonical_json
from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigError, PeerError
from isthmus.crypto.seal import PartyKey, verify
from isthmus.jobs.grant_messages import ProjectTold
from isthmus.jobs.grant_terms import Purpose
from isthmus.jobs.spec import JobFile, PartyName
from isthmus.service.audit import Audit
from isthmus.service.keys import check_signed
from isthmus.store.agreements import StoredProject
from isthmus.store.audit import AuditKind, Note
from isthmus.store.records import Store
from isthmus.wire.message import Message

PROJECTS_MAX = 1000
"""Projects of one partner; more are dropped."""

_PROJECT = b"isthmus/project/v1\0"
ProjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$")]


class Project(BaseModel):
    """What the maker signs; `number` rises with every change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    v: Literal[1] = 1
    name: ProjectName
    maker: PartyName
    purpose: Purpose
    parties: Annotated[tuple[PartyName, ...], Field(min_length=1, max_length=50)]
    four_eyes: bool = False
    archived: bool = False
    number: Annotated[int, Interval(ge=1, le=2**31)] = 1

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """Raises PeerError `bad_message`."""
        try:
            project = cls.model_validate_json(body)
            if project.to_bytes() == body:
                return project
        except ValueError:
            pass
        raise PeerError("bad_message", why="the project has another form")


class Projects:
    """The projects of one node."""

    def __init__(self, own: str, key: PartyKey, store: Store, audit: Audit, clock: Clock) -> None:
        self._own = own
        self._key = key
        self._store = store
        self._audit = audit
        self._clock = clock
        self._send: Callable[[str, Message], None] = lambda partner, message: None

    def speak(self, send: Callable[[str, Message], None]) -> None:
        self._send = send

    def find(self, name: str) -> StoredProject:
        found = self._store.project(name)
        if found is None:
            raise ConfigError("not_found", what=f"project {name[:64]}", list_command="isthmus project ls")
        return found

    def new(
        self, name: str, purpose: str, parties: Sequence[str] = (), four_eyes: bool = False
    ) -> StoredProject:
        """Makes a project; `parties` are confirmed partners, who are told."""
        if self._store.project(name) is not None:
            raise ConfigError("already_there", what=f"project {name[:64]}")
        for party in parties:
            self._confirmed(party)
        fields = {
            "name": name,
            "maker": self._own,
            "purpose": purpose,
            "parties": sorted({self._own, *parties}),
            "four_eyes": four_eyes,
        }
        try:
            project = Project.model_validate_json(json.dumps(fields))
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            field, shown = str(first["loc"][0]), str(first["input"])[:80]
            raise ConfigError("out_of_bounds", field=field, value=shown, allowed=first["msg"]) from None
        return self._say(project, AuditKind.PROJECT_MADE)

    def invite(self, name: str, party: str) -> StoredProject:
        project = self._ours(name)
        self._confirmed(party)
        if party in project.parties:
            raise ConfigError("already_there", what=f"party {party} in project {name}")
        parties = tuple(sorted({*project.parties, party}))
        grown = project.model_copy(update={"parties": parties, "number": project.number + 1})
        return self._say(grown, AuditKind.PROJECT_INVITED)

    def archive(self, name: str) -> StoredProject:
        """No new job in it; at all parties where this one made it, else here alone."""
        stored = self.find(name)
        project = Project.from_bytes(stored.document)
        if stored.state == "archived":
            raise self._conflict(name, "archived")
        if project.maker == self._own:
            ended = project.model_copy(update={"archived": True, "number": project.number + 1})
            return self._say(ended, AuditKind.PROJECT_ARCHIVED)
        ended_here = replace(stored, state="archived", changed_at=self._clock.now())
        self._store.put_project(ended_here, [self._note(AuditKind.PROJECT_ARCHIVED, ended_here)])
        return ended_here

    def of_job(self, job: JobFile) -> Project | None:
        """The project that a job names. Raises ConfigError unless it is known here, open, and has all parties of the job."""
        if not job.metadata.project:
            return None
        stored = self.find(job.metadata.project)
        project = Project.from_bytes(stored.document)
        if stored.state == "archived":
            raise self._conflict(stored.name, "archived")
        for party in job.parties.all:
            if party not in project.parties:
                allowed = f"a project with {party} in it; it has {', '.join(project.parties)}"
                raise ConfigError(
                    "out_of_bounds", field="metadata.project", value=stored.name, allowed=allowed
                )
        return project

    # --- talk between nodes ---

    def take(self, partner: str, told: ProjectTold) -> None:
        """Keeps what a partner tells of a project of its own. Raises PeerError."""
        project = Project.from_bytes(told.document)
        if project.maker != partner or self._own not in project.parties:
            raise PeerError("bad_message", why="the project is of other parties")
        text = _PROJECT + told.document
        check_signed(
            self._store, partner, self._clock, lambda key: verify(key, told.signature, text, partner)
        )
        known, now = self._store.project(project.name), self._clock.now()
        if known is None:
            if sum(p.maker == partner for p in self._store.projects()) >= PROJECTS_MAX:
                self._audit.write_once(AuditKind.PROJECT_INVITED, "control", partner, "busy")
                return
        else:
            before = Project.from_bytes(known.document)
            if before.maker != partner:
                raise PeerError("bad_message", why="another party made a project of this name")
            if (before.purpose, before.four_eyes) != (project.purpose, project.four_eyes):
                raise PeerError("step_changed")
            if project.number <= before.number:
                return
        archived = project.archived or (known is not None and known.state == "archived")
        stored = StoredProject(
            name=project.name,
            maker=partner,
            document=told.document,
            signature=told.signature,
            state="archived" if archived else "active",
            made_at=known.made_at if known else now,
            changed_at=now,
        )
        kind = AuditKind.PROJECT_ARCHIVED if project.archived else AuditKind.PROJECT_INVITED
        self._store.put_project(stored, [self._note(kind, stored, partner)])

    def say_again(self, partner: str) -> None:
        for stored in self._store.projects():
            if stored.maker == self._own and partner in Project.from_bytes(stored.document).parties:
                self._send(partner, ProjectTold(stored.document, stored.signature))

    def _say(self, project: Project, kind: AuditKind) -> StoredProject:
        document, now = project.to_bytes(), self._clock.now()
        known = self._store.project(project.name)
        stored = StoredProject(
            name=project.name,
            maker=self._own,
            document=document,
            signature=self._key.sign(_PROJECT + document),
            state="archived" if project.archived else "active",
            made_at=known.made_at if known else now,
            changed_at=now,
        )
        self._store.put_project(stored, [self._note(kind, stored)])
        for party in project.parties:
            if party != self._own:
                self._send(party, ProjectTold(document, stored.signature))
        return stored

    def _ours(self, name: str) -> Project:
        stored = self.find(name)
        if stored.maker != self._own or stored.state != "active":
            raise self._conflict(name, f"{stored.state}, made by {stored.maker}")
        return Project.from_bytes(stored.document)

    def _conflict(self, name: str, state: str) -> ConfigError:
        show = f"isthmus project show {name}"
        return ConfigError(
            "conflict", what=name, state=state, needed="active and made by this party", show_command=show
        )

    def _confirmed(self, name: str) -> None:
        partner = self._store.partner(name)
        if partner is None:
            raise ConfigError("not_found", what=f"partner {name[:64]}", list_command="isthmus partner ls")
        if not partner.confirmed:
            raise ConfigError("not_confirmed", partner=name)

    def _note(self, kind: AuditKind, project: StoredProject, by: str = "") -> Note:
        digest = hashlib.sha256(project.document).hexdigest()
        return self._audit.note(kind, project.name, by=by or self._audit.person, digest=digest)
