"""What a device checks before it works on a task, by itself and whatever the leader has signed."""

from __future__ import annotations

from math import isfinite
from typing import Final

from isthmus.base.errors import ConfigError, PeerError
from isthmus.device.config import Config
from isthmus.learn.head import Head
from isthmus.privacy.accountant import epsilon_of, rho_of
from isthmus.protocols.device_round import (
    CLIP_REACH,
    EVALUATE,
    METRICS,
    TRAIN,
    Manifest,
    Offer,
    Round,
    Signed,
    check_manifest,
    meets,
    read_paper,
    sensitivities,
)

ROOM: Final = 1.001
"""The promise of a task may be missed by rounding, no more."""


def read_manifest(config: Config, signed: Signed, digest: bytes, now_ms: int) -> tuple[Manifest, Head]:
    """The task with that digest and its head. Raises PeerError that names what this device does not accept."""
    manifest = read_paper(Manifest, signed, config.leader.key)
    if manifest.digest != digest:
        raise PeerError("content_mismatch", what="a task")
    check_manifest(manifest)
    m, example = manifest, manifest.example
    accepted = set(config.helpers)
    wrong = (
        ("population", m.population != config.population),
        ("leader", m.leader != config.leader.key),
        ("authority", m.authority != config.authority),
        ("helpers", not set(m.helpers) <= accepted),
        ("valid_until", m.valid_until_ms <= now_ms),
        ("app_version", not meets(config.app_version, m.app_version)),
        ("example.features", not 1 <= len(example.features) <= 8),
        ("example.features", any(not 1 <= size <= 4096 for size in example.features.values())),
        ("example.events", not 1 <= len(example.events) <= 32),
        ("local.optimiser", m.local.optimiser not in ("sgd", "adagrad")),
        ("evaluate.metrics", not m.metrics or len(set(m.metrics)) != len(m.metrics) or not set(m.metrics) <= set(METRICS)),
    )  # fmt: skip
    for field, is_wrong in wrong:
        if is_wrong:
            raise _not_accepted(field)
    try:
        head = Head.from_layers([layer.written for layer in m.layers], sum(example.features.values()), m.loss)
    except ConfigError as error:
        raise _not_accepted(str(error.fields["field"])) from None
    if head.size != m.parameters:
        raise _not_accepted("parameters")
    _check_noise(config, manifest)
    return manifest, head


def check_round(manifest: Manifest, offer: Offer, now_ms: int) -> None:
    """Raises PeerError for a round that this task cannot have."""
    shown: Round = offer.round
    wrong = (
        ("kind", shown.kind not in (TRAIN, EVALUATE)),
        ("models", len(shown.models) != (1 if shown.kind == TRAIN else 2)),
        ("models", any(len(each) != 32 for each in shown.models)),
        ("control", (shown.control is not None) != (manifest.local.corrected and shown.kind == TRAIN)),
        ("clip", not _fits(manifest, shown)),
        ("deadline", offer.deadline_ms <= now_ms),
        ("number", not 1 <= shown.number < 2**32),
    )
    for field, is_wrong in wrong:
        if is_wrong:
            raise PeerError("bad_message", why=f"the round's {field} is not allowed")


def _fits(manifest: Manifest, shown: Round) -> bool:
    """Whether the bound of a round is one that the task can have."""
    if shown.kind != TRAIN or manifest.local.clip_quantile is None:
        return shown.clip == 0
    return manifest.local.clip_norm / CLIP_REACH <= shown.clip <= manifest.local.clip_norm * CLIP_REACH


def spent(manifest: Manifest, times: int) -> float | None:
    """The epsilon that a device has given after so many reports, at the task's delta; None without noise.

    The dearer kind of round counts, and one helper's noise, since the other may work with the leader.
    """
    privacy = manifest.privacy
    if privacy.delta is None:
        return None
    training, evaluation = sensitivities(manifest)
    training *= manifest.sums.weight_max
    costs = (rho_of(privacy.noise_std, training), rho_of(privacy.evaluate_noise_std, evaluation))
    return epsilon_of(times * max(costs), privacy.delta)


def _check_noise(config: Config, manifest: Manifest) -> None:
    privacy = manifest.privacy
    if privacy.delta is not None and not 0 < privacy.delta < 1:
        raise _not_accepted("privacy.delta")
    promised = privacy.epsilon
    if promised is not None:
        real = spent(manifest, manifest.per_device_max)
        if real is None or not isfinite(real) or real > promised * ROOM:
            raise _not_accepted("privacy.noise_std")
    if config.epsilon_most is not None and (promised is None or promised > config.epsilon_most):
        raise _not_accepted("privacy.epsilon")


def _not_accepted(field: str) -> PeerError:
    return PeerError("bad_message", why=f"the task's {field} is not what this app accepts")
