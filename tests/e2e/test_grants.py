"""Bounds of a grant against what real workers show each other. (T5, K8)"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from isthmus.client.temporary import TemporaryNode, TemporaryNodes

PURPOSE = "A test of what a grant bounds"


def document(name: str, version: int) -> str:
    keys = [[{"column": "id"}]]
    return json.dumps(
        {
            "apiVersion": "isthmus/v1",
            "kind": "Job",
            "metadata": {"name": name, "purpose": PURPOSE},
            "parties": {"label_owner": "river-bank", "feature_owners": ["data-co"]},
            "inputs": {
                "river-bank": {"dataset": f"people@{version}", "keys": keys},
                "data-co": {"dataset": "people@1", "keys": keys},
            },
            "align": {"min_rows": 100},
            "sample": {"label": "bad"},
            "model": {"trees": 1, "depth": 2, "local_trees": 0, "stop_after": 0},
            "evaluate": {"bootstrap": 0},
        }
    )


def table(file: Path, people: int, label: bool) -> str:
    rows = [f"p{i},{i * 7 % 101}" + (f",{i % 3 % 2}" if label else "") for i in range(people)]
    file.write_text("\n".join(["id,x,bad" if label else "id,y", *rows]) + "\n")
    return str(file)


def run(bank: TemporaryNode, partner: TemporaryNode, name: str, version: int) -> str:
    """The code with which the holder's side ended; empty if it is done."""
    job_id = bank.client.propose(document(name, version))["id"]
    while not any(job["id"] == job_id for job in partner.client.jobs()):
        time.sleep(0.05)
    partner.client.accept_job(job_id)
    for node in (bank, partner):
        job = node.client.follow(job_id, lambda: time.sleep(0.05), lambda job: None)
    return "" if job["error"] is None else str(job["error"]["code"])


@pytest.mark.slow
def test_a_set_that_is_too_large_or_grows_by_one_id_is_stopped_at_the_holder(tmp_path: Path) -> None:
    terms: dict[str, Any] = {"dataset": "people", "purpose": PURPOSE, "until": "2099-12-31", "runs": 9}
    terms |= {"min_rows": 100, "partner_rows_max": 500, "min_change": 20}
    with TemporaryNodes(["river-bank", "data-co"], tmp_path, [tmp_path]) as nodes:
        bank, partner = nodes.nodes
        for people in (400, 401, 501):
            file = table(tmp_path / f"bank-{people}.csv", people, label=True)
            bank.client.add_dataset("people", file, "id", label="bad")
        partner.client.add_dataset("people", table(tmp_path / "partner.csv", 600, label=False), "id")
        partner.client.give_grant("river-bank", **terms)
        assert run(bank, partner, "first", 1) == ""
        assert run(bank, partner, "again", 1) == ""
        assert run(bank, partner, "one-more", 2) == "change_too_small"
        assert run(bank, partner, "too-many", 3) == "set_too_large"
        broken = [line.code for line in partner.client.audit() if line.kind == "rule.broken"]
        assert broken == ["change_too_small", "set_too_large"]
