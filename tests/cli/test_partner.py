"""The commands about partners and the path to them, in both languages, against real nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.client.temporary import TemporaryNodes
from tests.cli.test_cli import call
from tests.service.test_nodes import FAKE_NODE, text, until

__all__ = ["call"]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[TemporaryNodes]:
    with TemporaryNodes(["bank", "data-co"], tmp_path, [tmp_path], command=FAKE_NODE) as running:
        yield running


def test_a_key_is_changed_checked_and_a_partner_is_revoked(
    nodes: TemporaryNodes, call: Callable[..., Any], tmp_path: Path
) -> None:
    bank, other = (node.folder.home for node in nodes.nodes)
    first = call("--home", other, "partner", "ls")[1][0]["fingerprint"]
    code, rotation, err = call("--home", bank, "--lang", "zh", "partner", "rotate")
    assert (code, "请与对方核对指纹" in err) == (0, True)
    assert rotation["fingerprint"] == first
    new = rotation["next_fingerprint"]
    assert new not in (None, first)
    until(lambda: call("--home", other, "partner", "ls")[1][0]["fingerprint"] == new)
    until(lambda: nodes.node("bank").client.node()["fingerprint"] == new)
    _, _, err = call("--home", bank, "partner", "ls")
    assert new in err
    assert call("--home", bank, "audit", "verify")[0] == call("--home", other, "audit", "verify")[0] == 0
    exported = tmp_path / "audit.jsonl"
    exported.write_text("\n".join(line.to_json() for line in nodes.node("bank").client.audit()))
    heads = nodes.node("bank").client.audit_heads()
    for key in (heads["keys"]["bank"], heads["earlier_keys"][0]["key"]):
        assert call("--home", bank, "audit", "verify", exported, "--key", key)[0] == 0
    assert call("--home", bank, "audit", "verify", exported, "--key", "00" * 32)[0] == 1

    code, letter, _ = call("--home", bank, "--lang", "en", "doctor", "--letter")
    assert (code, "data-co" in letter) == (0, True)
    code, letter, _ = call("--home", other, "--lang", "zh", "doctor", "--letter")
    assert (code, letter.startswith("致网络管理部门")) == (0, True)

    (tmp_path / "table.csv").write_text("id,x,bad\n" + "".join(f"u{i},{i},{i % 2}\n" for i in range(40)))
    for node in nodes.nodes:
        node.client.add_dataset("table", str(tmp_path / "table.csv"), "id")
    waiting = nodes.node("bank").client.propose(text("stays-proposed"))["id"]
    job = nodes.node("bank").client.propose(text("partner-hangs"))["id"]
    until(lambda: job in [found["id"] for found in nodes.node("data-co").client.jobs()])
    nodes.node("data-co").client.accept_job(job, grant=True)
    until(lambda: nodes.node("bank").client.job(job)["state"] == "running")

    assert call("--home", bank, "partner", "rotate", "--overlap-days", "0")[0] == 4
    assert call("--home", bank, "partner", "revoke", "nobody", "--yes")[0] == 4
    code, revoked, err = call("--home", bank, "--lang", "en", "partner", "revoke", "data-co", "--yes")
    assert (code, revoked["name"], "partner invite" in err) == (0, "data-co", True)
    assert call("--home", bank, "partner", "ls")[1] == []
    assert [nodes.node("bank").client.job(one)["state"] for one in (waiting, job)] == ["stopped"] * 2
    until(lambda: not nodes.node("data-co").client.partners()[0]["connected"])


def test_a_relay_and_a_node_that_uses_it_say_what_is_wrong_with_their_arguments(
    call: Callable[..., Any], tmp_path: Path
) -> None:
    for arguments, code in (
        (("relay", "serve", "--listen", "nowhere"), "out_of_bounds"),
        (("relay", "serve", "--listen", "127.0.0.1:0", "--party", "xyz"), "out_of_bounds"),
        (("init", "--party", "bank", "--relay", "https://relay.example:443"), "missing_field"),
        (("init", "--party", "bank", "--proxy", "https://proxy.example:3128"), "out_of_bounds"),
        (("init", "--party", "bank", "--proxy-user", "bank"), "missing_field"),
    ):
        status, _, err = call("--home", tmp_path / "x", *arguments)
        assert (status, f"[{code}]" in err) == (4, True), arguments
    pem = tmp_path / "relay.pem"
    pem.write_text("nothing of the kind")
    relay = ("--relay", "https://relay.example:443", "--relay-certificate", pem)
    status, _, err = call("--home", tmp_path / "x", "init", "--party", "bank", *relay)
    assert (status, "[bad_document]" in err) == (4, True)
    assert not (tmp_path / "x").exists()
    code, made, err = call(
        "--home", tmp_path / "y", "--lang", "en", "init", "--party", "bank",
        "--proxy", "http://proxy.example:3128", "--proxy-user", "bank",
    )  # fmt: skip
    assert (code, "proxy.password" in err) == (0, True)
    assert made["mode"] == "dial-out"
    code, _, err = call("--home", tmp_path / "y", "serve")
    assert (code, "[key_missing]" in err) == (4, True)
