"""Grants between real nodes: processes, TLS, SQLite. (G1, C3)"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.base.errors import ConfigError, PolicyError
from isthmus.client.temporary import TemporaryNode, TemporaryNodes
from tests.service.test_nodes import FAKE_NODE, ended, text, tick, until

TERMS: dict[str, Any] = {
    "dataset": "table",
    "purpose": "Rank applicants by risk",
    "until": "2099-12-31",
    "runs": 5,
    "aliases": {"x": "first"},
}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[TemporaryNodes]:
    rows = [f"canary{i:04d},{i * 7 % 11},{i % 2}" for i in range(40)]
    (tmp_path / "table.csv").write_text("\n".join(["id,x,bad", *rows]) + "\n")
    with TemporaryNodes(["bank", "data-co"], tmp_path, [tmp_path], command=FAKE_NODE) as running:
        for node in running.nodes:
            node.client.add_dataset("table", str(tmp_path / "table.csv"), "id")
        yield running


def hanging(bank: TemporaryNode, partner: TemporaryNode) -> str:
    """A job that runs at both until something ends it."""
    job_id = bank.client.propose(text("partner-hangs"))["id"]
    until(lambda: job_id in [job["id"] for job in partner.client.jobs()])
    partner.client.accept_job(job_id)
    hangs = Path(partner.client.job(job_id)["folder"]) / "hangs"
    until(lambda: hangs.exists() and hangs.read_text())
    return job_id


def left(node: TemporaryNode, grant_id: str) -> int:
    return node.client.grant(grant_id)["runs_left"]


def code_of(node: TemporaryNode, job_id: str) -> str | None:
    error = node.client.job(job_id)["error"]
    return error["code"] if error else None


def test_revoking_at_the_holder_ends_the_job_at_both_nodes(nodes: TemporaryNodes) -> None:
    bank, partner = nodes.nodes
    given = partner.client.give_grant("bank", **TERMS)
    until(lambda: bank.client.grants())
    (mine,) = bank.client.grants()
    assert (mine["state"], mine["columns"], mine["aliases"]) == ("given", 2, ["first"])
    assert mine["own_columns"] is None
    assert given["own_columns"] == {"include": ["*"], "exclude": [], "aliases": {"x": "first"}}
    job_id = hanging(bank, partner)
    partner.client.revoke_grant(given["id"])
    until(lambda: ended(bank, job_id) and ended(partner, job_id))
    assert {code_of(bank, job_id), code_of(partner, job_id)} == {"grant_revoked"}
    assert {node.client.grant(given["id"])["state"] for node in nodes.nodes} == {"revoked"}
    with pytest.raises(ConfigError) as again:
        partner.client.revoke_grant(given["id"])
    assert again.value.code == "conflict"


def test_runs_are_still_counted_after_the_holder_was_killed(nodes: TemporaryNodes) -> None:
    bank, partner = nodes.nodes
    grant_id = partner.client.give_grant("bank", **TERMS | {"runs": 1})["id"]
    until(lambda: bank.client.grants())
    job_id = hanging(bank, partner)
    assert left(partner, grant_id) == 0
    partner.process.kill()
    partner.process.wait()
    nodes.restart("data-co")
    until(lambda: ended(bank, job_id) and ended(partner, job_id))
    assert {left(node, grant_id) for node in nodes.nodes} == {0}
    again = bank.client.propose(text("card"))["id"]
    until(lambda: again in [job["id"] for job in partner.client.jobs()])
    with pytest.raises(PolicyError) as spent:
        partner.client.accept_job(again)
    assert spent.value.code == "runs_spent"
    assert [note["code"] for note in bank.client.plan(text("card"))["grants"]] == ["runs_spent"]
    partner.client.approve(f"a-{again.removeprefix('j-')}", grant=True)
    assert bank.client.follow(again, tick, lambda job: None)["state"] == "done"


def test_what_was_agreed_while_the_partner_was_away_reaches_it(nodes: TemporaryNodes) -> None:
    bank, partner = nodes.nodes
    partner.process.kill()
    partner.process.wait()
    asked = bank.client.ask_grant("data-co", **{k: TERMS[k] for k in ("dataset", "purpose", "until")}, runs=3)
    bank.client.new_project("cards", "Joint models for card applicants", ["data-co"], True)
    nodes.restart("data-co")
    until(lambda: partner.client.grants() and partner.client.projects())
    assert partner.client.grants()[0]["id"] == asked["id"]
    assert partner.client.projects()[0]["four_eyes"] is True
    partner.client.give_grant(ask=asked["id"], runs=2)
    until(lambda: bank.client.grant(asked["id"])["state"] == "given")
    assert bank.client.grant(asked["id"])["runs"] == 2
