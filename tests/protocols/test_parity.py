"""On real data the joint model ranks as well as pooled XGBoost on the same rows and the same bins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xgboost
from sklearn.model_selection import train_test_split

from isthmus.base.progress import Progress
from isthmus.base.randomness import Rng
from isthmus.learn.metrics import auc
from isthmus.learn.parameters import Binning, BoostedTrees, Crypto
from isthmus.learn.tree import FeatureHalf, Floats, LabelHalf
from isthmus.protocols.binning import TEST, TRAIN, bin_table, bins_of
from isthmus.protocols.boost import LabelBooster, boost_as_feature_owner
from isthmus.protocols.score import score_as_feature_owner, score_as_label_owner
from isthmus.table import ReadOptions, read_ids, read_table
from isthmus.table.table import NumericColumn, Table
from isthmus.wire.channel import Channel
from tests.protocols.plain import PlainEngine, PlainFeatureSide
from tests.shared_data import shared_data
from tests.worlds import run_star

PARAMETERS = BoostedTrees(trees=20, depth=4, min_child_rows=20, stop_after=0)
Case = tuple[Table, Table, np.ndarray]


def joined(label: Table, feature: Table) -> tuple[Table, Table]:
    """Rows that both have, by id."""
    at = [{i: row for row, i in enumerate(t.ids)} for t in (label, feature)]
    common = sorted(at[0].keys() & at[1].keys())
    return label.take(np.array([at[0][i] for i in common])), feature.take(
        np.array([at[1][i] for i in common])
    )


def drawn(label: Floats) -> np.ndarray:
    """One fixed split, 80 to 20, stratified."""
    part = np.full(len(label), TRAIN, dtype=np.uint8)
    _, test = train_test_split(np.arange(len(label)), test_size=0.2, stratify=label, random_state=42)
    part[test] = TEST
    return part


def credit_default() -> Case:
    folder = shared_data("credit_default")
    bank = read_table(folder / "bank.csv", ReadOptions(id="id", label="bad"))
    partner = read_table(folder / "partner.csv", ReadOptions(id="id"))
    bank, partner = joined(bank, partner)
    test = set(read_ids(folder / "test_ids.csv", ReadOptions(id="id")))
    return bank, partner, np.array([TEST if i in test else TRAIN for i in bank.ids], dtype=np.uint8)


def fate(name: str, stem: str) -> Case:
    folder = shared_data(name)
    guest = read_table(folder / f"{stem}_hetero_guest.csv", ReadOptions(id="id", label="y"))
    host = read_table(folder / f"{stem}_hetero_host.csv", ReadOptions(id="id"))
    guest, host = joined(guest, host)
    assert guest.label is not None
    return guest, host, drawn(guest.label)


def one_file(name: str, file: str, label: str, positive: str | None, own: set[str], tmp: str) -> Case:
    """A table without ids: rows are numbered, columns divided by name."""
    lines = (shared_data(name) / file).read_bytes().decode("utf-8-sig").splitlines()
    path = Path(tmp) / "numbered.csv"
    path.write_text("\n".join([f"row,{lines[0]}", *(f"{i:06d},{line}" for i, line in enumerate(lines[1:]))]))
    names = [n.strip('" ') for n in lines[0].split(",")]
    left = tuple(n for n in names if n in own)
    right = tuple(n for n in names if n not in own and n != label)
    bank = read_table(path, ReadOptions(id="row", label=label, positive=positive, include=left))
    partner = read_table(path, ReadOptions(id="row", include=right))
    assert bank.label is not None
    return bank, partner, drawn(bank.label)


def hmeq(tmp: str) -> Case:
    own = {"LOAN", "MORTDUE", "VALUE", "REASON", "JOB", "YOJ"}
    return one_file("hmeq", "hmeq.csv", "BAD", None, own, tmp)


def german_credit(tmp: str) -> Case:
    own = {
        "status_of_existing_checking_account",
        "duration_in_month",
        "credit_history",
        "purpose",
        "credit_amount",
        "savings_account_and_bonds",
        "installment_rate_in_percentage_of_disposable_income",
        "number_of_existing_credits_at_this_bank",
    }
    return one_file("german_credit", "germancredit.csv", "creditability", "bad", own, tmp)


def a9a(tmp: str) -> Case:
    def read(file: str, width: int) -> tuple[Floats, Floats]:
        lines = (shared_data("a9a") / file).read_text().splitlines()
        x, y = np.zeros((len(lines), width)), np.zeros(len(lines))
        for row, line in enumerate(lines):
            label, *cells = line.split()
            y[row] = float(label) > 0
            for cell in cells:
                at, _, value = cell.partition(":")
                x[row, int(at) - 1] = float(value)
        return x, y

    (left, y), (right, _), (test, y_test) = (
        read("a9a_vertical_p0", 61),
        read("a9a_vertical_p1", 62),
        read("a9a_vertical_test", 123),
    )
    label = np.concatenate([y, y_test])
    ids = [b"%06d" % i for i in range(len(label))]

    def table(x: Floats, name: str, given: Floats | None) -> Table:
        columns = {f"{name}{i}": NumericColumn(f"{name}{i}", x[:, i].copy()) for i in range(x.shape[1])}
        return Table(ids, dict(columns), given, {}, np.arange(1, len(ids) + 1), [i.decode() for i in ids])

    part = np.array([TRAIN] * len(y) + [TEST] * len(y_test), dtype=np.uint8)
    bank = table(np.concatenate([left, test[:, :61]]), "a", label)
    return bank, table(np.concatenate([right, test[:, 61:]]), "b", None), part


CASES: dict[str, tuple[Callable[[str], Case], float, int]] = {
    "credit_default": (lambda tmp: credit_default(), 0.005, 1),
    "a9a": (a9a, 0.005, 1),
    "credit_default_fate": (lambda tmp: fate("credit_default_fate", "default_credit"), 0.01, 5),
    "hmeq": (hmeq, 0.01, 5),
    "german_credit": (german_credit, 0.01, 5),
    "breast": (lambda tmp: fate("breast", "breast"), 0.01, 5),
}


@pytest.mark.parametrize("name", CASES)
def test_the_joint_auc_is_that_of_pooled_xgboost_on_our_bins(name: str, tmp_path: object) -> None:
    load, allowed, seeds = CASES[name]
    bank, partner, part = load(str(tmp_path))
    assert bank.label is not None
    train, test = np.flatnonzero(part == TRAIN), np.flatnonzero(part == TEST)
    own = bin_table(bank, part, Binning(), None)
    theirs = bin_table(partner, part, Binning(), bytes(32))
    pooled = np.concatenate(
        [
            bins_of(c, t, np.arange(t.rows))[None]
            for b, t in ((own, bank), (theirs, partner))
            for c in b.columns
        ]
    ).T.astype(np.float64)
    pooled[pooled == 0] = np.nan
    settings = {
        "objective": "binary:logistic",
        "max_depth": 4,
        "min_child_weight": PARAMETERS.min_child_hessian,
        "eta": 0.1,
        "lambda": 1.0,
        "tree_method": "hist",
        "nthread": 2,
    }
    oracle = xgboost.train(settings, xgboost.DMatrix(pooled[train], bank.label[train]), PARAMETERS.trees)
    reached = auc(bank.label[test], oracle.predict(xgboost.DMatrix(pooled[test])))
    found = [
        auc(bank.label[test], joint_scores(bank, partner, part, Rng(bytes([seed]) * 32))[test])
        for seed in range(seeds)
    ]
    assert abs(float(np.mean(found)) - reached) <= allowed, (name, found, reached)


def joint_scores(bank: Table, partner: Table, part: np.ndarray, rng: Rng) -> Floats:
    assert bank.label is not None
    train = np.flatnonzero(part == TRAIN)
    own = bin_table(bank, part, Binning(), None)
    theirs = bin_table(partner, part, Binning(), bytes(32))
    label = bank.label[train]

    async def label_owner(channels: list[Channel]) -> Floats:
        shapes = [theirs.matrix.counts]
        booster = LabelBooster(
            channels, PlainEngine([theirs.matrix]), own, shapes, label, len(train), PARAMETERS, Crypto(), rng
        )
        half: LabelHalf = await booster.train(Progress())
        return await score_as_label_owner(channels, half, bank, "ids")

    async def feature_owner(channel: Channel) -> None:
        half: FeatureHalf = await boost_as_feature_owner(
            channel, PlainFeatureSide(), theirs, PARAMETERS, "ids", Progress()
        )
        await score_as_feature_owner(channel, half, partner)

    scores = run_star(label_owner, [feature_owner])[0]
    assert isinstance(scores, np.ndarray), scores
    return scores
