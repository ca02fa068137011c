"""The task file of a fleet: names, defaults and bounds; the manifest that the leader signs is made from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Interval
from pydantic import Field, StringConstraints

from isthmus.base.document import read_document
from isthmus.protocols.device_round import METRICS
from isthmus.store.folder import PARTY_PATTERN
from isthmus.store.schema import Section, bounds, read_sections

Name = Annotated[str, StringConstraints(pattern=PARTY_PATTERN)]
Layers = Annotated[tuple["str | dict[str, int | tuple[int, ...]]", ...], Field(min_length=1, max_length=32)]
Share = Annotated[float, Interval(gt=0, le=1)]

VERSION_PATTERN = r"^$|^(>=|==)[0-9]{1,9}(\.[0-9]{1,9}){0,5}$"


class Metadata(Section):
    name: Name
    project: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{0,64}$")] = ""
    scenario: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}@[1-9][0-9]{0,5}$")] = "album@1"
    purpose: Annotated[str, StringConstraints(min_length=10, max_length=500)]
    valid_until: Annotated[
        str, StringConstraints(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")
    ]


class Parties(Section):
    """The leader and two helpers of two other organisations; both must answer."""

    leader: Name
    helpers: Annotated[tuple[Name, ...], Field(min_length=2, max_length=2)]


class Fleet(Section):
    """The population that the task is for, and the versions of the app that may take part."""

    name: Name
    app_version: Annotated[str, StringConstraints(pattern=VERSION_PATTERN)] = ""


class Example(Section):
    """What becomes an example on a device: the app's own features, the points of each event, the points of a like."""

    features: Annotated[
        dict[Name, Annotated[int, Interval(ge=1, le=4096)]], Field(min_length=1, max_length=8)
    ]
    events: Annotated[
        dict[
            Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")],
            Annotated[float, Interval(ge=-100, le=100)],
        ],
        Field(min_length=1, max_length=32),
    ]
    like: Annotated[float, Interval(ge=-1000, le=1000)] = 1.0
    position_correction: bool = False
    min_per_device: Annotated[int, Interval(ge=5, le=10_000)] = 20
    keep_days: Annotated[int, Interval(ge=1, le=365)] = 90


class Model(Section):
    layers: Layers
    loss: Literal["bce", "ce", "pairwise"] = "bce"
    personal_head: bool = True


class Local(Section):
    epochs: Annotated[int, Interval(ge=1, le=20)] = 3
    batch: Annotated[int, Interval(ge=4, le=256)] = 16
    optimiser: Literal["sgd", "adagrad"] = "sgd"
    learning_rate: Annotated[float, Interval(gt=0, le=100)] = 0.05
    proximal: Annotated[float, Interval(ge=0, le=100)] = 0.0
    clip_norm: Annotated[float, Interval(gt=0, le=1e6)]
    clip_quantile: Annotated[float, Interval(ge=0.05, le=0.95)] | None = None
    """With it the bound follows this quantile of the updates' norms; clip_norm is what it begins with."""


Strategy = Literal["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "scaffold", "fedbuff"]


class Rounds(Section):
    """`cohort`: reports that a round waits for; `min_cohort`: with fewer it is given up. `over_select`: how many more devices
    are asked than are waited for, as a factor; auto learns it. `answer_h`: how long a closed round waits for its helpers."""

    strategy: Strategy = "fedavg"
    server_rate: Annotated[float, Interval(gt=0, le=100)] = 1.0
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    count: Annotated[int, Interval(ge=1, le=1000)] = 40
    cohort: Annotated[int, Interval(ge=20, le=100_000)] = 1000
    min_cohort: Annotated[int, Interval(ge=20, le=100_000)] = 100
    over_select: Literal["auto"] | Annotated[float, Interval(ge=1, le=5)] = "auto"
    deadline_h: Annotated[float, Interval(gt=0, le=240)] = 8.0
    answer_h: Annotated[float, Interval(gt=0, le=240)] = 24.0
    min_gap_h: Annotated[float, Interval(ge=0, le=8784)] = 0.0
    max_per_device: Annotated[int, Interval(ge=1, le=50)] = 4
    at_once: Annotated[int, Interval(ge=1, le=8)] = 1
    """Rounds that may be open together; more than one only with fedbuff."""


class Eligible(Section):
    charging: bool = True
    unmetered: bool = True
    idle: bool = True
    free_mb: Annotated[int, Interval(ge=0, le=100_000)] = 50
    battery_max_c: Annotated[float, Interval(ge=0, le=100)] = 40.0


class Sum(Section):
    """How updates are added up. `rotate` spreads an update over all words before rounding; then a share `keep` of them will do,
    which makes messages shorter and sums noisier."""

    mode: Literal["split-trust"] = "split-trust"
    bits: Annotated[int, Interval(ge=8, le=16)] = 8
    rotate: bool = True
    keep: Share = 1.0


class Dp(Section):
    """Differential privacy for each device over the whole task."""

    epsilon: Annotated[float, Interval(gt=0, le=100)]
    delta: Annotated[float, Interval(gt=0, lt=0.01)]
    unit: Literal["device"] = "device"


class Privacy(Section):
    """`dp: none` must be typed out."""

    dp: Dp | Literal["none"]
    receipts: bool = True


class Robust(Section):
    """Reports are added up in `buckets` sums of at least min_cohort reports, which `combine` joins."""

    buckets: Annotated[int, Interval(ge=1, le=64)] = 1
    combine: Literal["mean", "clip", "median", "trimmed_mean"] = "mean"
    weight_cap: Annotated[int, Interval(ge=1, le=1000)] = 1


class Gate(Section):
    """What a candidate must be better by than the model in use before it is released."""

    metric: Literal["accuracy", "auc_per_device", "hit_top3"] = "auc_per_device"
    gain: Annotated[float, Interval(ge=-1, le=1)] = 0.0


class Evaluate(Section):
    """Every `every` training rounds, and after the last, `device_share` of the devices measure the candidate on examples of
    their own that are never trained on."""

    every: Annotated[int, Interval(ge=1, le=1000)] = 10
    device_share: Share = 1.0
    metrics: Annotated[
        tuple[Literal["accuracy", "auc_per_device", "hit_top3"], ...], Field(min_length=1, max_length=3)
    ] = METRICS
    gate: Gate = Gate()


class Rollout(Section):
    """Rising shares of devices that get a released model, the last of which is 1; each is held for `hold_h`. An evaluation in
    which the metric of the gate falls by more than `roll_back_drop` takes the release back."""

    steps: Annotated[tuple[Share, ...], Field(min_length=1, max_length=16)] = (0.01, 0.1, 1.0)
    hold_h: Annotated[float, Interval(ge=0, le=8784)] = 24.0
    roll_back_drop: Annotated[float, Interval(ge=0, le=1)] = 0.01


class Run(Section):
    seed: Annotated[int, Interval(ge=0, le=2**31 - 1)] = 0


class FleetTask(Section):
    """A task file; made by `load_task`."""

    api_version: Literal["isthmus/v1"] = Field(alias="apiVersion")
    kind: Literal["FleetTask"]
    metadata: Metadata
    parties: Parties
    fleet: Fleet
    example: Example
    model: Model
    local: Local
    rounds: Rounds = Rounds()
    eligible: Eligible = Eligible()
    sum: Sum = Sum()
    privacy: Privacy
    robust: Robust = Robust()
    evaluate: Evaluate = Evaluate()
    rollout: Rollout = Rollout()
    run: Run = Run()


def load_task(data: bytes, where: str = "the task file") -> FleetTask:
    """Reads YAML or JSON bytes. Raises ConfigError with the path of the field that does not fit."""
    return parse_task(read_document(data, where), where)


def parse_task(document: dict[str, Any], where: str = "the task file") -> FleetTask:
    """Checks a document against the schema and the rules between fields."""
    task = read_sections(FleetTask, document, where, _PATTERNS)
    _check_between_fields(task)
    return task


def _check_between_fields(task: FleetTask) -> None:
    names = (task.parties.leader, *task.parties.helpers)
    rounds, robust, dp = task.rounds, task.robust, task.privacy.dp
    steps = task.rollout.steps
    wrong = (
        ("parties", ", ".join(names), "three different organisations", len(set(names)) != 3),
        ("rounds.min_cohort", rounds.min_cohort, "at most rounds.cohort", rounds.min_cohort > rounds.cohort),
        ("robust.buckets", robust.buckets, f"at most {rounds.cohort // rounds.min_cohort}, so that each has min_cohort reports",
         robust.buckets * rounds.min_cohort > rounds.cohort),
        ("rounds.at_once", rounds.at_once, "1, or fedbuff as the strategy", rounds.at_once > 1 and rounds.strategy != "fedbuff"),
        ("local.proximal", task.local.proximal, "above 0 with fedprox", rounds.strategy == "fedprox" and not task.local.proximal),
        ("sum.keep", task.sum.keep, "1, or sum.rotate: true", task.sum.keep < 1 and not task.sum.rotate),
        ("robust.weight_cap", robust.weight_cap, "1 with differential privacy", dp != "none" and robust.weight_cap > 1),
        ("rollout.steps", list(steps), "rising shares that end with 1", list(steps) != sorted(set(steps)) or steps[-1] != 1),
        ("evaluate.gate.metric", task.evaluate.gate.metric, "one of evaluate.metrics",
         task.evaluate.gate.metric not in task.evaluate.metrics),
        ("evaluate.metrics", list(task.evaluate.metrics), "every metric once",
         len(set(task.evaluate.metrics)) != len(task.evaluate.metrics)),
    )  # fmt: skip
    for field, value, allowed, is_wrong in wrong:
        if is_wrong:
            raise bounds(field, value, allowed)


_PATTERNS = {
    PARTY_PATTERN: "1 to 64 of a-z, 0-9 and -, beginning and ending with a letter or figure",
    VERSION_PATTERN: ">=1.2 or ==1.2.3",
}
