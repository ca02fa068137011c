"""Grants, runs, projects and approvals: one contract, every store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.store.test_store import Opened, opened

from isthmus.store.agreements import GrantRun, StoredApproval, StoredGrant, StoredProject

__all__ = ["opened"]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def grant(grant_id: str = "g-1", *, held: bool = True, partner: str = "bank") -> StoredGrant:
    return StoredGrant(grant_id, held, partner, "asked", b"{}", NOW, NOW)


def run(number: int, at: datetime = NOW, grant_id: str = "g-1", holder: str = "data-co") -> GrantRun:
    return GrantRun(bytes([number]) * 32, holder, "bank", "habits", grant_id, at)


def approval(approval_id: str = "a-1") -> StoredApproval:
    return StoredApproval(approval_id, "start", "j-1", "bank", (), "open", NOW, NOW)


def test_a_grant_is_added_once_and_changes_only_from_the_states_that_are_named(opened: Opened) -> None:
    store = opened.store
    assert store.add_grant(grant())
    assert not store.add_grant(replace(grant(), partner="other"))
    given = replace(
        grant(),
        state="given",
        terms=b"terms",
        signature=b"s" * 64,
        columns={"include": ["*"]},
        changed_at=LATER,
    )
    assert not store.change_grant(given, {"given"})
    assert store.change_grant(given, {"asked"})
    assert not store.change_grant(given, {"asked"})
    store = opened.again()
    assert store.grant("g-1") == given
    assert store.grant("g-9") is None


def test_grants_are_listed_newest_first_and_found_by_partner(opened: Opened) -> None:
    for number in range(4):
        opened.store.add_grant(grant(f"g-{number}", held=number % 2 == 0))
    opened.store.add_grant(grant("g-4", partner="shop"))
    store = opened.again()
    assert [g.id for g in store.grants(2)] == ["g-4", "g-3"]
    assert [g.id for g in store.grants(2, "g-3")] == ["g-2", "g-1"]
    assert [g.id for g in store.grants_with("bank", held=True)] == ["g-0", "g-2"]
    assert [g.id for g in store.grants_with("bank", held=False)] == ["g-1", "g-3"]


def test_a_run_is_counted_once_at_each_holder(opened: Opened) -> None:
    store = opened.store
    assert store.add_run(run(1))
    assert not store.add_run(run(1, grant_id="g-2"))
    assert store.add_run(run(1, holder="shop", grant_id="g-3"))
    assert store.add_run(run(2, LATER))
    store = opened.again()
    assert (store.runs_under("g-1"), store.runs_under("g-2"), store.runs_under("g-3")) == (2, 0, 1)
    assert store.run_of(b"\1" * 32, "data-co") == run(1)
    assert store.run_of(b"\1" * 32, "bank") is None
    assert store.runs_since("data-co", "bank", "habits", LATER) == [run(2, LATER)]
    assert len(store.runs_since("data-co", "bank", "habits", NOW)) == 2
    assert store.runs_since("data-co", "other", "habits", NOW) == []
    assert store.runs_since("data-co", "bank", "other", NOW) == []


def test_sizes_are_kept_one_by_one(opened: Opened) -> None:
    opened.store.add_run(run(1))
    opened.store.note_sizes(b"\1" * 32, "data-co", 900, 0)
    opened.store.note_sizes(b"\1" * 32, "data-co", 0, 300)
    opened.store.note_sizes(b"\1" * 32, "data-co", 0, 0)
    opened.store.note_sizes(b"\2" * 32, "data-co", 1, 1)
    kept = opened.again().run_of(b"\1" * 32, "data-co")
    assert kept is not None
    assert (kept.rows, kept.shared) == (900, 300)


def test_a_project_is_replaced_by_name(opened: Opened) -> None:
    first = StoredProject("cards", "bank", b"{}", b"s" * 64, "active", NOW, NOW)
    opened.store.put_project(first)
    opened.store.put_project(replace(first, name="loans"))
    opened.store.put_project(replace(first, state="archived", changed_at=LATER))
    store = opened.again()
    assert store.project("cards") == replace(first, state="archived", changed_at=LATER)
    assert [p.name for p in store.projects()] == ["cards", "loans"]
    assert [p.name for p in store.projects("cards", 1)] == ["loans"]
    assert store.project("none") is None


def test_an_approval_changes_only_while_it_is_open_and_nobody_else_has_spoken(opened: Opened) -> None:
    store = opened.store
    assert store.add_approval(approval())
    assert not store.add_approval(approval())
    first = replace(approval(), people=("data-co/ann",))
    assert store.change_approval(first, ())
    assert not store.change_approval(replace(approval(), people=("data-co/bob",)), ())
    both = replace(first, people=("data-co/ann", "data-co/bob"), state="approved", decided_by="data-co/bob")
    assert store.change_approval(both, first.people)
    assert not store.change_approval(replace(both, state="refused"), both.people)
    store.add_approval(approval("a-2"))
    store = opened.again()
    assert store.approval("a-1") == both
    assert [a.id for a in store.approvals()] == ["a-2", "a-1"]
    assert [a.id for a in store.approvals(5, "a-2")] == ["a-1"]
