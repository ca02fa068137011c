"""The made-up portfolio: repeatable, learnable, and better together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from isthmus.scenarios import generated


def matrix(columns: dict[str, NDArray[np.generic]]) -> NDArray[np.float64]:
    numbers = [
        np.unique(column, return_inverse=True)[1] if column.dtype == object else column
        for column in columns.values()
    ]
    return np.column_stack(numbers).astype(np.float64)


def auc(features: NDArray[np.float64], bad: NDArray[np.int8]) -> float:
    train = len(bad) * 3 // 4
    model = HistGradientBoostingClassifier(max_iter=25, max_depth=3, early_stopping=False, random_state=0)
    model.fit(features[:train], bad[:train])
    return float(roc_auc_score(bad[train:], model.predict_proba(features[train:])[:, 1]))


@pytest.mark.parametrize("rows", [1_000, 20_000, 200_000])
def test_the_share_of_bad_is_between_ten_and_twenty_two_percent_at_any_size(rows: int) -> None:
    portfolio = generated.make_portfolio(rows, seed=3)
    assert portfolio.rows == rows
    assert 0.10 <= portfolio.bad.mean() <= 0.22


def test_numbers_have_gaps_and_each_side_has_a_category() -> None:
    portfolio = generated.make_portfolio(5_000, seed=3)
    for side in (portfolio.bank, portfolio.partner):
        assert sum(column.dtype == object for column in side.values()) == 1
        gaps = [np.isnan(column).mean() for column in side.values() if column.dtype != object]
        assert max(gaps) > 0.03


def test_both_sides_matter_and_together_they_rank_better() -> None:
    portfolio = generated.make_portfolio(12_000, seed=3)
    bank, partner = matrix(portfolio.bank), matrix(portfolio.partner)
    alone, other = auc(bank, portfolio.bad), auc(partner, portfolio.bad)
    joint = auc(np.hstack([bank, partner]), portfolio.bad)
    assert min(alone, other) > 0.65
    assert joint > max(alone, other) + 0.02


def test_the_same_seed_makes_the_same_people_and_another_seed_others(tmp_path: Path) -> None:
    first = generated.write_tables(tmp_path / "a", rows=2_000, seed=3)
    second = generated.write_tables(tmp_path / "b", rows=2_000, seed=3)
    third = generated.write_tables(tmp_path / "c", rows=2_000, seed=4)
    assert first.label_csv.read_bytes() == second.label_csv.read_bytes()
    assert first.feature_csv.read_bytes() == second.feature_csv.read_bytes()
    assert first.label_csv.read_bytes() != third.label_csv.read_bytes()
    assert first.true_overlap == second.true_overlap
