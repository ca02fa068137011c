"""From a task file to its manifest: what is refused by name, the noise that a budget asks for, and the ledger's entries."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from isthmus.base.errors import ConfigError, PeerError, PolicyError
from isthmus.crypto.seal import PartyKey
from isthmus.fleet.manifest import (
    admitted,
    charged,
    document_of,
    ledger_of,
    make_manifest,
    plan_task,
    spent_of,
)
from isthmus.fleet.task import FleetTask, load_task
from isthmus.privacy.accountant import epsilon_of, rho_of
from isthmus.protocols.device_round import (
    Manifest,
    Round,
    check_manifest,
    encodings,
    evaluation_length,
    read_paper,
    report_length,
    sensitivities,
    sign_of,
    sign_paper,
    terms_of,
)
from isthmus.store.fleet import Population
from tests.fleet.test_desk import HELPERS
from tests.fleet.world import TASK, task_of

LEADER = PartyKey.generate()
PHONES = Population("phones", bytes(32), 8.0, 1e-5, False, 0)
DP = {"dp": {"epsilon": 4.0, "delta": 1e-6}}


def manifest_of(task: FleetTask) -> Manifest:
    return make_manifest(task, LEADER.public, bytes(32), HELPERS)


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"parties": {"helpers": ["album-app", "cloud-co"]}}, "parties"),
        ({"parties": {"helpers": ["album-app"]}}, "parties.helpers"),
        ({"rounds": {"min_cohort": 19}}, "rounds.min_cohort"),
        ({"rounds": {"cohort": 30, "min_cohort": 31}}, "rounds.min_cohort"),
        ({"robust": {"buckets": 2}}, "robust.buckets"),
        ({"rounds": {"at_once": 2}}, "rounds.at_once"),
        ({"rounds": {"strategy": "fedprox"}}, "local.proximal"),
        ({"rounds": {"strategy": "best"}}, "rounds.strategy"),
        ({"privacy": DP, "robust": {"weight_cap": 2}}, "robust.weight_cap"),
        ({"privacy": {"dp": "off"}}, "privacy.dp"),
        ({"rollout": {"steps": [0.5, 0.2, 1.0]}}, "rollout.steps"),
        ({"rollout": {"steps": [0.5]}}, "rollout.steps"),
        ({"evaluate": {"metrics": ["accuracy"]}}, "evaluate.gate.metric"),
        ({"local": {"learning_rate": 0}}, "local.learning_rate"),
        ({"sum": {"bits": 7}}, "sum.bits"),
        ({"sum": {"mode": "plain"}}, "sum.mode"),
        ({"fleet": {"app_version": "8"}}, "fleet.app_version"),
        ({"local": {"speed": 1}}, "local.speed"),
    ],
)
@pytest.mark.trust("A8")
def test_what_does_not_fit_is_refused_by_the_name_of_its_field(sections: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        task_of(**sections)
    assert named in caught.value.fields["field"]


def test_privacy_must_be_named_or_none_typed_out() -> None:
    with pytest.raises(ConfigError, match="privacy"):
        load_task(TASK.replace("privacy: {dp: none}\n", "").encode())
    with pytest.raises(ConfigError, match="clip_norm"):
        load_task(TASK.replace("local: {clip_norm: 1.0}", "local: {}").encode())


@pytest.mark.trust("T19")
@pytest.mark.parametrize(
    ("layers", "allowed"),
    [
        ([{"conv": 3}, "sigmoid"], "layers"),
        ([{"dense": 1}], "loss"),
        ([{"dense": 1, "relu": 1}, "sigmoid"], "layers"),
        ([{"dense": 2_000_000}, {"dense": 1}, "sigmoid"], "layers"),
    ],
)
def test_a_layer_outside_the_closed_list_is_refused(layers: list[Any], allowed: str) -> None:
    with pytest.raises(ConfigError, match=allowed):
        manifest_of(task_of(model={"layers": layers}))


def test_a_file_with_every_default_filled_in_is_the_same_task() -> None:
    task = task_of(privacy=DP)
    assert load_task(document_of(task).encode()) == task
    assert manifest_of(load_task(document_of(task).encode())) == manifest_of(task)


def test_a_manifest_is_what_its_leader_signed() -> None:
    manifest = manifest_of(task_of())
    paper = sign_paper(manifest, LEADER)
    assert read_paper(Manifest, paper, LEADER.public) == manifest
    forged = dataclasses.replace(paper, paper=paper.paper.replace('"reports_min":20', '"reports_min":21'))
    with pytest.raises(PeerError, match="bad_signature"):
        read_paper(Manifest, forged, LEADER.public)


@pytest.mark.trust("T16", "T19")
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reports_min": 19}, "reports_min"),
        ({"helpers": (HELPERS[0], HELPERS[0])}, "helpers"),
        ({"helpers": (HELPERS[0], dataclasses.replace(HELPERS[1], signing=LEADER.public))}, "helpers"),
        ({"helpers": (HELPERS[0],)}, "helpers"),
        ({"per_device_max": 51}, "per_device_max"),
        ({"parameters": 2_000_000}, "parameters"),
    ],
)
def test_a_device_refuses_what_no_leader_may_sign(change: dict[str, Any], field: str) -> None:
    with pytest.raises(PeerError, match=field):
        check_manifest(dataclasses.replace(manifest_of(task_of()), **change))


def test_the_noise_is_what_the_budget_asks_for_and_the_ring_has_room_for_it() -> None:
    task = task_of(privacy=DP, rounds={"max_per_device": 7})
    manifest = manifest_of(task)
    for std, sensitivity in zip(
        (manifest.privacy.noise_std, manifest.privacy.evaluate_noise_std),
        sensitivities(manifest),
        strict=True,
    ):
        assert epsilon_of(7 * rho_of(std, sensitivity), 1e-6) == pytest.approx(4.0, rel=1e-6)
    plain = manifest_of(task_of())
    assert plain.privacy.noise_std == 0
    assert manifest.sums.width_bytes >= plain.sums.width_bytes
    reach = 2 ** (8 * manifest.sums.width_bytes - 1)
    assert (2 * task.rounds.cohort + 1000) * 128 + 32 * manifest.privacy.noise_std < reach


def test_terms_follow_the_kind_of_the_round() -> None:
    manifest = manifest_of(task_of(privacy=DP, rounds={"strategy": "scaffold"}))
    train = Round(manifest.digest, 1, "train", (b"m" * 32,), b"c" * 32)
    evaluate = Round(manifest.digest, 2, "evaluate", (b"m" * 32, b"n" * 32), None)
    first, second = terms_of(manifest, train), terms_of(manifest, evaluate)
    assert first.length == 2 * manifest.parameters == sum(each.words for each in encodings(manifest, train))
    assert second.length == evaluation_length(manifest)
    assert first.noise_std == manifest.privacy.noise_std
    assert second.noise_std == manifest.privacy.evaluate_noise_std
    assert (
        len(
            {
                first.digest,
                second.digest,
                terms_of(manifest, dataclasses.replace(train, models=(b"x" * 32,))).digest,
            }
        )
        == 3
    )


def test_a_share_of_the_words_and_a_bound_that_follows_the_norms_change_what_is_sent() -> None:
    layers = {"layers": [{"dense": 64}, "relu", {"dense": 1}, "sigmoid"]}
    whole = manifest_of(task_of(model=layers, privacy=DP))
    part = manifest_of(task_of(model=layers, privacy=DP, sum={"keep": 0.25}, local={"clip_quantile": 0.5}))
    shown = Round(part.digest, 1, "train", (b"m" * 32,), None, 1.0)
    assert report_length(whole, shown) == whole.parameters
    assert report_length(part, shown) == round(part.parameters / 4) + 1
    assert sign_of(whole) == 0
    assert sensitivities(part)[0] ** 2 == pytest.approx(
        encodings(part, shown)[0].sensitivity ** 2 + sign_of(part) ** 2
    )
    with pytest.raises(ConfigError, match=r"sum\.keep"):
        task_of(sum={"keep": 0.5, "rotate": False})


def test_the_budget_of_a_fleet_is_set_aside_task_by_task_and_charged_round_by_round() -> None:
    first = task_of(privacy=DP, rounds={"max_per_device": 2})
    manifest = manifest_of(first)
    entry = admitted(PHONES, [], first, manifest)
    assert entry is not None
    assert spent_of(entry)["epsilon"] == 0
    assert plan_task(first, manifest, ledger_of(PHONES, [entry]))["epsilon_left"] == pytest.approx(4.0)
    for rounds, share in ((1, 0.5), (2, 1.0), (3, 1.0)):
        entry = charged(manifest, [entry])
        assert entry is not None
        assert json.loads(entry)["rounds"] == rounds
        rho = share * 2 * rho_of(manifest.privacy.noise_std, sensitivities(manifest)[0])
        assert spent_of(entry)["epsilon"] == pytest.approx(epsilon_of(rho, 1e-6)), (
            "never more than max_per_device"
        )
    second = task_of(privacy=DP, metadata={"name": "second"})
    other = admitted(PHONES, [entry], second, manifest_of(second))
    assert other is not None
    third = task_of(privacy={"dp": {"epsilon": 0.1, "delta": 1e-7}}, metadata={"name": "third"})
    with pytest.raises(PolicyError, match="privacy_spent"):
        admitted(PHONES, [entry, other], third, manifest_of(third))
    plain = task_of()
    assert admitted(PHONES, [entry, other], plain, manifest_of(plain)) is None
    assert charged(manifest_of(plain), [entry, other]) is None
