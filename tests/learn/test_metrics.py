"""Ranking, calibration, stability and gain; scikit-learn is the judge where it has the same figure."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics as judge
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from isthmus.base.errors import DataError
from isthmus.base.randomness import Rng
from isthmus.learn import metrics

RNG = Rng(b"metrics-test-seed")
Sample = tuple[NDArray[np.int64], NDArray[np.float64]]


def _both_classes(rows: list[tuple[int, int]]) -> bool:
    return len({label for label, _ in rows}) == 2


# scores on a coarse grid, so that most samples hold ties inside and across the classes
SAMPLES = (
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 19)), min_size=2, max_size=80)
    .filter(_both_classes)
    .map(lambda rows: (np.array([r[0] for r in rows]), np.array([r[1] / 20 for r in rows])))
)


def _portfolio(rows: int, strength: float) -> Sample:
    quality = np.random.default_rng(7).normal(size=rows)
    noise = np.random.default_rng(8).normal(size=rows)
    labels = (np.random.default_rng(9).uniform(size=rows) < 1 / (1 + np.exp(1.5 - quality))).astype(np.int64)
    scores = 1 / (1 + np.exp(1.5 - strength * quality - (1 - strength) * noise))
    return labels, scores


@given(SAMPLES)
def test_auc_equals_the_judge_with_ties(sample: Sample) -> None:
    labels, scores = sample
    assert metrics.auc(labels, scores) == pytest.approx(judge.roc_auc_score(labels, scores), abs=1e-12)


@given(SAMPLES)
def test_ks_is_the_largest_distance_of_the_judges_curve(sample: Sample) -> None:
    labels, scores = sample
    fpr, tpr, _ = judge.roc_curve(labels, scores, drop_intermediate=False)
    found = metrics.ks(labels, scores)
    assert found.value == pytest.approx(max(tpr - fpr), abs=1e-12)
    called_bad = scores >= found.threshold
    distance = called_bad[labels == 1].mean() - called_bad[labels == 0].mean()
    assert distance == pytest.approx(found.value, abs=1e-12)


@given(SAMPLES)
def test_roc_points_equal_the_judges_curve(sample: Sample) -> None:
    labels, scores = sample
    fpr, tpr, thresholds = judge.roc_curve(labels, scores, drop_intermediate=False)
    points = metrics.roc_points(labels, scores)
    assert [p.fpr for p in points] == pytest.approx(fpr)
    assert [p.tpr for p in points] == pytest.approx(tpr)
    assert [p.threshold for p in points] == list(thresholds)


@given(SAMPLES)
def test_log_loss_equals_the_judge(sample: Sample) -> None:
    labels, scores = sample
    assert metrics.log_loss(labels, scores) == pytest.approx(judge.log_loss(labels, scores))


@given(SAMPLES, st.sampled_from([10, 20]), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(sample: Sample, bands: int, random: object) -> None:
    labels, scores = sample
    order = np.arange(len(labels))
    random.shuffle(order)  # type: ignore[attr-defined]
    table = metrics.lift_table(labels, scores, bands)
    assert metrics.lift_table(labels[order], scores[order], bands) == table
    assert metrics.capture(labels[order], scores[order]) == metrics.capture(labels, scores)


@given(SAMPLES, st.sampled_from([10, 20]))
def test_bands_hold_every_row_once_and_never_split_a_tie(sample: Sample, bands: int) -> None:
    labels, scores = sample
    table = metrics.lift_table(labels, scores, bands)
    assert sum(b.rows for b in table) == len(labels)
    assert sum(b.bads for b in table) == labels.sum()
    assert table[-1].cumulative_bad_share == 1.0
    assert table[-1].cumulative_lift == pytest.approx(1.0)
    for band in table:
        inside = (scores >= band.low) & (scores <= band.high)
        assert inside.sum() == band.rows
        assert labels[inside].sum() == band.bads
    assert all(a.low > b.high and a.band < b.band for a, b in pairwise(table))


def test_bands_without_ties_have_equal_size() -> None:
    labels, scores = _portfolio(1000, 0.7)
    assert [b.rows for b in metrics.lift_table(labels, scores, 10)] == [100] * 10
    assert [b.rows for b in metrics.lift_table(labels, scores, 20)] == [50] * 20


def test_a_tie_that_covers_several_bands_goes_to_the_band_of_its_middle() -> None:
    scores = np.array([0.9] * 6 + [0.1] * 4)
    labels = np.array([1, 0] * 5)
    table = metrics.lift_table(labels, scores, 10)
    assert [(b.band, b.rows) for b in table] == [(4, 6), (9, 4)]


def test_lift_is_the_bad_rate_of_the_band_over_that_of_all() -> None:
    labels = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 0])
    scores = np.linspace(0.9, 0.1, 10)
    first, second = metrics.lift_table(labels, scores, 2)
    assert (first.bads, first.bad_rate) == (3, 0.6)
    assert first.lift == pytest.approx(2.0)
    assert (second.bads, second.lift) == (0, 0.0)


def test_capture_shares_a_tie_at_the_edge_in_proportion() -> None:
    labels = np.array([1, 1, 0, 0])
    assert metrics.capture(labels, np.array([0.5] * 4), 0.25) == pytest.approx(0.25)
    assert metrics.capture(labels, np.array([0.9, 0.5, 0.5, 0.1]), 0.5) == pytest.approx(0.75)


def test_a_perfect_score_has_auc_and_ks_of_one_and_a_reversed_one_of_none() -> None:
    labels, scores = np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3])
    assert (metrics.auc(labels, scores), metrics.ks(labels, scores)) == (1.0, metrics.Ks(1.0, 0.3))
    assert (metrics.auc(labels, -scores), metrics.ks(labels, -scores).value) == (0.0, 0.0)


def test_equal_scores_have_an_auc_of_one_half() -> None:
    assert metrics.auc([0, 1, 1], [0.5, 0.5, 0.5]) == 0.5


def test_thinning_keeps_the_ends_and_the_ks_point() -> None:
    labels, scores = _portfolio(3000, 0.6)
    points = metrics.roc_points(labels, scores, at_most=50)
    best = metrics.ks(labels, scores)
    assert 45 <= len(points) <= 53
    assert (points[0].tpr, points[-1].tpr, points[-1].fpr) == (0.0, 1.0, 1.0)
    at_best = next(p for p in points if p.threshold == best.threshold)
    assert at_best.tpr - at_best.fpr == pytest.approx(best.value)


def test_calibration_bins_average_predictions_and_outcomes() -> None:
    labels, scores = _portfolio(2000, 1.0)
    bins = metrics.calibration(labels, scores, 10)
    assert [b.rows for b in bins] == [200] * 10
    lowest = np.argsort(scores)[:200]
    assert bins[0].predicted == pytest.approx(scores[lowest].mean())
    assert bins[0].observed == pytest.approx(labels[lowest].mean())
    assert sum(b.rows * b.observed for b in bins) == pytest.approx(labels.sum())


def test_the_histogram_counts_each_row_once() -> None:
    labels, scores = _portfolio(500, 0.5)
    histogram = metrics.score_histogram(labels, scores, 8)
    assert sum(histogram.bads) == labels.sum()
    assert sum(histogram.goods) == (1 - labels).sum()
    assert histogram.bads[0] == ((scores < histogram.edges[1]) & (labels == 1)).sum()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_refused_by_name(label: int) -> None:
    for measure in (metrics.auc, metrics.ks, metrics.lift_table, metrics.log_loss, metrics.evaluate):
        with pytest.raises(DataError) as caught:
            measure([label] * 4, [0.1, 0.2, 0.3, 0.4])
        assert caught.value.code == "one_class"
        assert caught.value.fields == {"column": "label", "count": 4}


def test_scores_that_are_no_numbers_are_refused_with_their_rows() -> None:
    with pytest.raises(DataError) as caught:
        metrics.auc([0, 1, 1], [0.1, math.nan, math.inf])
    assert caught.value.code == "not_a_number"
    assert caught.value.fields["rows"] == [1, 2]


@pytest.mark.parametrize(
    ("labels", "scores"), [([0, 1], [0.1, 0.2, 0.3]), ([0, 2], [0.1, 0.2]), ([0, 1], [-0.1, 0.5])]
)
def test_misuse_is_a_mistake_of_the_caller(labels: list[int], scores: list[float]) -> None:
    with pytest.raises(ValueError):
        metrics.evaluate(labels, scores)


def test_an_evaluation_holds_the_same_figures_as_the_single_measures() -> None:
    labels, scores = _portfolio(1500, 0.6)
    found = metrics.evaluate(labels, scores)
    best = metrics.ks(labels, scores)
    assert (found.auc, found.ks, found.ks_threshold) == (
        metrics.auc(labels, scores),
        best.value,
        best.threshold,
    )
    assert found.bands == metrics.lift_table(labels, scores, 10)
    assert found.bands_20 == metrics.lift_table(labels, scores, 20)
    assert found.log_loss == metrics.log_loss(labels, scores)
    assert found.gini == pytest.approx(2 * found.auc - 1)
    assert found.worst_tenth_capture == pytest.approx(found.bands[0].cumulative_bad_share)
    assert found.worst_tenth_bad_rate == pytest.approx(found.bands[0].bad_rate)


def test_regression_figures_equal_the_judge() -> None:
    actual = np.random.default_rng(1).normal(size=300)
    predicted = actual + np.random.default_rng(2).normal(scale=0.4, size=300)
    found = metrics.evaluate_regression(actual, predicted)
    assert found.rmse == pytest.approx(judge.root_mean_squared_error(actual, predicted))
    assert found.mae == pytest.approx(judge.mean_absolute_error(actual, predicted))
    assert found.r2 == pytest.approx(judge.r2_score(actual, predicted))
    assert sum(b.rows for b in found.calibration) == 300
    assert metrics.rmse(actual, predicted) == found.rmse


def test_a_constant_truth_has_no_r2() -> None:
    assert metrics.evaluate_regression([2.0, 2.0], [1.0, 3.0]).r2 is None


def test_regression_without_rows_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        metrics.evaluate_regression([], [])
    assert caught.value.code == "too_small"


def test_psi_of_the_same_sample_is_zero_and_of_a_shifted_one_is_not() -> None:
    sample = np.random.default_rng(3).normal(size=5000)
    assert metrics.psi(sample, sample).value == 0.0
    assert metrics.psi(sample, sample + 1.0).value > 0.25


def test_psi_bins_are_the_quantiles_of_the_expected_sample() -> None:
    sample = np.arange(1000.0)
    found = metrics.psi(sample, sample[::2], bins=4)
    assert found.edges == (249.0, 499.0, 749.0)
    assert found.expected == (0.25, 0.25, 0.25, 0.25)
    assert found.actual == (0.25, 0.25, 0.25, 0.25)


def test_an_empty_bin_counts_half_a_row() -> None:
    value, parts = metrics.psi_of_counts([50, 50], [10, 0])
    assert parts[1] == pytest.approx((0.05 - 0.5) * math.log(0.05 / 0.5))
    assert value == pytest.approx((1.0 - 0.5) * math.log(2.0) + parts[1])


def test_a_bin_empty_on_both_sides_adds_nothing() -> None:
    assert metrics.psi_of_counts([5, 0, 5], [3, 0, 7])[1][1] == 0.0


def test_heavy_ties_merge_psi_bins_and_missing_values_get_their_own() -> None:
    expected = np.array([0.0] * 90 + [1.0] * 10)
    actual = np.array([0.0] * 45 + [1.0] * 5 + [math.nan] * 50)
    found = metrics.psi(expected, actual)
    assert found.edges == (0.0,)
    assert found.missing
    assert found.expected == (0.9, 0.1, 0.0)
    assert found.actual == (0.45, 0.05, 0.5)


def test_psi_of_an_empty_sample_is_refused() -> None:
    with pytest.raises(DataError):
        metrics.psi([1.0, 2.0], [])


def test_a_real_gain_has_an_interval_above_zero_around_the_gain() -> None:
    labels, weak = _portfolio(2000, 0.3)
    _, strong = _portfolio(2000, 0.8)
    found = metrics.bootstrap_gain(labels, weak, strong, 200, RNG)
    assert found.gain == pytest.approx(metrics.auc(labels, strong) - metrics.auc(labels, weak))
    assert 0 < found.low < found.gain < found.high
    assert found.repeats == 200


def test_no_gain_has_an_interval_over_zero() -> None:
    labels, scores = _portfolio(2000, 0.5)
    noise = np.random.default_rng(5).normal(scale=1e-3, size=2000)
    found = metrics.bootstrap_gain(labels, scores, np.clip(scores + noise, 0, 1), 200, RNG)
    assert found.low < 0 < found.high
    assert metrics.bootstrap_gain(labels, scores, scores, 50, RNG) == metrics.GainInterval(0.0, 0.0, 0.0, 50)


def test_the_interval_is_the_same_twice_and_another_with_another_seed() -> None:
    labels, weak = _portfolio(300, 0.3)
    _, strong = _portfolio(300, 0.5)
    first = metrics.bootstrap_gain(labels, weak, strong, 50, RNG)
    assert metrics.bootstrap_gain(labels, weak, strong, 50, RNG) == first
    assert metrics.bootstrap_gain(labels, weak, strong, 50, Rng(b"another-long-seed")) != first


def test_the_interval_has_about_the_width_that_theory_gives() -> None:
    # DeLong's standard error of one AUC; against a constant score (AUC 0.5, no variance) it is the standard error of
    # the gain, and the interval is 3.92 of them wide.
    labels, scores = _portfolio(1500, 0.6)
    wins = scores[labels == 1][:, None] > scores[labels == 0][None, :]
    by_bad, by_good = wins.mean(axis=1), wins.mean(axis=0)
    variance = by_bad.var() / len(by_bad) + by_good.var() / len(by_good)
    found = metrics.bootstrap_gain(labels, np.full(1500, 0.5), scores, 400, RNG)
    assert found.high - found.low == pytest.approx(3.92 * np.sqrt(variance), rel=0.15)


def test_a_smaller_error_is_a_positive_gain() -> None:
    actual = np.random.default_rng(1).normal(size=400)
    far, near = actual + 1.0, actual + np.random.default_rng(2).normal(scale=0.2, size=400)
    found = metrics.bootstrap_rmse_gain(actual, far, near, 100, RNG)
    assert found.gain == pytest.approx(metrics.rmse(actual, far) - metrics.rmse(actual, near))
    assert 0 < found.low <= found.gain <= found.high


def test_no_repeats_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError):
        metrics.bootstrap_gain([0, 1], [0.1, 0.2], [0.1, 0.2], 0, RNG)
    with pytest.raises(ValueError):
        metrics.bootstrap_rmse_gain([0.0, 1.0], [0.1, 0.2], [0.1, 0.2], 0, RNG)
