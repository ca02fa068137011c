"""A task file as the plan of a simulation: the manifest that devices would get, with its noise, and the leader's strategy."""

from __future__ import annotations

import os

from isthmus.crypto.hpke import SealingKey
from isthmus.crypto.seal import PartyKey
from isthmus.fleet.manifest import make_manifest
from isthmus.fleet.models import strategy_of
from isthmus.fleet.simulate import Plan
from isthmus.fleet.task import FleetTask
from isthmus.learn.head import Settings
from isthmus.protocols.device_round import Manifest
from isthmus.protocols.secure_sum import HelperKey
from isthmus.store.schema import bounds

OVER_SELECT = 1.3
"""What auto begins with: a leader learns it from the devices that fall out."""


def manifest_of(task: FleetTask) -> Manifest:
    """The manifest of a task with keys made up for it. Raises ConfigError where the file does not fit together."""
    helpers = [
        HelperKey(name, PartyKey.generate().public, SealingKey.generate().public)
        for name in task.parties.helpers
    ]
    return make_manifest(task, os.urandom(32), os.urandom(32), helpers)


def plan_of(
    task: FleetTask, devices: int, rounds: int | None = None, seed: int | None = None, threads: int = 1
) -> Plan:
    """What the task says of rounds and sums. Every report weighs 1.

    Raises ConfigError `out_of_bounds` for what a simulation does not have: a share of the words, a bound that moves.
    """
    if task.sum.keep != 1:
        raise bounds("sum.keep", task.sum.keep, "1 in a simulation")
    if task.local.clip_quantile is not None:
        raise bounds("local.clip_quantile", task.local.clip_quantile, "left out in a simulation")
    given, local, privacy = task.rounds, task.local, manifest_of(task).privacy
    return Plan(
        Settings(local.epochs, local.batch, local.learning_rate, local.optimiser, local.proximal),
        local.clip_norm,
        strategy_of(task, devices),
        rounds=rounds or given.count,
        cohort=given.cohort,
        min_cohort=given.min_cohort,
        over_select=OVER_SELECT if given.over_select == "auto" else given.over_select,
        deadline_h=given.deadline_h,
        min_gap_h=given.min_gap_h,
        max_per_device=given.max_per_device,
        bits=task.sum.bits,
        rotate=task.sum.rotate,
        buckets=task.robust.buckets,
        rule=task.robust.combine,
        noise_std=privacy.noise_std,
        delta=privacy.delta or 1e-7,
        seed=task.run.seed if seed is None else seed,
        threads=threads,
        at_once=given.at_once,
    )
