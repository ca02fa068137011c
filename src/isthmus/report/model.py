"""What a report holds. Each party gets its own edition: own columns by name, the partner's by alias only.

Figures are exact here and rounded by whoever shows them. What an edition may not hold, or a job did not measure, is
None or empty, and the report says nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isthmus.learn.metrics import Evaluation, GainInterval, Psi, RegressionEvaluation
from isthmus.learn.woe import WoeTable

Language = Literal["en", "zh"]
Measured = Evaluation | RegressionEvaluation

SMALL_TEST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Words:
    """One text in both languages."""

    en: str
    zh: str

    def in_(self, language: Language) -> str:
        return self.zh if language == "zh" else self.en


Text = str | Words


def said(text: Text, language: Language) -> str:
    """A text in one language; a plain string is the same in both."""
    return text if isinstance(text, str) else text.in_(language)


@dataclass(frozen=True, slots=True)
class Parties:
    """Names: the label owner, the feature owners in job order, and `edition`, the party this report is for."""

    label: str
    feature: tuple[str, ...]
    edition: str


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows each party brought (feature owners in job order), share, and how the shared ones were split."""

    label: int
    feature: tuple[int, ...]
    common: int
    train: int
    test: int
    valid: int = 0
    positive_rate_train: float | None = None
    positive_rate_test: float | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """The same test rows scored by the label owner's own model, by the joint one, and (demo only) by a pooled one.

    `gain` is joint over alone: AUC for a binary label, RMSE saved for a number.
    """

    alone: Measured
    joint: Measured
    pooled: Measured | None = None
    gain: GainInterval | None = None

    def __post_init__(self) -> None:
        if len({type(m) for m in (self.alone, self.joint, self.pooled) if m is not None}) != 1:
            raise ValueError("alone, joint and pooled measure the same kind of label")


@dataclass(frozen=True, slots=True)
class MessageTotal:
    """All messages of one kind from one sender."""

    kind: str
    sender: str
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes on the line as sent, over all partners."""

    sent_by_label: int
    sent_by_feature: int
    rounds: int | None = None
    kinds: tuple[MessageTotal, ...] = ()


@dataclass(frozen=True, slots=True)
class StageTime:
    """Seconds of one stage; `wait_s` is the part spent waiting for the partner."""

    stage: Text
    wall_s: float
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the job took on this party's machine."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    stages: tuple[StageTime, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """How the model was made; `parameters` is the full table of the job file."""

    engine: str
    key_bits: int | None = None
    trees: int | None = None
    depth: int | None = None
    bins: int | None = None
    parameters: tuple[tuple[str, str | int | float | bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One column that was used: `name` is an alias like `data-co.f003` for a partner's. `labels` name the bins."""

    party: str
    name: str
    iv: float | None = None
    labels: tuple[str, ...] = ()
    woe: WoeTable | None = None
    psi: float | None = None

    def __post_init__(self) -> None:
        if self.woe is not None and len(self.labels) != len(self.woe.woe):
            raise ValueError("each bin has a label")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A column left out. Known reasons (`constant`, `empty`, `sparse_bins`, `low_iv`, `duplicate`) are translated."""

    party: str
    name: str
    reason: Text


@dataclass(frozen=True, slots=True)
class History:
    """The metric after each tree. `best` is the number of trees kept."""

    metric: Literal["auc", "log_loss", "rmse"]
    train: tuple[float, ...]
    valid: tuple[float, ...] = ()
    best: int | None = None


@dataclass(frozen=True, slots=True)
class Importance:
    """How many splits a party's columns (or one column) won, and their share of the gain."""

    party: str
    splits: int
    gain_share: float
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Leak:
    """Who learns what in one stage."""

    stage: Text
    label_owner: Text
    feature_owner: Text


@dataclass(frozen=True, slots=True)
class Signature:
    """One party's signature under the job file."""

    party: str
    fingerprint: str
    signed: str | None = None


@dataclass(frozen=True, slots=True)
class Governance:
    """What an auditor checks against the parties' own records."""

    job_digest: str
    signatures: tuple[Signature, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything about one job, for one party. `created` is an ISO date and time."""

    name: str
    purpose: str
    created: str
    parties: Parties
    rows: Rows
    traffic: Traffic
    cost: Cost
    settings: Settings
    governance: Governance
    generated_data: bool = False
    notes: tuple[Text, ...] = ()
    metrics: Metrics | None = None
    columns: tuple[Column, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    score_psi: Psi | None = None
    history: History | None = None
    importance: tuple[Importance, ...] = ()
    column_importance: tuple[Importance, ...] = ()
    leaks: tuple[Leak, ...] = ()

    @property
    def small_sample(self) -> bool:
        return self.rows.test < SMALL_TEST_ROWS
