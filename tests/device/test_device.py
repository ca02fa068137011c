"""A device over real TLS with a leader that says what a test wants: it works once, refuses, goes on, forgets."""

from __future__ import annotations

import logging
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.device.leader import INPUTS, READY, SEED, FakeLeader, live

from isthmus.base import files
from isthmus.base.errors import ConfigError, IsthmusError, LineError, PolicyError
from isthmus.base.typed_json import write
from isthmus.device import Conditions, Device, FileKeyStore, HelperKey
from isthmus.device.examples import Examples, make_examples
from isthmus.learn.head import Settings
from isthmus.learn.personal import alone, ranking, with_personal
from isthmus.protocols.device_round import (
    METRIC_SCALE,
    Eligible,
    Layer,
    Local,
    Manifest,
    Offer,
    Privacy,
    Refused,
    Sums,
    encodings,
    pack_blob,
    sign_paper,
)
from isthmus.protocols.secure_sum import Report
from isthmus.wire.https import make_certificate


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[FakeLeader]:
    with FakeLeader(tmp_path / "leader").listening() as made:
        yield made


def work(device: Device, stop: Callable[[], bool] = lambda: False) -> str:
    device.ready(READY)
    return device.work(stop).what


def examples_of(device: Device, manifest: Manifest) -> Any:
    return make_examples(device._store.items(), manifest.example)


# ── the way it should go ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_device_trains_seals_and_sends_one_report(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest()
    live(device)
    offer = leader.show(manifest)
    assert device.ready(READY).now
    assert work(device) == "sent"
    (body,) = leader.reports
    examples = examples_of(device, manifest)
    head, first = leader.head(manifest), leader.head(manifest).init(SEED)
    seed = device._store._rows("SELECT seed FROM round")[0][0]
    x, y, weight = examples.part(held=False)
    trained = head.train(first, x, y, weight, Settings(3, 4, 0.5), seed).flat - first
    update = trained * min(1.0, manifest.local.clip_norm / float(np.linalg.norm(trained)))
    (encoding,) = encodings(manifest, offer.round)
    assert np.abs(encoding.decode(leader.opened(manifest, offer, body)) - update).max() <= encoding.step
    assert examples.held.any()
    leader.clock.move(120)
    leader.offer = None
    assert work(device) == "nothing"
    assert leader.check_ins[-1].outcome is not None
    assert leader.check_ins[-1].outcome.what == "uploaded"
    assert [sent.taken for sent in device.receipts()] == [True]


def test_a_device_measures_what_it_never_trained_on(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest()
    live(device)
    head = leader.head(manifest)
    model = head.init(SEED)
    offer = leader.show(manifest, 1, "evaluate", model)
    assert work(device) == "sent"
    examples = examples_of(device, manifest)
    own, (x, y, _) = examples.part(held=False), examples.part(held=True)
    lone, lone_model = alone(INPUTS, 1, "bce", *own)
    scores = [
        lone.forward(lone_model, x),
        head.forward(model, x),
        head.forward(model, x),
        head.forward(with_personal(head, model, *own), x),
    ]
    wanted = [value for each in scores for value in ranking(manifest.metrics, each, y)]
    np.testing.assert_array_equal(
        leader.opened(manifest, offer, leader.reports[0]), np.rint(np.array(wanted) * METRIC_SCALE)
    )


def test_a_released_model_ranks_without_a_line_and_knows_the_person(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest(min_gap_s=0)
    x = live(device, 120)
    assert device.predict([x[0].tolist()]) == [0.5]
    assert device.latest() is None
    shared = leader.head(manifest).init(SEED)
    leader.publish(manifest, shared, 3)
    assert work(device) == "nothing"
    asked = len(leader.asked)
    newest = device.latest()
    assert newest is not None
    assert (newest.task, newest.number) == ("taste", 3)
    np.testing.assert_array_equal(newest.model, shared)
    mine = np.array(device.predict([{"embedding": row.tolist()} for row in x]))
    plain = leader.head(manifest).forward(shared, x)[:, 0]
    liked = (x[:, 0] > 0).astype(float)
    auc = [ranking(("auc_per_device",), each[:, None], liked)[0] for each in (plain, mine)]
    assert auc[1] > auc[0]
    assert device.predict([x[0].tolist()]) == [pytest.approx(mine[0])]
    assert device.predict([[1.0, 2.0], {"other": [1.0, 2, 3]}]) == [0.5, 0.5]
    assert device.forget("personal")
    np.testing.assert_allclose(device.predict([row.tolist() for row in x]), plain, atol=1e-6)
    assert len(leader.asked) == asked


def test_an_older_release_or_one_of_another_population_is_not_taken(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest()
    for number, taken in ((5, 5), (4, 5), (6, 6)):
        leader.publish(manifest, leader.head(manifest).init(bytes([number]) * 16), number)
        work(device)
        leader.clock.move(120)
        newest = device.latest()
        assert newest is not None
        assert newest.number == taken
    released = leader.release
    assert released is not None
    leader.release = replace(released, signature=bytes(64))
    assert work(device) == "nothing"


def test_a_model_comes_as_the_difference_from_one_that_is_here(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest()
    live(device)
    first = leader.head(manifest).init(SEED)
    leader.show(manifest, 1, model=first)
    work(device)
    leader.clock.move(120)
    offer = leader.show(manifest, 2, model=first + 0.25)
    (name,) = offer.round.models
    bodies = [np.asarray(each, dtype="<f4").tobytes() for each in (first + 0.25, first)]
    leader.blobs[name] = pack_blob(*bodies)
    assert work(device) == "sent"
    assert len(leader.based) == 1
    assert len(leader.reports) == 2


def test_control_variates_travel_as_a_second_vector_and_stay_for_the_next_round(leader: FakeLeader) -> None:
    local = Local(2, 4, "sgd", 0.5, 0.0, 1.0, None, True)
    device, manifest = leader.device(), leader.manifest(local=local)
    live(device)
    offer = leader.show(manifest, 1)
    assert work(device) == "sent"
    one, two = encodings(manifest, offer.round)
    words = leader.opened(manifest, offer, leader.reports[0])
    sent = two.decode(words[one.words :])
    kept = np.frombuffer(device._store.control(manifest.digest) or b"", "<f4")
    assert np.linalg.norm(sent) > 0.01
    np.testing.assert_allclose(sent, kept, atol=two.step)
    leader.clock.move(120)
    leader.show(manifest, 2)
    assert work(device) == "sent"


def test_noise_is_promised_and_told_in_both_languages(leader: FakeLeader) -> None:
    device = leader.device(config=leader.config(epsilon_most=8.0))
    live(device)
    loud = Privacy(40_000.0, 40_000.0, 4.0, 1e-6, True)
    leader.show(leader.manifest(privacy=loud))
    assert work(device) == "sent"
    (sent,) = device.receipts()
    assert sent.told.spent is not None
    assert 0 < sent.told.spent <= 4
    for language, some in (("en", "Of the privacy budget 4"), ("zh", "本任务的隐私预算为 4")):
        assert some in sent.words(language)
        assert "album-app" in sent.words(language)


# ── what it refuses ──────────────────────────────────────────────────────────────────────────────────────────────────────


def sealing_of_the_leader(m: Manifest) -> tuple[HelperKey, ...]:
    """The helper's name and signature, but a key that the leader can open."""
    return replace(m.helpers[0], sealing=bytes(range(32))), m.helpers[1]


DENSE = Layer("dense", (1,))
SIGMOID = Layer("sigmoid", ())
REFUSED: dict[str, Callable[[Manifest], dict[str, Any]]] = {
    "a layer that is not on the list": lambda m: {"layers": (Layer("conv", (3,)), DENSE, SIGMOID)},
    "a layer too many": lambda m: {"layers": (DENSE, SIGMOID, DENSE)},
    "another count of parameters": lambda m: {"parameters": m.parameters + 1},
    "a floor under twenty": lambda m: {"reports_min": 19},
    "one helper twice": lambda m: {"helpers": (m.helpers[0], m.helpers[0])},
    "one organisation under two names": lambda m: {
        "helpers": (m.helpers[0], replace(m.helpers[0], name="other"))
    },
    "a helper that the app does not know": lambda m: {
        "helpers": (m.helpers[0], HelperKey("new-house", bytes([1]) * 32, bytes([2]) * 32))
    },
    "a helper whose seeds the leader opens": lambda m: {"helpers": sealing_of_the_leader(m)},
    "three helpers": lambda m: {"helpers": (*m.helpers, HelperKey("x", bytes([1]) * 32, bytes([2]) * 32))},
    "a leader beside the signer": lambda m: {"leader": bytes(32)},
    "another authority": lambda m: {"authority": bytes(32)},
    "another population": lambda m: {"population": "laptops"},
    "a task that is over": lambda m: {"valid_until_ms": 1},
    "a newer app": lambda m: {"app_version": ">=9"},
    "less noise than promised": lambda m: {"privacy": Privacy(1.0, 40_000.0, 4.0, 1e-6, True)},
    "less noise than promised where it measures": lambda m: {
        "privacy": Privacy(40_000.0, 1.0, 4.0, 1e-6, True)
    },
    "a promise without noise": lambda m: {"privacy": Privacy(0.0, 0.0, 4.0, 1e-6, True)},
    "no passes over the data": lambda m: {"local": replace(m.local, epochs=0)},
    "no clipping": lambda m: {"local": replace(m.local, clip_norm=0.0)},
    "an unknown optimiser": lambda m: {"local": replace(m.local, optimiser="adam")},
    "fewer bits": lambda m: {"sums": Sums(4, False, 0, 4, 4, 1)},
    "a quota without end": lambda m: {"per_device_max": 51},
    "an unknown figure": lambda m: {"metrics": ("accuracy", "every_photo")},
    "no figure": lambda m: {"metrics": ()},
    "a loss that is not on the list": lambda m: {"loss": "mse"},
}


@pytest.mark.trust("T19", "T16")
@pytest.mark.parametrize("what", REFUSED)
def test_a_task_that_does_not_match_is_refused_and_nothing_leaves(leader: FakeLeader, what: str) -> None:
    device, manifest = leader.device(), leader.manifest()
    live(device)
    leader.show(replace(manifest, **REFUSED[what](manifest)), model=leader.head(manifest).init(SEED))
    assert work(device) == "refused"
    assert not leader.reports
    assert device.receipts() == []
    leader.clock.move(120)
    leader.offer = None
    work(device)
    outcome = leader.check_ins[-1].outcome
    assert outcome is not None
    assert outcome.what == "refused"


def test_a_task_that_promises_too_little_for_this_app_is_refused(leader: FakeLeader) -> None:
    for name, most in (("a", 2.0), ("b", 4.0)):
        device = leader.device(name, leader.config(epsilon_most=most))
        live(device)
        leader.show(leader.manifest(privacy=Privacy(40_000.0, 40_000.0, 4.0, 1e-6, True)))
        assert work(device) == ("refused" if most < 4 else "sent")
        silent = leader.device(name + "-plain", leader.config(epsilon_most=most))
        live(silent)
        leader.show(leader.manifest())
        assert work(silent) == "refused"


@pytest.mark.trust("T19")
def test_all_tasks_together_cost_no_more_than_the_app_allows(leader: FakeLeader) -> None:
    """One report of each of these costs about 0.3; the leader's own ledger is not asked."""
    device = leader.device(config=leader.config(epsilon_most=1.0))
    live(device)
    said, costs = [], []
    for number in range(1, 8):
        leader.show(
            leader.manifest(name=f"taste-{number}", privacy=Privacy(40_000.0, 40_000.0, 1.0, 1e-6, True))
        )
        said.append(work(device))
        costs = [sent.told.spent or 0.0 for sent in device.receipts()]
        leader.clock.move(120)
    count = said.count("sent")
    assert said == ["sent"] * count + ["refused"] * (7 - count)
    assert sum(costs) <= 1.0 < sum(costs) + costs[0]
    assert 1 < count < 7


@pytest.mark.trust("T18")
def test_a_second_model_for_the_same_round_is_refused_whatever_came_before(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest()
    live(device)
    leader.show(manifest, 1)
    assert work(device) == "sent"
    leader.clock.move(120)
    leader.show(manifest, 1, model=leader.head(manifest).init(bytes(16)))
    assert work(device) == "refused"
    leader.clock.move(120)
    leader.show(manifest, 1)
    assert work(device) == "nothing"
    assert len(leader.reports) == 1


@pytest.mark.trust("T19")
def test_quota_and_gap_hold_however_often_the_leader_asks(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest(per_device_max=2, min_gap_s=3600)
    live(device)
    said = []
    for number in range(1, 7):
        leader.show(manifest, number)
        said.append(work(device))
        leader.clock.move(1900)
    assert said == ["sent", "refused", "sent", "refused", "refused", "refused"]
    assert len(leader.reports) == 2


def test_what_is_shown_must_be_what_is_named(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest()
    live(device)

    def tampered(number: int, spoil: Callable[[Offer], Offer]) -> str:
        leader.offer = spoil(leader.show(manifest, number))
        leader.clock.move(120)
        return work(device)

    other = leader.keep(np.ones(manifest.parameters))
    short = leader.keep(np.ones(manifest.parameters - 1))

    def swapped(offer: Offer) -> Offer:
        leader.blobs[offer.round.models[0]] = leader.blobs[other]
        return offer

    def shown(**changed: Any) -> Callable[[Offer], Offer]:
        return lambda offer: replace(offer, round=replace(offer.round, **changed))

    assert tampered(1, swapped) == "refused"
    assert tampered(2, shown(models=(short,))) == "refused"
    assert tampered(3, shown(models=(other, other))) == "refused"
    assert tampered(4, shown(kind="look")) == "refused"
    assert tampered(5, shown(control=other)) == "refused"
    assert tampered(6, shown(task=other)) == "refused"
    assert tampered(7, lambda offer: replace(offer, deadline_ms=leader.clock.ms)) == "late"
    forged = leader.manifest(name="forged")
    leader.show(forged, 8)
    leader.blobs[forged.digest] = pack_blob(
        write(replace(sign_paper(forged, leader.key), signature=bytes(64)))
    )
    leader.clock.move(120)
    assert work(device) == "refused"
    assert not leader.reports


def test_nothing_is_said_to_whoever_shows_another_certificate(leader: FakeLeader) -> None:
    device = leader.device()
    live(device)
    leader.show(leader.manifest())
    asked = len(leader.asked)
    other, _ = make_certificate("leader", ["127.0.0.1"])
    config = leader.config()
    stranger = leader.device(
        config=replace(config, leader=replace(config.leader, certificate=other.decode()))
    )
    assert work(stranger) == "waiting"
    assert len(leader.asked) == asked
    with pytest.raises(LineError):
        leader.device("new", replace(config, leader=replace(config.leader, certificate=other.decode())))


# ── what stops it, and how it goes on ────────────────────────────────────────────────────────────────────────────────────


def test_too_few_examples_and_bad_conditions_are_told_and_nothing_leaves(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest()
    live(device, 5)
    leader.show(manifest)
    assert work(device) == "too_few_examples"
    leader.clock.move(120)
    leader.show(manifest, 2)
    device.ready(replace(READY, charging=False))
    assert device.work().what == "not_eligible"
    assert not device.ready(replace(READY, battery_c=41.0)).now
    assert leader.check_ins[-1].outcome is not None
    assert leader.check_ins[-1].outcome.what == "too_few_examples"
    assert not leader.reports


def test_a_stop_after_any_mini_batch_changes_nothing_in_the_end(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest()
    live(device)
    offer = leader.show(manifest)
    assert work(device, lambda: True) == "paused"
    row = device._store.active()
    assert row is not None
    examples = Examples.from_bytes(row.examples or b"")
    pauses = 1
    while (said := work(device, lambda: True)) == "paused":
        pauses += 1
        live(device, 3, seed=pauses)  # what is observed meanwhile waits for the next round
    assert said == "sent"
    assert len(examples) == 40
    assert pauses == 3 * -(-int((~examples.held).sum()) // 4) - 1
    assert len(leader.check_ins) == 1
    first = leader.head(manifest).init(SEED)
    x, y, weight = examples.part(held=False)
    trained = leader.head(manifest).train(first, x, y, weight, Settings(3, 4, 0.5), row.seed).flat - first
    update = trained * min(1.0, manifest.local.clip_norm / float(np.linalg.norm(trained)))
    (encoding,) = encodings(manifest, offer.round)
    sent = encoding.decode(leader.opened(manifest, offer, leader.reports[0]))
    assert np.abs(sent - update).max() <= encoding.step


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.trust("U1", "P8")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_device_that_dies_at_any_write_sends_one_report_per_round(
    leader: FakeLeader, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for at in range(100):
        device, manifest = leader.device(f"phone-{at}"), leader.manifest()
        live(device, 30)
        leader.show(manifest, 1, kind)
        leader.reports.clear()
        left = [at]

        def die(what: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed

        device.ready(READY)
        monkeypatch.setattr(files, "committed", die)
        died = False
        try:
            device.work()
        except Killed:
            died = True
        monkeypatch.undo()
        device.close()
        device = leader.device(f"phone-{at}")
        for _ in range(4):
            if not leader.reports or device._store.active() is not None:
                work(device)
                leader.clock.move(120)
        assert len(set(leader.reports)) == 1, at
        assert [sent.taken for sent in device.receipts()] == [True]
        assert work(device) in ("nothing", "not_now")
        device.close()
        if not died:
            break
    assert at > 15


def test_a_receipt_that_is_lost_makes_the_same_bytes_leave_again(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest()
    live(device)
    leader.show(manifest)
    seen: list[bytes] = []

    def lost(path: str, body: bytes) -> tuple[int, bytes] | None:
        if path.endswith("/reports"):
            seen.append(body)
            return (0, b"") if len(seen) < 5 else None
        return None

    leader.reply = lost
    assert work(device) == "waiting"
    assert [sent.taken for sent in device.receipts()] == [False]
    assert "not confirmed" in device.receipts()[0].words()
    device.close()
    device = leader.device()
    assert work(device) == "waiting"
    assert work(device) == "sent"
    assert len(seen) == 5
    assert len(set(seen) | set(leader.reports)) == 1


def test_a_round_that_closed_meanwhile_is_let_go_and_counts_against_the_quota(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest(per_device_max=1)
    live(device)
    leader.show(manifest)
    leader.reply = lambda path, body: (
        (410, write(Refused("round_closed", False))) if "reports" in path else None
    )
    assert work(device) == "late"
    leader.reply = lambda path, body: None
    leader.clock.move(120)
    leader.show(manifest, 2)
    assert work(device) == "refused"
    assert not leader.reports


def test_what_the_app_raises_does_not_come_back_to_it(leader: FakeLeader) -> None:
    class Trouble(Exception):
        pass

    def trouble(*said: object) -> Any:
        raise Trouble("secret-value")

    device = leader.device()
    live(device)
    leader.show(leader.manifest())
    assert work(device, trouble) == "failed"
    device._store.put(ticket=None)
    device._worker._login = trouble
    assert work(device) == "failed"
    device._worker._login = leader.login
    assert work(device) == "sent"


def test_a_busy_leader_is_asked_again_later(leader: FakeLeader) -> None:
    device = leader.device()
    live(device)
    leader.show(leader.manifest())
    leader.reply = lambda path, body: (503, write(Refused("disk_full", True)))
    assert work(device) == "waiting"
    leader.reply = lambda path, body: (200, b"<html>")
    assert work(device) == "failed"
    leader.reply = lambda path, body: None
    assert work(device) == "sent"


def test_the_kill_switch_stops_work_and_is_heard_again_when_it_is_lifted(leader: FakeLeader) -> None:
    device = leader.device()
    live(device)
    leader.show(leader.manifest())
    leader.stopped = True
    assert work(device) == "stopped"
    assert not leader.reports
    leader.stopped = False
    assert work(device) == "not_now"
    leader.clock.move(120)
    assert work(device) == "sent"


def test_a_fleet_that_lost_its_list_gets_the_ticket_again(leader: FakeLeader) -> None:
    device = leader.device()
    live(device)
    leader.show(leader.manifest())
    leader.enrolled.clear()
    assert work(device) == "sent"
    assert device.public in leader.enrolled


def test_only_one_work_runs_at_a_time(leader: FakeLeader) -> None:
    device = leader.device()
    live(device)
    leader.show(leader.manifest())
    said: list[str] = []

    def meanwhile() -> bool:
        if not said:
            said.append(leader.device().work().what)
        return False

    assert work(device, meanwhile) == "sent"
    assert said == ["not_now"]


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_in_another(leader: FakeLeader) -> None:
    """A real process, a real kill, in the middle of its training."""
    device, manifest = leader.device(), leader.manifest()
    live(device)
    leader.show(manifest)
    device.ready(READY)
    device.close()
    (leader.folder / "config.json").write_bytes(write(leader.config()))
    script = f"""
import os, signal, sys
from pathlib import Path
from tests.device.leader import HandClock
from isthmus.device import Config, FileKeyStore, enrol
folder = Path({str(leader.folder / "phone")!r})
config = Config.from_json(Path({str(leader.folder / "config.json")!r}).read_text())
device = enrol(config, FileKeyStore(folder / "device.key"), None, folder, HandClock())
steps = int(sys.argv[1])
def stop():
    global steps
    steps -= 1
    if steps == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return False
print(device.work(stop).what)
"""
    codes = []
    for steps in ("5", "9", "1000"):
        done = subprocess.run(
            [sys.executable, "-c", script, steps], capture_output=True, text=True, timeout=60
        )
        codes.append(done.returncode)
    assert codes == [-9, -9, 0]
    assert done.stdout.strip() == "sent"
    assert len(leader.reports) == 1


# ── the app and the person ───────────────────────────────────────────────────────────────────────────────────────────────


def test_events_that_make_no_sense_are_left_out_and_nothing_is_thrown(leader: FakeLeader) -> None:
    device = leader.device()
    bad: list[tuple[Any, Any, Any, dict[str, Any]]] = [
        ("a", [float("nan")], "share", {}),
        ("a", [], "share", {}),
        ("a", ["x"], "share", {}),
        ("a", {"e": None}, "share", {}),
        ("a", 7, "share", {}),
        ("a", [1.0], "Share!", {}),
        ("", [1.0], "share", {}),
        ("a", None, "share", {}),
        ("a", [1.0], "dwell", {"seconds": float("inf")}),
        ("a", [1.0], "dwell", {"position": -1}),
        (None, [1.0], "dwell", {}),
    ]
    for item, features, event, more in bad:
        assert device.observe(item, features, event, **more) is False, (item, features, event)
    assert device.observe("a", [1.0], "share", seconds=2.0, position=0)
    assert device.observe("a", None, "share")
    assert device.forget(cast(Any, "everything")) is False
    device.close()
    assert device.observe("a", [1.0], "share") is False
    assert device.work().what == "failed"
    assert device.ready(READY).now is False
    assert device.latest() is None
    assert device.predict([[1.0]]) == [0.5]
    assert device.receipts() == []


def test_events_age_out(leader: FakeLeader) -> None:
    device, manifest = leader.device(), leader.manifest()
    live(device)
    leader.clock.move(31 * 86_400)
    for i in range(12):
        device.observe(f"new-{i}", [1.0, i, 0.0], "share")
    leader.show(manifest)
    assert work(device) == "sent"
    assert len(device._store.items()) == 12


def test_to_forget_events_gives_a_round_up_that_was_learning_from_them(leader: FakeLeader) -> None:
    device = leader.device()
    live(device)
    leader.show(leader.manifest())
    assert work(device, lambda: True) == "paused"
    assert device.forget("events")
    assert device._store.items() == []
    assert device._store.get("personal") is None
    assert b"photo-1" not in (leader.folder / "phone" / "device.db").read_bytes()
    leader.clock.move(120)
    assert work(device) == "nothing"
    assert not leader.reports


def test_to_forget_all_erases_leaves_and_revokes(leader: FakeLeader) -> None:
    device = leader.device()
    live(device)
    leader.publish(leader.manifest(), leader.head(leader.manifest()).init(SEED), 1)
    work(device)
    public = device.public
    assert device.forget("all")
    assert leader.forgotten == [public]
    assert device.work().what == "left"
    assert device.latest() is None
    assert device.receipts() == []
    assert not device.observe("a", [1.0], "share")
    assert not (leader.folder / "phone" / "device.key").exists()
    again = leader.device()
    assert again.public != public


def test_to_forget_all_without_a_line_says_goodbye_later(leader: FakeLeader) -> None:
    device = leader.device()
    live(device)
    leader.reply = lambda path, body: (0, b"")
    assert device.forget("all") is False
    assert device._store.items() == []
    device.close()
    device = leader.device()
    leader.reply = lambda path, body: None
    assert device.work().what == "left"
    assert leader.forgotten == [device.public]


def test_what_a_fleet_does_not_take_is_told_at_enrolment_only(leader: FakeLeader) -> None:
    leader.reply = lambda path, body: (403, write(Refused("bad_signature", False)))
    with pytest.raises(PolicyError, match="bad_signature"):
        leader.device()


def test_the_store_is_private_and_logs_hold_no_values(
    leader: FakeLeader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    device = leader.device()
    device.observe("photo-of-the-beach", [0.123456, 1.0, 2.0], "share")
    live(device)
    leader.show(leader.manifest(reports_min=19))
    work(device)
    device.observe("photo-of-the-beach", [float("nan")], "share")
    for path in (leader.folder / "phone").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((leader.folder / "phone").stat().st_mode) == 0o700
    assert "beach" not in caplog.text
    assert "0.1234" not in caplog.text
    device.close()
    (leader.folder / "phone" / "device.key").chmod(0o644)
    with pytest.raises(ConfigError, match="file_mode"):
        leader.device()
    (leader.folder / "phone" / "device.key").chmod(0o600)
    (leader.folder / "phone" / "device.db").chmod(0o640)
    with pytest.raises(ConfigError, match="file_mode"):
        leader.device()


def test_a_damaged_store_says_so_at_the_start(leader: FakeLeader) -> None:
    folder = leader.folder / "phone"
    folder.mkdir(mode=0o700)
    path = folder / "device.db"
    path.touch(mode=0o600)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(IsthmusError, match="database_damaged"):
        leader.device()
    FileKeyStore(folder / "device.key").save(b"short")
    path.unlink()
    with pytest.raises(IsthmusError, match="checkpoint_damaged"):
        leader.device()


def test_one_database_serves_two_processes_of_an_app(leader: FakeLeader) -> None:
    one, other = leader.device(), leader.device()
    one.observe("a", [1.0], "share")
    other.observe("a", None, "delete")
    assert [len(item.events) for item in one._store.items()] == [2]
    with sqlite3.connect(leader.folder / "phone" / "device.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize(
    "change",
    [
        {"helpers": ()},
        {"population": ""},
        {"app_version": "eight"},
        {"authority": b"short"},
    ],
)
def test_an_app_that_is_built_wrong_hears_so(leader: FakeLeader, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        leader.config(**change)
    card = leader.config().leader
    for wrong in ({"address": "nowhere"}, {"address": "host:99999"}, {"key": b""}, {"certificate": "none"}):
        with pytest.raises(ConfigError):
            leader.config(leader=replace(card, **wrong))
    first = leader.helpers[0]
    with pytest.raises(ConfigError):
        leader.config(helpers=(first, replace(first, name="other")))


def test_reports_hold_the_ticket_and_nothing_of_the_person(leader: FakeLeader) -> None:
    device = leader.device()
    live(device)
    leader.show(leader.manifest())
    work(device)
    report = Report.decode(leader.reports[0])
    assert report.device == device.public
    assert report.weight == 1
    assert isinstance(READY, Conditions)
    assert isinstance(leader.manifest().eligible, Eligible)
