"""Approvals: what people of this party still have to decide, and what they decided.

Every job that a partner proposes waits here for one person who says yes. In a project of four eyes it takes two different people
of each party: at the label owner the one who proposes and one more, before anything is signed or sent; at a feature owner two.
"""

from __future__ import annotations

from dataclasses import replace

from isthmus.base.clock import Clock
from isthmus.base.document import read_document
from isthmus.base.errors import ConfigError, PolicyError
from isthmus.jobs.spec import parse_job
from isthmus.service.audit import Audit
from isthmus.service.projects import Projects
from isthmus.store.agreements import StoredApproval
from isthmus.store.audit import AuditKind, Note
from isthmus.store.records import Store, StoredJob

REASON_MAX = 500


class Approvals:
    """The approvals of one node. The audit log says who acts."""

    def __init__(self, own: str, store: Store, projects: Projects, audit: Audit, clock: Clock) -> None:
        self._own = own
        self._store = store
        self._projects = projects
        self._audit = audit
        self._clock = clock

    def begin(self) -> None:
        """Opens what an earlier process of this node did not come to open."""
        for job in self._store.jobs_in({"proposed"}):
            if job.role == "feature_owner":
                self.open(job, job.label_owner)

    def find(self, approval_id: str) -> StoredApproval:
        found = self._store.approval(approval_id)
        if found is None:
            what = f"approval {approval_id[:64]}"
            raise ConfigError("not_found", what=what, list_command="isthmus approval ls")
        return found

    def four_eyes(self, stored: StoredJob) -> bool:
        """Whether it takes two people. Raises ConfigError where the project of the job does not fit."""
        project = self._projects.of_job(parse_job(read_document(stored.document, "the job file")))
        return project is not None and project.four_eyes

    def open(self, stored: StoredJob, asked_by: str, people: tuple[str, ...] = ()) -> None:
        """Puts a job before the people of this party; once."""
        now = self._clock.now()
        waits = StoredApproval(id_of(stored.id), "start", stored.id, asked_by, people, "open", now, now)
        if self._store.add_approval(waits):
            self._tell(waits, "approval.asked")

    def yes(self, stored: StoredJob) -> bool:
        """The yes of the person who acts. Whether all have said it that have to; of two at once one wins.

        Raises ConfigError `conflict` for what is decided, PolicyError `own_request` for a person who spoke already.
        """
        approval = self._of(stored)
        if approval.state == "approved":
            return True  # said before a crash, and the job has not heard of it yet
        person = self._may(approval, stored)
        people = (*approval.people, person)
        done = len(people) >= (2 if self.four_eyes(stored) else 1)
        changed = replace(
            approval,
            people=people,
            state="approved" if done else "open",
            decided_by=person if done else "",
            changed_at=self._clock.now(),
        )
        self._change(changed, approval, self._note(AuditKind.APPROVAL_GIVEN, stored))
        return done

    def no(self, stored: StoredJob, reason: str = "") -> None:
        """A refusal by one person is enough. The reason stays at this party."""
        approval = self._of(stored)
        if approval.state == "refused":
            return  # said before a crash, and the job has not heard of it yet
        if approval.state != "open":
            raise self._conflict(approval)
        changed = replace(
            approval,
            state="refused",
            decided_by=self._audit.person,
            reason=reason[:REASON_MAX],
            changed_at=self._clock.now(),
        )
        self._change(changed, approval, self._note(AuditKind.APPROVAL_REFUSED, stored))

    def check(self, stored: StoredJob) -> None:
        """Raises PolicyError unless whoever had to has said yes; for each start of a job."""
        approval = self._store.approval(id_of(stored.id))
        if approval is None and stored.role == "label_owner":
            return  # without four eyes the label owner's own proposal is its yes
        if approval is None or approval.state == "open":
            raise PolicyError("approval_pending", job=stored.id, party=self._own)
        if approval.state == "refused":
            raise PolicyError("approval_refused", job=stored.id, party=self._own)

    def _of(self, stored: StoredJob) -> StoredApproval:
        if self._store.approval(id_of(stored.id)) is None:
            self.open(stored, stored.label_owner)
        return self.find(id_of(stored.id))

    def _may(self, approval: StoredApproval, stored: StoredJob) -> str:
        person = self._audit.person
        if approval.state != "open":
            raise self._conflict(approval)
        if person in approval.people:
            self._audit.write(
                AuditKind.RULE_BROKEN, stored.id, by=person, digest=stored.digest.hex(), code="own_request"
            )
            job = parse_job(read_document(stored.document, "the job file"))
            raise PolicyError(
                "own_request", person=person, project=job.metadata.project, approval=approval.id
            )
        return person

    def _change(self, changed: StoredApproval, before: StoredApproval, note: Note) -> None:
        if not self._store.change_approval(changed, before.people, [note]):
            raise self._conflict(self.find(before.id))
        if changed.state != "open":
            self._tell(changed, "approval.decided")

    def _tell(self, approval: StoredApproval, kind: str) -> None:
        data = {"approval": approval.id, "state": approval.state}
        self._store.add_event(approval.job, self._clock.now(), kind, self._own, data)

    def _conflict(self, approval: StoredApproval) -> ConfigError:
        show = f"isthmus approval show {approval.id}"
        state = f"{approval.state}{' by ' if approval.decided_by else ''}{approval.decided_by}"
        return ConfigError("conflict", what=approval.id, state=state, needed="open", show_command=show)

    def _note(self, kind: AuditKind, stored: StoredJob) -> Note:
        return self._audit.note(kind, id_of(stored.id), by=self._audit.person, digest=stored.digest.hex())


def id_of(job_id: str) -> str:
    """`j-h5vgk3ta` waits as `a-h5vgk3ta`."""
    return "a-" + job_id.removeprefix("j-")
