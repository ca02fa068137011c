"""Who has to say yes: one person, or two different ones of each party in a project of four eyes. (T25, A6)"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isthmus.base.errors import ConfigError, PolicyError
from isthmus.crypto.seal import PartyKey
from isthmus.jobs.grant_messages import ProjectTold
from isthmus.service.projects import Project
from isthmus.wire.link import CONTROL
from tests.service import parties
from tests.service.parties import Party, in_memory, settled, until

PURPOSE = "Joint models for card applicants"


class World(parties.World):
    """Everything is granted; on the engine that needs no kernels."""

    def text(self, name: str = "card", **sections: Any) -> bytes:
        return super().text(name, **({"crypto": {"engine": "paillier"}} | sections))

    def in_project(self, project: str = "cards") -> bytes:
        about = {"name": "card", "purpose": "Rank applicants by risk", "project": project}
        return self.text(metadata=about)


def playing(tmp_path: Path, play: Callable[[World, Party], Any]) -> None:
    async def run() -> None:
        async with World(tmp_path) as world:
            await play(world, world.partners[0])

    asyncio.run(run())


def act_as(party: Party, person: str) -> None:
    party.audit._name.set(person)


async def project(world: World, **said: Any) -> None:
    world.bank.projects.new("cards", PURPOSE, ["data-co"], **said)
    await settled()


def test_a_proposal_waits_in_the_inbox_and_accepting_it_is_the_approval(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        job_id = await world.propose()
        (waits,) = partner.store.approvals()
        assert (waits.job, waits.state, waits.asked_by, waits.people) == (job_id, "open", "bank", ())
        act_as(partner, "ann")
        await partner.jobs.accept(job_id)
        (done,) = partner.store.approvals()
        assert (done.state, done.decided_by) == ("approved", "data-co/ann")
        told = [(e.kind, e.data["state"]) for e in partner.store.events(job_id) if "approval" in e.kind]
        assert told == [("approval.asked", "open"), ("approval.decided", "approved")]
        await world.ended(job_id)
        kinds = [(line.kind, line.actor) for line in partner.store.audit() if line.object == waits.id]
        assert kinds == [("approval.given", "data-co/ann")]

    playing(tmp_path, play)


def test_a_refusal_keeps_its_reason_here_and_ends_the_job_there(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        job_id = await world.propose()
        partner.jobs.refuse(job_id, "not in the contract")
        await world.ended(job_id)
        (done,) = partner.store.approvals()
        assert (done.state, done.reason) == ("refused", "not in the contract")
        assert "contract" not in str(world.bank.jobs.find(job_id).error)
        with pytest.raises(ConfigError) as caught:
            await partner.jobs.accept(job_id)
        assert caught.value.code == "conflict"
        with pytest.raises(PolicyError) as refused:
            partner.approvals.check(partner.jobs.find(job_id))
        assert refused.value.code == "approval_refused"

    playing(tmp_path, play)


def test_of_two_people_who_approve_at_once_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        job_id = await world.propose()
        found = await asyncio.gather(
            partner.jobs.accept(job_id, grant=True),
            partner.jobs.accept(job_id, grant=True),
            return_exceptions=True,
        )
        errors = [f for f in found if isinstance(f, BaseException)]
        assert [getattr(e, "code", None) for e in errors] == ["conflict"]
        await world.ended(job_id)
        assert [line.kind for line in partner.store.audit()].count("consent.signed") == 1

    playing(tmp_path, play)


def test_an_approval_and_a_refusal_at_once_leave_one_of_them(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        job_id = await world.propose()

        async def refuse() -> None:
            partner.jobs.refuse(job_id)

        found = await asyncio.gather(partner.jobs.accept(job_id), refuse(), return_exceptions=True)
        assert sum(isinstance(f, ConfigError) for f in found) == 1
        await world.ended(job_id)
        assert partner.jobs.find(job_id).state == "refused"

    playing(tmp_path, play)


def test_with_four_eyes_it_takes_two_people_of_the_label_owner_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    async def play(world: World, partner: Party) -> None:
        await project(world, four_eyes=True)
        act_as(world.bank, "mo")
        job = await world.bank.jobs.propose(world.in_project(), None)
        await settled()
        assert (job.state, partner.store.jobs()) == ("draft", [])
        assert not [a for a in world.bank.store.answers(job.id) if a.signature]
        with pytest.raises(PolicyError) as own:
            await world.bank.jobs.accept(job.id)
        assert own.value.code == "own_request"
        line = world.bank.store.last_line()
        assert line is not None
        assert (line.kind, line.actor, line.code) == ("rule.broken", "bank/mo", "own_request")
        act_as(world.bank, "ann")
        released = await world.bank.jobs.accept(job.id)
        assert released.state == "proposed"
        await until(lambda: partner.store.job(job.id) is not None)

    playing(tmp_path, play)


def test_with_four_eyes_it_takes_two_people_of_the_feature_owner(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        await project(world, four_eyes=True)
        job = await world.bank.jobs.propose(world.in_project(), None)
        act_as(world.bank, "ann")
        await world.bank.jobs.accept(job.id)
        await until(lambda: partner.store.job(job.id) is not None)
        act_as(partner, "first")
        waiting = await partner.jobs.accept(job.id)
        assert waiting.state == "proposed"
        with pytest.raises(PolicyError) as own:
            await partner.jobs.accept(job.id)
        assert own.value.code == "own_request"
        with pytest.raises(PolicyError) as pending:
            partner.approvals.check(partner.jobs.find(job.id))
        assert pending.value.code == "approval_pending"
        await settled()
        assert world.bank.jobs.find(job.id).state == "proposed"
        act_as(partner, "second")
        await partner.jobs.accept(job.id)
        await world.ended(job.id)
        assert world.bank.jobs.find(job.id).state == "done"
        (done,) = partner.store.approvals()
        assert done.people == ("data-co/first", "data-co/second")

    playing(tmp_path, play)


def test_a_draft_that_the_second_person_refuses_is_never_sent(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        await project(world, four_eyes=True)
        job = await world.bank.jobs.propose(world.in_project(), None)
        act_as(world.bank, "ann")
        ended = world.bank.jobs.refuse(job.id, "too many trees")
        assert ended.error is not None
        assert (ended.state, ended.error["code"]) == ("refused", "approval_refused")
        await settled()
        assert partner.store.jobs() == []
        with pytest.raises(ConfigError):
            await world.bank.jobs.accept(job.id)

    playing(tmp_path, play)


def test_a_job_that_was_never_approved_here_does_not_start(tmp_path: Path) -> None:
    """Whatever put it into that state."""

    async def play(world: World, partner: Party) -> None:
        job_id = await world.propose()
        assert partner.store.move_job(job_id, {"proposed"}, "queued", partner.one().created_at)
        with pytest.raises(PolicyError) as caught:
            await partner.jobs._check_start(partner.jobs.find(job_id))
        assert caught.value.code == "approval_pending"

    playing(tmp_path, play)


def test_what_was_proposed_before_a_crash_is_in_the_inbox_afterwards(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        job_id = await world.propose()
        in_memory(partner.store)._approvals.clear()
        partner.jobs.begin()
        assert [a.job for a in partner.store.approvals()] == [job_id]

    playing(tmp_path, play)


# --- projects ---


def test_a_project_is_known_at_every_party_that_was_invited_and_ends_there_too(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        world.bank.projects.new("cards", PURPOSE)
        await settled()
        assert partner.store.projects() == []
        world.bank.projects.invite("cards", "data-co")
        await settled()
        theirs = Project.from_bytes(partner.projects.find("cards").document)
        assert (theirs.maker, theirs.purpose, theirs.parties) == ("bank", PURPOSE, ("bank", "data-co"))
        with pytest.raises(ConfigError):
            partner.projects.invite("cards", "bank")
        job = await world.bank.jobs.propose(world.in_project(), None)
        await until(lambda: partner.store.job(job.id) is not None)
        world.bank.projects.archive("cards")
        await settled()
        assert partner.projects.find("cards").state == "archived"
        with pytest.raises(ConfigError) as over:
            await partner.jobs.accept(job.id)
        assert over.value.code == "conflict"
        with pytest.raises(ConfigError):
            await world.bank.jobs.propose(world.in_project(), None)
        kinds = [line.kind for line in partner.store.audit() if line.object == "cards"]
        assert kinds == ["project.invited", "project.archived"]

    playing(tmp_path, play)


def test_a_job_names_a_project_that_is_known_and_has_all_its_parties(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        with pytest.raises(ConfigError) as unknown:
            await world.bank.jobs.propose(world.in_project(), None)
        assert unknown.value.code == "not_found"
        world.bank.projects.new("cards", PURPOSE)
        with pytest.raises(ConfigError) as outside:
            await world.bank.jobs.propose(world.in_project(), None)
        assert outside.value.fields["field"] == "metadata.project"
        assert world.bank.store.jobs() == []

    playing(tmp_path, play)


def test_nobody_can_take_the_second_pair_of_eyes_out_of_a_project(tmp_path: Path) -> None:
    async def play(world: World, partner: Party) -> None:
        await project(world, four_eyes=True)
        known = Project.from_bytes(partner.projects.find("cards").document)

        async def tell(told: Project, key: PartyKey) -> None:
            document = told.to_bytes()
            signature = key.sign(b"isthmus/project/v1\0" + document)
            await world.bank.lines["data-co", CONTROL].put(ProjectTold(document, signature).encode())
            await settled()

        def other(**changes: Any) -> Project:
            return known.model_copy(update={"number": 9} | changes)

        await tell(other(four_eyes=False), world.bank.key)
        await tell(other(purpose="Something else entirely"), world.bank.key)
        await tell(other(maker="data-co"), world.bank.key)
        await tell(other(parties=("bank",)), world.bank.key)
        await tell(other(archived=True), PartyKey.generate())
        await tell(other(archived=True, number=1), world.bank.key)
        assert Project.from_bytes(partner.projects.find("cards").document) == known
        assert partner.projects.find("cards").state == "active"
        await tell(other(archived=True), world.bank.key)
        assert partner.projects.find("cards").state == "archived"

    playing(tmp_path, play)
