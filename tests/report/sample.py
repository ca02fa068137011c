"""A whole report from a generated portfolio, for tests and for looking at."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from isthmus.base.randomness import Rng
from isthmus.learn.metrics import (
    bootstrap_gain,
    bootstrap_rmse_gain,
    evaluate,
    evaluate_regression,
    psi,
)
from isthmus.learn.woe import woe_table
from isthmus.report.model import (
    Column,
    Cost,
    Dropped,
    Governance,
    History,
    Importance,
    Leak,
    MessageTotal,
    Metrics,
    Parties,
    Report,
    Rows,
    Settings,
    Signature,
    StageTime,
    Traffic,
    Words,
)

Floats = NDArray[np.float64]
BANK, PARTNER = "river-bank", "data-co"
OWN = ("limit", "age", "bill_1", "bill_2", "paid_1", "paid_2", "education")


def _squash(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-x))


def sample_report(rows: int = 4000, *, strength: float = 1.0, pooled: bool = True) -> Report:
    """A binary job; `strength` is how much the partner's columns say (0: nothing)."""
    draw = np.random.default_rng(11)
    own, other = draw.normal(size=(rows, len(OWN))), draw.normal(size=(rows, 5))
    weight_own = np.array([-0.5, -0.3, 0.3, 0.2, -0.25, 0.1, 0.05])
    weight_other = np.array([0.8, 0.5, -0.3, 0.1, 0.02]) * strength
    signal = own @ weight_own
    more = signal + other @ weight_other
    labels = (draw.uniform(size=rows) < _squash(more - 1.6)).astype(np.int64)
    alone = _squash(signal - 1.45)
    joint = _squash(0.93 * more - 1.55 + draw.normal(scale=0.1, size=rows))
    pooled_scores = _squash(0.95 * more - 1.57 + draw.normal(scale=0.08, size=rows))
    measured = Metrics(
        alone=evaluate(labels, alone),
        joint=evaluate(labels, joint),
        pooled=evaluate(labels, pooled_scores) if pooled else None,
        gain=bootstrap_gain(labels, alone, joint, 200, Rng(b"report-sample-seed")),
    )
    columns = [_column(BANK, name, own[:, k], labels) for k, name in enumerate(OWN)]
    columns += [_column(PARTNER, f"{PARTNER}.f{k + 1:03d}", other[:, k], labels) for k in range(5)]
    train = np.concatenate([joint, joint[: rows // 2] ** 1.02])
    trees = np.arange(1, 61)
    return Report(
        name="credit-card-2024q3",
        purpose="pre-approval of credit cards",
        created="2024-11-05T09:30:00+08:00",
        parties=Parties(label=BANK, feature=(PARTNER,), edition=BANK),
        rows=Rows(
            label=27_000,
            feature=(27_000,),
            common=24_310,
            train=17_017,
            valid=24_310 - 17_017 - rows,
            test=rows,
            positive_rate_train=0.2213,
            positive_rate_test=float(labels.mean()),
        ),
        metrics=measured,
        traffic=Traffic(
            sent_by_label=412_337_120,
            sent_by_feature=96_554_008,
            rounds=318,
            kinds=(
                MessageTotal("Gradients", BANK, 60, 401_220_480),
                MessageTotal("Histograms", PARTNER, 240, 94_118_400),
                MessageTotal("BlindedIds", BANK, 2, 9_864_000),
                MessageTotal("BlindedIds", PARTNER, 2, 2_412_320),
                MessageTotal("SplitChoice", BANK, 240, 1_252_640),
                MessageTotal("RowSides", PARTNER, 240, 23_288),
            ),
        ),
        cost=Cost(
            cpu_s=71.42,
            wall_s=48.3,
            peak_mb=612.5,
            stages=(
                StageTime("link", 3.9, 0.4),
                StageTime("align", 7.1, 2.2),
                StageTime("bin", 2.8, 0.3),
                StageTime("train", 27.4, 9.6),
                StageTime("evaluate", 4.6, 0.2),
                StageTime("report", 2.5),
            ),
        ),
        settings=Settings(
            engine="paillier",
            key_bits=3072,
            trees=60,
            depth=4,
            bins=32,
            parameters=(
                ("binning.max_bins", 32),
                ("trees.learning_rate", 0.1),
                ("trees.l2", 1.0),
                ("trees.objective", "binary"),
            ),
        ),
        columns=tuple(columns),
        dropped=(
            Dropped(BANK, "branch_code", "constant"),
            Dropped(PARTNER, f"{PARTNER}.f006", "empty"),
            Dropped(BANK, "bill_3", Words("0.99 correlated with bill_2", "与 bill_2 相关系数 0.99")),
        ),
        score_psi=psi(train, joint),
        history=History(
            metric="auc",
            train=tuple(0.72 + 0.1 * (1 - float(np.exp(-t / 16))) for t in trees),
            valid=tuple(0.715 + 0.07 * (1 - float(np.exp(-t / 12))) - 0.0001 * float(t) for t in trees),
            best=52,
        ),
        importance=(Importance(BANK, 402, 0.4181), Importance(PARTNER, 377, 0.5819)),
        column_importance=tuple(
            Importance(c.party, 30 + 7 * k, (c.iv or 0.0) / sum(x.iv or 0.0 for x in columns), c.name)
            for k, c in enumerate(columns)
        ),
        leaks=(
            Leak(
                Words("align", "样本对齐"),
                Words("which of its ids the partner also has", "本方哪些标识对方也持有"),
                Words("which of its ids the bank also has", "本方哪些标识银行也持有"),
            ),
            Leak(
                Words("train", "模型训练"),
                Words(
                    "sums of gradients per bin of the partner's columns, by alias",
                    "特征方各分箱的梯度之和（仅以别名标识）",
                ),
                Words(
                    "which of its splits were chosen, and the rows on each side",
                    "本方哪些分裂被采用，以及分裂两侧的样本",
                ),
            ),
        ),
        governance=Governance(
            job_digest="3f9a1c5be07d42186a9b7f00c2d3e4f5061728394a5b6c7d8e9f00112233c21a",
            signatures=(
                Signature(BANK, "SHA256:9f2c 77a1 04de 51b3 8c60 ee12", "2024-11-05T09:12:40+08:00"),
                Signature(PARTNER, "SHA256:41bd 0e93 aa27 6f58 19c4 d705", "2024-11-05T09:21:03+08:00"),
            ),
            versions=(("isthmus", "0.1.0"), ("python", "3.11.9"), ("numpy", "2.4.6")),
        ),
        generated_data=True,
    )


def _column(party: str, name: str, values: Floats, labels: NDArray[np.int64]) -> Column:
    edges = np.quantile(values, np.arange(1, 6) / 6)
    slots = np.searchsorted(edges, values)
    table = woe_table(np.bincount(slots[labels == 1], minlength=6), np.bincount(slots, minlength=6))
    bounds = [
        f"≤ {edges[0]:.2f}",
        *(f"{a:.2f} … {b:.2f}" for a, b in pairwise(edges)),
    ]
    half = len(values) // 2
    names = (*bounds, f"> {edges[-1]:.2f}")
    if party == PARTNER:
        names = tuple(f"#{k}" for k in range(1, 7))
    return Column(party, name, table.iv, names, table, psi(values[:half], values[half:]).value)


def regression_report() -> Report:
    """The same job with a number as label."""
    draw = np.random.default_rng(12)
    truth = draw.normal(loc=3.0, size=1500)
    alone, joint = truth + draw.normal(scale=0.9, size=1500), truth + draw.normal(scale=0.6, size=1500)
    base = sample_report(1500)
    return replace(
        base,
        metrics=Metrics(
            alone=evaluate_regression(truth, alone),
            joint=evaluate_regression(truth, joint),
            gain=bootstrap_rmse_gain(truth, alone, joint, 100, Rng(b"report-sample-seed")),
        ),
        history=History(metric="rmse", train=(0.9, 0.8, 0.7)),
        rows=replace(base.rows, positive_rate_train=None, positive_rate_test=None),
        generated_data=False,
    )


def feature_owner_report() -> Report:
    """The edition of the feature owner: no labels, so no metrics and no counts of bads."""
    base = sample_report(1500)
    own = tuple(replace(c, iv=None, woe=None) for c in base.columns if c.party == PARTNER)
    return replace(
        base,
        parties=replace(base.parties, edition=PARTNER),
        rows=replace(base.rows, positive_rate_train=None, positive_rate_test=None),
        metrics=None,
        columns=own,
        dropped=base.dropped[1:2],
        score_psi=None,
        history=None,
        column_importance=(),
    )


def bare_report() -> Report:
    """Only what every report has."""
    return Report(
        name="bare",
        purpose="test",
        created="2024-11-05",
        parties=Parties(BANK, (PARTNER,), BANK),
        rows=Rows(label=10, feature=(12,), common=8, train=6, test=2),
        traffic=Traffic(0, 0),
        cost=Cost(0.0, 0.0, 0.0),
        settings=Settings("paillier"),
        governance=Governance("00ff"),
    )
