"""When a model is released, to which share of devices, and when it is taken back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from isthmus.base.typed_json import write
from isthmus.crypto.seal import PartyKey
from isthmus.fleet.task import Gate, Rollout
from isthmus.protocols.device_round import Release, sign_paper
from isthmus.store.fleet import ReleaseRow

LIVE = "live"
ROLLED_BACK = "rolled_back"


def share_of(device: bytes, label: bytes) -> float:
    """A number in [0, 1) that is always the same for a device and a label, and even over devices."""
    return int.from_bytes(hashlib.sha256(label + device).digest()[:7], "big") / 2**56


def covers(release: ReleaseRow, steps: Sequence[float], device: bytes) -> bool:
    """Whether a device is in the share that has a release by now."""
    share = steps[min(release.step, len(steps) - 1)]
    return share >= 1 or share_of(device, release.task + release.number.to_bytes(8, "big")) < share


def release_for(
    device: bytes, releases: Sequence[ReleaseRow], steps: Mapping[bytes, Sequence[float]]
) -> ReleaseRow | None:
    """The release that a device uses, of those newest first; `steps` of each task. Who is not yet in the share of the newest
    keeps the one before it."""
    for release in releases:
        if release.state == LIVE and covers(release, steps.get(release.task, (1.0,)), device):
            return release
    return None


def before(releases: Sequence[ReleaseRow], newest: ReleaseRow) -> ReleaseRow | None:
    """The release that comes back when the newest is taken back: the last one before it, of another model, that was not."""
    for release in releases:
        if release.number < newest.number and release.state == LIVE and release.model != newest.model:
            return release
    return None


def again(
    release: ReleaseRow, number: int, steps: Sequence[float], leader: PartyKey, now_ms: int
) -> ReleaseRow:
    """An earlier release under a new number, for all devices at once."""
    paper = sign_paper(Release(release.population, release.task, release.model, number), leader)
    signed = write(paper).decode()
    return replace(release, number=number, signed=signed, step=len(steps) - 1, since_ms=now_ms, state=LIVE)


def next_step(release: ReleaseRow, rollout: Rollout, now_ms: int) -> int | None:
    """The step that is due, if one is."""
    last = len(rollout.steps) - 1
    held = now_ms - release.since_ms >= rollout.hold_h * 3_600_000
    return release.step + 1 if release.state == LIVE and release.step < last and held else None


def passes(gate: Gate, current: Mapping[str, float], candidate: Mapping[str, float]) -> bool:
    """Whether a candidate is as much better as the gate asks."""
    return candidate[gate.metric] - current[gate.metric] >= gate.gain


def fell(gate: Gate, rollout: Rollout, then: Mapping[str, float], now: Mapping[str, float]) -> bool:
    """Whether a released model has become worse than it was when it was released, by more than is borne."""
    return then[gate.metric] - now[gate.metric] > rollout.roll_back_drop
