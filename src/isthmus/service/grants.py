"""Grants of a node: asked for, given, taken back; and the one rule that a job has to pass.

A job starts only where all have signed the same hash and every feature owner has granted it: this dataset, for this label owner
and purpose, with these columns and operations, in time, with a run left, and with a floor for shared rows. The holder of the
data checks that when a job is accepted, at each start, and whenever it is asked whether a grant still covers a job. The user
checks its copy too, so that it does not begin what will be refused.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal

from isthmus.base.clock import Clock
from isthmus.base.document import read_document
from isthmus.base.errors import ConfigError, IsthmusError, PeerError, PolicyError
from isthmus.crypto.seal import PartyKey
from isthmus.jobs.consent import run_digest
from isthmus.jobs.grant_messages import GrantAsked, GrantEnded, GrantMessage, GrantTold, ProjectTold
from isthmus.jobs.grant_terms import (
    OF_JOB,
    Ask,
    OwnColumns,
    Terms,
    is_id,
    made,
    new_id,
    sign_ending,
    sign_terms,
    verify_ending,
    verify_terms,
)
from isthmus.jobs.plan import GrantNote
from isthmus.jobs.reason import Words
from isthmus.jobs.spec import JobFile, parse_job
from isthmus.service.audit import Audit
from isthmus.service.datasets import Datasets, columns_in, known_columns
from isthmus.service.keys import check_signed
from isthmus.service.projects import Projects
from isthmus.service.sizes import SizeGuard
from isthmus.store.agreements import GrantRun, GrantState, StoredGrant
from isthmus.store.audit import AuditKind, Note
from isthmus.store.records import Store, StoredDataset, StoredJob
from isthmus.wire.channel import Line
from isthmus.wire.message import Message

_log = logging.getLogger(__name__)

OPEN_MAX = 100
"""Open requests of one partner, and grants of one partner that are in force; more are dropped."""

WINDOW = timedelta(days=30)
ENDING_DAYS = 30
"""How many days before its end a plan begins to say so."""

Standing = Literal["asked", "given", "refused", "revoked", "expired"]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a job wants of one holder."""

    holder: str
    user: str
    dataset: str
    job: JobFile
    digest: str

    @property
    def name(self) -> str:
        return self.dataset.partition("@")[0]


class Grants:
    """Call `speak` before anything arrives: `send` says something to a partner, `on_revoked` hears of every grant that was
    taken back, here or there."""

    def __init__(
        self,
        own: str,
        key: PartyKey,
        store: Store,
        datasets: Datasets,
        projects: Projects,
        audit: Audit,
        clock: Clock,
    ) -> None:
        self._own = own
        self._key = key
        self._store = store
        self._datasets = datasets
        self._projects = projects
        self._audit = audit
        self._clock = clock
        self._send: Callable[[str, Message], None] = lambda partner, message: None
        self._on_revoked: Callable[[str, str], None] = lambda partner, dataset: None

    def speak(self, send: Callable[[str, Message], None], on_revoked: Callable[[str, str], None]) -> None:
        self._send = send
        self._on_revoked = on_revoked
        self._projects.speak(send)

    # --- what people do ---

    def find(self, grant_id: str) -> StoredGrant:
        grant = self._store.grant(grant_id)
        if grant is None:
            raise ConfigError("not_found", what=f"grant {grant_id[:64]}", list_command="isthmus grant ls")
        return grant

    def ask(self, holder: str, **wanted: Any) -> StoredGrant:
        """Asks a confirmed partner for a grant. `wanted` are the fields of `Ask`."""
        self._confirmed(holder)
        terms: Ask = made(Ask, id=new_id(), holder=holder, user=self._own, **wanted)
        self._check_until(terms.until)
        now = self._clock.now()
        asked = StoredGrant(terms.id, False, holder, "asked", terms.to_bytes(), now, now)
        self._store.add_grant(asked, [self._note(AuditKind.GRANT_ASKED, asked, self._audit.person)])
        self._send(holder, GrantAsked(asked.terms))
        return asked

    def give(
        self,
        partner: str | None = None,
        ask: str | None = None,
        columns: OwnColumns | None = None,
        **said: Any,
    ) -> StoredGrant:
        """Signs a grant to a confirmed partner, or in answer to what it asked for; what is said here counts, the rest is as
        asked."""
        known = self._asked_of_us(ask) if ask else None
        fields: dict[str, Any] = {}
        if known is not None:
            asked = Ask.from_bytes(known.terms)
            fields = asked.model_dump(mode="json") | {"holder": self._own}
            partner = partner or asked.user
        fields |= {"user": partner or "", "holder": self._own}
        fields |= {name: value for name, value in said.items() if value is not None}
        fields.setdefault("id", new_id())
        self._confirmed(fields["user"])
        columns = columns or OwnColumns()
        dataset = self._datasets.find(str(fields.get("dataset", "")))
        told = _told(columns, dataset)
        now = self._clock.now()
        terms: Terms = made(Terms, **fields, columns=told, given_at=now.isoformat(timespec="seconds"))
        self._check_until(terms.until)
        if known is not None and known.partner != terms.user:
            raise _bounds("partner", terms.user, f"{known.partner}, who asked")
        given = StoredGrant(
            id=terms.id,
            held=True,
            partner=terms.user,
            state="given",
            terms=terms.to_bytes(),
            made_at=known.made_at if known else now,
            changed_at=now,
            signature=sign_terms(terms, self._key),
            columns=columns.model_dump(mode="json"),
        )
        notes = [self._note(AuditKind.GRANT_GIVEN, given, self._audit.person)]
        if known is None:
            self._store.add_grant(given, notes)
        elif not self._store.change_grant(given, {"asked"}, notes):
            raise self._conflict(terms.id, "asked for")
        self._send(terms.user, GrantTold(given.terms, given.signature))
        return given

    def give_for(self, stored: StoredJob) -> StoredGrant:
        """A grant of one run for exactly this job file, unless one covers it already."""
        job = _parse(stored)
        wanted = self._wanted(job, stored.digest.hex())[0]
        found, _ = self._search(wanted)
        if found is not None:
            return found
        title = job.inputs[self._own].dataset
        columns = OwnColumns(include=tuple(columns_in(job, self._own, self._datasets.find(title))))
        last = self._clock.now().date() + timedelta(days=14)
        return self.give(
            stored.label_owner,
            columns=columns,
            dataset=title,
            purpose=job.metadata.purpose,
            until=job.metadata.valid_until or last.isoformat(),
            min_rows=job.align.min_rows,
            runs=1,
            runs_30d=job.privacy.runs_30d,
            job=stored.digest.hex(),
        )

    def refuse(self, grant_id: str) -> StoredGrant:
        """Says no to what a partner asked for."""
        return self._end(self._asked_of_us(grant_id), "refused", {"asked"})

    def revoke(self, grant_id: str) -> StoredGrant:
        """Takes a grant back. What runs under it stops at its next step; it never comes back."""
        grant = self.find(grant_id)
        if not grant.held or grant.state != "given":
            raise self._conflict(grant_id, "given by this node")
        ended = self._end(grant, "revoked", {"given"})
        self._on_revoked(grant.partner, terms_of(grant).dataset)
        return ended

    # --- what a job has to pass ---

    def check(self, stored: StoredJob, giving: bool = False) -> None:
        """Raises PolicyError, and writes it down, unless a grant of this node covers the job. For when it is accepted.

        `giving`: one is given along with it; then the runs of 30 days alone are looked at.
        """
        for wanted in self._wanted(_parse(stored), stored.digest.hex()):
            error = self._spent_lately(wanted, wanted.job.privacy.runs_30d)
            if not giving:
                error = self._search(wanted)[1]
            if error is not None:
                self._audit.write(
                    AuditKind.RULE_BROKEN,
                    stored.id,
                    by=self._audit.person,
                    digest=stored.digest.hex(),
                    code=error.code,
                )
                raise error

    def start(self, stored: StoredJob) -> None:
        """Raises PolicyError unless the job is covered; counts the run, once however often it starts again."""
        run = run_digest(stored.digest, stored.number)
        for wanted in self._wanted(_parse(stored), stored.digest.hex()):
            counted = self._store.run_of(run, wanted.holder)
            if counted is not None:
                ended = self._ended(counted)
                if ended is not None:
                    raise ended
                continue
            grant, error = self._search(wanted)
            if grant is None:
                raise error or _missing(wanted.holder, "nothing was granted")
            spent = GrantRun(run, wanted.holder, wanted.user, wanted.name, grant.id, self._clock.now())
            self._store.add_run(spent, [self._note(AuditKind.GRANT_USED, grant, digest=stored.digest.hex())])

    def still_covers(self, stored: StoredJob) -> PolicyError | None:
        """Why a job may not go on, for every barrier; a run that was counted needs no further one."""
        run = run_digest(stored.digest, stored.number)
        for wanted in self._wanted(_parse(stored), stored.digest.hex()):
            counted = self._store.run_of(run, wanted.holder)
            error = self._ended(counted) if counted is not None else self._search(wanted)[1]
            if error is not None:
                return error
        return None

    def guard(self, stored: StoredJob, line: Line, stop: Callable[[IsthmusError], None]) -> Line:
        """The line to a worker that runs under a grant of this node: what the alignment shows is held against its bounds."""
        run = run_digest(stored.digest, stored.number)
        counted = self._store.run_of(run, self._own)
        grant = self._store.grant(counted.grant) if counted is not None else None
        if counted is None or grant is None:
            return line
        terms = Terms.from_bytes(grant.terms)
        since = self._clock.now() - WINDOW
        earlier = [
            r for r in self._store.runs_since(self._own, counted.user, counted.dataset, since) if r.run != run
        ]

        def keep(rows: int, shared: int) -> None:
            self._store.note_sizes(run, self._own, rows, shared)

        return SizeGuard(line, stored.label_owner, terms, earlier, keep, stop)

    def of_plan(self, job: JobFile, digest: bytes) -> tuple[GrantNote, ...]:
        """Which grants a job would run under: found, near their end, or missing and why."""
        return tuple(self._plan_note(wanted) for wanted in self._wanted(job, digest.hex()))

    def standing(self, grant: StoredGrant) -> Standing:
        if grant.state == "given" and self._today() > _until(grant):
            return "expired"
        return grant.state

    def runs_left(self, grant: StoredGrant) -> int:
        return max(terms_of(grant).runs - self._store.runs_under(grant.id), 0)

    # --- the rule ---

    def _wanted(self, job: JobFile, digest: str) -> list[_Wanted]:
        """What the job wants of this node, or, where this node has the label, of every feature owner."""
        owner = job.parties.label_owner
        holders = job.parties.feature_owners if self._own == owner else (self._own,)
        return [
            _Wanted(holder, owner, job.inputs[holder].dataset, job, digest)
            for holder in holders
            if holder in job.parties.feature_owners
        ]

    def _search(self, wanted: _Wanted) -> tuple[StoredGrant | None, PolicyError | None]:
        """The grant that covers, or why the nearest one does not."""
        held = wanted.holder == self._own
        nearest, best = 0, _missing(wanted.holder, f"nothing is granted of {wanted.name}")
        for grant in self._store.grants_with(wanted.user if held else wanted.holder, held):
            if grant.state not in ("given", "revoked") or not self._genuine(grant):
                continue
            terms = Terms.from_bytes(grant.terms)
            if terms.dataset not in (wanted.name, wanted.dataset) or terms.job not in ("", wanted.digest):
                continue
            found = self._refusal(grant, terms, wanted)
            if found is None:
                return grant, None
            if found[0] > nearest:
                nearest, best = found
        return None, best

    def _refusal(self, grant: StoredGrant, terms: Terms, wanted: _Wanted) -> tuple[int, PolicyError] | None:
        """How far a job comes with a grant, and what stops it there."""
        job, holder = wanted.job, wanted.holder
        if job.metadata.purpose != terms.purpose:
            return 1, PolicyError("purpose_differs", holder=holder)
        lacking = sorted(OF_JOB - set(terms.operations))
        if lacking:
            return 2, _missing(holder, f"{', '.join(lacking)} is not among what is allowed")
        beyond = self._beyond(grant, terms, wanted)
        if beyond:
            return 3, _missing(holder, f"{beyond} of the columns are not in the grant")
        if grant.state == "revoked":
            return 4, PolicyError("grant_revoked", holder=holder, grant=grant.id)
        if self._today() > terms.until:
            return 5, PolicyError("grant_expired", holder=holder, grant=grant.id, day=terms.until)
        if job.align.min_rows < terms.min_rows:
            return 6, PolicyError("overlap_too_small", floor=terms.min_rows)
        spent = self._store.runs_under(grant.id)
        if spent >= terms.runs:
            return 7, _spent(wanted, spent, terms.runs)
        lately = self._spent_lately(wanted, min(terms.runs_30d, job.privacy.runs_30d))
        return None if lately is None else (7, lately)

    def _spent_lately(self, wanted: _Wanted, allowed: int) -> PolicyError | None:
        """Runs of 30 days on this data, whatever version and under whatever grant."""
        since = self._clock.now() - WINDOW
        recent = len(self._store.runs_since(wanted.holder, wanted.user, wanted.name, since))
        return _spent(wanted, recent, allowed) if recent >= allowed else None

    def _beyond(self, grant: StoredGrant, terms: Terms, wanted: _Wanted) -> int:
        """How many columns of the job are not granted. The user knows names only where the job file says them."""
        if grant.held:
            dataset = self._datasets.find(wanted.dataset)
            columns = columns_in(wanted.job, self._own, dataset)
            own = columns_of(grant)
            return sum(not _granted(own, name) for name in columns)
        chosen = wanted.job.inputs[wanted.holder].columns
        if any(sign in name for name in chosen.include for sign in "*?["):
            return 0
        return max(len(set(chosen.include) - set(chosen.exclude)) - terms.columns.count, 0)

    def _genuine(self, grant: StoredGrant) -> bool:
        """Whether a grant of this node is still the one that it signed, its list of columns included."""
        if not grant.held:
            return True
        try:
            terms = Terms.from_bytes(grant.terms)
            verify_terms(terms, self._key.public, grant.signature)
            if columns_of(grant).digest() != terms.columns.digest:
                raise PeerError("bad_signature", partner=self._own)
        except (PeerError, ValueError):
            _log.error("grant %s is not what was signed: it does not count", grant.id)
            self._audit.write_once(AuditKind.RULE_BROKEN, grant.id, self._own, "bad_signature")
            return False
        return True

    def _ended(self, counted: GrantRun) -> PolicyError | None:
        grant = self.find(counted.grant)
        if grant.state == "revoked":
            return PolicyError("grant_revoked", holder=counted.holder, grant=grant.id)
        if self._today() > _until(grant):
            return PolicyError("grant_expired", holder=counted.holder, grant=grant.id, day=_until(grant))
        return None

    def _plan_note(self, wanted: _Wanted) -> GrantNote:
        holder, dataset = wanted.holder, wanted.dataset
        try:
            grant, error = self._search(wanted)
        except ConfigError as missing:  # the own table is not registered yet
            grant, error = None, _missing(holder, missing.sentence("en"))
        if grant is None:
            error = error or _missing(holder, "nothing was granted")
            words = Words(error.sentence("en"), error.sentence("zh"))
            return GrantNote(holder, dataset, "missing", "", "", 0, error.code, words)
        until, left = _until(grant), self.runs_left(grant)
        days = (date.fromisoformat(until) - self._clock.now().date()).days
        words = Words(
            f"grant {grant.id}: until {until} ({days} days), {left} runs left",
            f"授权 {grant.id}：有效期至 {until}（{days} 天），剩余 {left} 次",
        )
        state: Literal["found", "ending"] = "ending" if days <= ENDING_DAYS or left <= 1 else "found"
        return GrantNote(holder, dataset, state, grant.id, until, left, "", words)

    # --- talk between nodes ---

    def take(self, partner: str, said: GrantMessage) -> None:
        """Raises PeerError for what a partner may not say."""
        match said:
            case GrantAsked(terms):
                self._on_asked(partner, Ask.from_bytes(terms))
            case GrantTold(terms, signature):
                self._on_told(partner, Terms.from_bytes(terms), signature)
            case GrantEnded(grant, state, signature):
                self._on_ended(partner, grant, state, signature)
            case ProjectTold():
                self._projects.take(partner, said)

    def say_again(self, partner: str) -> None:
        """What the partner may have missed: requests without an answer, grants in force, endings."""
        self._projects.say_again(partner)
        for grant in self._store.grants_with(partner, held=False):
            if grant.state == "asked":
                self._send(partner, GrantAsked(grant.terms))
        for grant in self._store.grants_with(partner, held=True):
            if grant.ending:
                self._send(partner, GrantEnded(grant.id, grant.state, grant.ending))
            elif self.standing(grant) == "given":
                self._send(partner, GrantTold(grant.terms, grant.signature))

    def _on_asked(self, partner: str, ask: Ask) -> None:
        if (ask.user, ask.holder) != (partner, self._own):
            raise PeerError("bad_message", why="the request is of other parties")
        known = self._store.grant(ask.id)
        if known is not None:
            return
        waiting = [g for g in self._store.grants_with(partner, held=True) if g.state == "asked"]
        if len(waiting) >= OPEN_MAX:
            self._audit.write_once(AuditKind.GRANT_REFUSED, "control", partner, "busy")
            return
        now = self._clock.now()
        asked = StoredGrant(ask.id, True, partner, "asked", ask.to_bytes(), now, now)
        self._store.add_grant(asked, [self._note(AuditKind.GRANT_ASKED, asked, partner)])

    def _on_told(self, partner: str, terms: Terms, signature: bytes) -> None:
        if (terms.holder, terms.user) != (partner, self._own):
            raise PeerError("bad_message", why="the grant is of other parties")
        check_signed(self._store, partner, self._clock, lambda key: verify_terms(terms, key, signature))
        now = self._clock.now()
        told = StoredGrant(terms.id, False, partner, "given", terms.to_bytes(), now, now, signature)
        notes = [self._note(AuditKind.GRANT_GIVEN, told, partner)]
        known = self._store.grant(terms.id)
        if known is None:
            if self._in_force(partner) >= OPEN_MAX:
                self._audit.write_once(AuditKind.GRANT_REFUSED, "control", partner, "busy")
                return
            self._store.add_grant(told, notes)
        elif known.held or known.partner != partner:
            raise PeerError("bad_message", why="the number of the grant is taken")
        elif known.state == "asked":
            self._store.change_grant(replace(told, made_at=known.made_at), {"asked"}, notes)
        elif known.ending:  # it does not come back: the holder is shown what it said itself
            self._send(partner, GrantEnded(known.id, known.state, known.ending))
        elif known.terms != told.terms:
            raise PeerError("step_changed")

    def _on_ended(self, partner: str, grant_id: str, state: str, signature: bytes) -> None:
        if not is_id(grant_id) or state not in ("refused", "revoked"):
            raise PeerError("bad_message", why="a grant ends refused or revoked")
        ended: GrantState = "revoked" if state == "revoked" else "refused"
        known = self._store.grant(grant_id)
        if known is not None and known.held and known.partner == partner:
            # The own ending comes back: this node has forgotten it, with an older database.
            verify_ending(grant_id, self._own, partner, state, self._key.public, signature)
            self._keep_ending(known, ended, signature, self._own)
            return
        own = self._own
        check_signed(
            self._store,
            partner,
            self._clock,
            lambda key: verify_ending(grant_id, partner, own, state, key, signature),
        )
        if known is None:
            # Remembered without its terms, so that the grant cannot be shown here afterwards.
            now = self._clock.now()
            blank = Ask(
                id=grant_id,
                holder=partner,
                user=self._own,
                dataset="unknown",
                purpose="unknown: it ended before it came",
                until="2000-01-01",
            )
            mark = StoredGrant(grant_id, False, partner, ended, blank.to_bytes(), now, now, b"", signature)
            self._store.add_grant(mark, [self._note(_KIND[ended], mark, partner)])
        elif known.partner != partner:
            raise PeerError("bad_message", why="the number of the grant is taken")
        else:
            self._keep_ending(known, ended, signature, partner)

    def _keep_ending(self, known: StoredGrant, state: GrantState, signature: bytes, by: str) -> None:
        now = self._clock.now()
        ended = replace(known, state=state, ending=signature, changed_at=now)
        note = self._note(_KIND[state], ended, by)
        if self._store.change_grant(ended, {"asked", "given"}, [note]) and state == "revoked":
            self._on_revoked(known.partner, terms_of(known).dataset)

    # --- small things ---

    def _end(self, grant: StoredGrant, state: GrantState, since: set[GrantState]) -> StoredGrant:
        signature = sign_ending(grant.id, grant.partner, state, self._key)
        ended = replace(grant, state=state, changed_at=self._clock.now(), ending=signature)
        note = self._note(_KIND[state], ended, self._audit.person)
        if not self._store.change_grant(ended, since, [note]):
            raise self._conflict(grant.id, " or ".join(sorted(since)))
        self._send(grant.partner, GrantEnded(grant.id, state, signature))
        return ended

    def _asked_of_us(self, grant_id: str) -> StoredGrant:
        grant = self.find(grant_id)
        if not grant.held or grant.state != "asked":
            raise self._conflict(grant_id, "asked for by a partner")
        return grant

    def _conflict(self, grant_id: str, needed: str) -> ConfigError:
        grant = self.find(grant_id)
        state = f"{self.standing(grant)} ({'given here' if grant.held else 'given by a partner'})"
        show = f"isthmus grant show {grant_id}"
        return ConfigError("conflict", what=grant_id, state=state, needed=needed, show_command=show)

    def _confirmed(self, name: str) -> None:
        partner = self._store.partner(name)
        if partner is None:
            raise ConfigError("not_found", what=f"partner {name[:64]}", list_command="isthmus partner ls")
        if not partner.confirmed:
            raise ConfigError("not_confirmed", partner=name)

    def _in_force(self, partner: str) -> int:
        known = self._store.grants_with(partner, held=False)
        return sum(self.standing(g) == "given" and self.runs_left(g) > 0 for g in known)

    def _check_until(self, day: str) -> None:
        today = self._today()
        try:
            date.fromisoformat(day)
        except ValueError:
            raise _bounds("until", day, "a day of the calendar") from None
        if day < today:
            raise _bounds("until", day, f"{today} or later")

    def _today(self) -> str:
        return self._clock.now().date().isoformat()

    def _note(self, kind: AuditKind, grant: StoredGrant, by: str = "", digest: str = "") -> Note:
        digest = digest or hashlib.sha256(grant.terms).hexdigest()
        return self._audit.note(kind, grant.id, by=by, digest=digest)


_KIND: dict[GrantState, AuditKind] = {
    "refused": AuditKind.GRANT_REFUSED,
    "revoked": AuditKind.GRANT_REVOKED,
}


def terms_of(grant: StoredGrant) -> Ask:
    """`Terms` where they were signed, else what was asked for."""
    return Terms.from_bytes(grant.terms) if grant.signature else Ask.from_bytes(grant.terms)


def columns_of(grant: StoredGrant) -> OwnColumns:
    """The holder's own list. Raises ValueError where somebody has changed its form."""
    return OwnColumns.model_validate_json(json.dumps(grant.columns))


def _told(columns: OwnColumns, dataset: StoredDataset) -> dict[str, Any]:
    """What the user is told of the columns. Raises ConfigError where a pattern or an alias fits none."""
    held_back = {dataset.options.get("key"), dataset.options.get("label")}
    names = [name for name in known_columns(dataset) if name not in held_back]
    chosen = [name for name in names if _granted(columns, name)]
    if not chosen:
        raise _bounds("columns", ", ".join(columns.include)[:80], "names or patterns of columns that exist")
    for name in columns.aliases:
        if name not in chosen:
            raise _bounds("aliases", name, "names of columns that are granted")
    if len(set(columns.aliases.values())) < len(columns.aliases):
        raise _bounds("aliases", "one alias twice", "an alias of its own for every column")
    return {
        "count": len(chosen),
        "aliases": sorted(columns.aliases.values()),
        "digest": columns.digest(),
    }


def _granted(columns: OwnColumns, name: str) -> bool:
    def fits(patterns: Sequence[str]) -> bool:
        return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)

    return fits(columns.include) and not fits(columns.exclude)


def _until(grant: StoredGrant) -> str:
    return terms_of(grant).until


def _missing(holder: str, why: str) -> PolicyError:
    return PolicyError("grant_missing", holder=holder, why=why)


def _spent(wanted: _Wanted, spent: int, allowed: int) -> PolicyError:
    holder, dataset = wanted.holder, wanted.name
    return PolicyError("runs_spent", holder=holder, dataset=dataset, spent=spent, allowed=allowed)


def _bounds(field: str, value: str, allowed: str) -> ConfigError:
    return ConfigError("out_of_bounds", field=field, value=value, allowed=allowed)


def _parse(stored: StoredJob) -> JobFile:
    return parse_job(read_document(stored.document, "the job file"))
