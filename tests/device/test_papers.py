"""The tasks that a leader makes are the ones that a device accepts, and the privacy that both count is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.device.leader import READY, FakeLeader, live

from isthmus.base.document import read_document
from isthmus.base.errors import PeerError
from isthmus.device.papers import read_manifest, spent
from isthmus.fleet.manifest import make_manifest
from isthmus.fleet.task import parse_task
from isthmus.protocols.device_round import Manifest, Offer, Privacy, Round, encodings, sign_paper
from isthmus.scenarios.album import data

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "private": {"privacy": {"dp": {"epsilon": 4.0, "delta": 1e-7}}},
    "private, corrected": {
        "privacy": {"dp": {"epsilon": 1.0, "delta": 1e-6}},
        "rounds": {"strategy": "scaffold", "max_per_device": 50},
    },
    "private, not rotated": {
        "privacy": {"dp": {"epsilon": 8.0, "delta": 1e-5}},
        "sum": {"rotate": False, "bits": 16},
    },
    "weighted": {"robust": {"weight_cap": 5}},
    "adagrad, three labels of a tap": {
        "local": {"optimiser": "adagrad"},
        "model": {"layers": [{"dense": 3}, "softmax"], "loss": "ce", "personal_head": False},
    },
}


def made(leader: FakeLeader, **sections: Any) -> Manifest:
    document = read_document(data.TASK.read_bytes(), "task.yaml")
    document["fleet"]["name"] = "phones"
    for name, section in sections.items():
        document[name] = {**document[name], **section} if name in document else section
    return make_manifest(parse_task(document), leader.key.public, leader.authority.public, leader.helpers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_accepts_what_a_leader_makes(tmp_path: Path, kind: str) -> None:
    leader = FakeLeader(tmp_path)
    leader.port = 1
    manifest = made(leader, **KINDS[kind])
    found, head = read_manifest(
        leader.config(), sign_paper(manifest, leader.key), manifest.digest, leader.clock.ms
    )
    assert (found, head.size) == (manifest, manifest.parameters)
    if "private" not in kind:
        assert spent(manifest, 3) is None
        return
    whole = spent(manifest, manifest.per_device_max)
    promised = manifest.privacy.epsilon
    assert promised is not None
    assert whole == pytest.approx(promised, rel=1e-3)
    assert (spent(manifest, 1) or 0) < promised
    quieter = replace(
        manifest, privacy=replace(manifest.privacy, noise_std=manifest.privacy.noise_std * 0.98)
    )
    with pytest.raises(PeerError, match=r"privacy\.noise_std"):
        read_manifest(leader.config(), sign_paper(quieter, leader.key), quieter.digest, leader.clock.ms)


def test_a_weight_travels_with_its_integers(tmp_path: Path) -> None:
    with FakeLeader(tmp_path).listening() as leader:
        manifest = leader.manifest()
        manifest = replace(manifest, sums=replace(manifest.sums, weight_max=3))
        device = leader.device()
        live(device, 40)
        offer: Offer = leader.show(manifest)
        device.ready(READY)
        assert device.work().what == "sent"
        values = leader.opened(manifest, offer, leader.reports[0])
        (encoding,) = encodings(manifest, offer.round)
        assert (values % 3 == 0).all()
        assert abs(values).max() <= 3 * encoding.top
        assert isinstance(offer.round, Round)
        assert isinstance(manifest.privacy, Privacy)
