"""How good a score is: ranking, calibration, stability, and the interval of a gain.

Everywhere a label is 0 (good) or 1 (bad), a higher score is riskier, and a cut-off means "score >= cut-off is bad".
Rows with equal scores are never told apart: no figure here depends on the order of the rows.

    ranking      auc, ks, roc_points, capture, lift_table
    probability  log_loss, calibration, score_histogram
    numbers      rmse (and mae, r2 in RegressionEvaluation)
    stability    psi, psi_of_counts
    gain         bootstrap_gain, bootstrap_rmse_gain
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isthmus.base.errors import DataError
from isthmus.base.randomness import Rng

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CURVE_POINTS = 201
LOG_FLOOR = 1e-15


@dataclass(frozen=True, slots=True)
class RocPoint:
    """What a cut-off does: shares of all rows, of bads (`tpr`) and of goods (`fpr`) at or above `threshold`.

    The first point has no rows above it; its threshold is infinite.
    """

    threshold: float
    share: float
    tpr: float
    fpr: float


@dataclass(frozen=True, slots=True)
class Ks:
    """The largest distance between the shares of bads and goods caught, and the cut-off where it is reached."""

    value: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Band:
    """One band of rows; band 1 is the riskiest. Cumulative figures run from band 1 to this one.

    `lift` is the bad rate of the band over that of all rows; `cumulative_lift` the same for all bands so far.
    """

    band: int
    low: float
    high: float
    rows: int
    bads: int
    bad_rate: float
    lift: float
    cumulative_rows: int
    cumulative_bads: int
    cumulative_row_share: float
    cumulative_bad_share: float
    cumulative_lift: float


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Rows of about the same prediction: what was predicted and what came, on average."""

    rows: int
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Goods and bads per score interval; `edges` has one entry more than either."""

    edges: tuple[float, ...]
    goods: tuple[int, ...]
    bads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Psi:
    """Population stability index with its bins. `edges` are the inner bounds; a bin holds its upper bound.

    `missing` says that the last bin is the one of missing values. Shares are as counted, before the zero-bin rule.
    """

    value: float
    edges: tuple[float, ...]
    expected: tuple[float, ...]
    actual: tuple[float, ...]
    contributions: tuple[float, ...]
    missing: bool = False


@dataclass(frozen=True, slots=True)
class GainInterval:
    """A gain and its 95 % bootstrap interval; positive is better for the second score."""

    gain: float
    low: float
    high: float
    repeats: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything the report says about one vector of probabilities against 0/1 labels.

    `worst_tenth_capture` is the share of all bads among the riskiest 10 % of rows, `worst_tenth_bad_rate` the bad
    rate there; rows tied at the edge count in proportion. `roc` is thinned to about 200 points and keeps the KS one.
    """

    rows: int
    positives: int
    positive_rate: float
    auc: float
    ks: float
    ks_threshold: float
    log_loss: float
    worst_tenth_capture: float
    worst_tenth_bad_rate: float
    roc: tuple[RocPoint, ...]
    bands: tuple[Band, ...]
    bands_20: tuple[Band, ...]
    calibration: tuple[CalibrationBin, ...]
    histogram: Histogram

    @property
    def gini(self) -> float:
        return 2.0 * self.auc - 1.0


@dataclass(frozen=True, slots=True)
class RegressionEvaluation:
    """Everything the report says about one vector of predicted numbers. `r2` is None where the truth is constant."""

    rows: int
    rmse: float
    mae: float
    r2: float | None
    mean_actual: float
    mean_predicted: float
    calibration: tuple[CalibrationBin, ...]


class _Ranked(NamedTuple):
    """Groups of equal score from the riskiest down, with cumulative counts up to and including each group."""

    scores: Floats
    rows: Ints
    bads: Ints

    @property
    def goods(self) -> Ints:
        return self.rows - self.bads

    @property
    def total_bads(self) -> int:
        return int(self.bads[-1])

    @property
    def total_goods(self) -> int:
        return int(self.rows[-1] - self.bads[-1])


def _finite(values: ArrayLike, what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{what} is one row of numbers, not an array of shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        rows = [int(row) for row in bad[:10]]
        raise DataError("not_a_number", column=what, file=what, count=len(bad), rows=rows)
    return array


def _pair(labels: ArrayLike, scores: ArrayLike) -> tuple[Ints, Floats]:
    truth = np.asarray(labels)
    values = _finite(scores, "score")
    if truth.shape != values.shape:
        raise ValueError(f"{truth.shape} labels do not fit {values.shape} scores")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("a label is 0 or 1")
    ints = truth.astype(np.int64)
    if ints.sum() in (0, len(ints)):
        raise DataError("one_class", column="label", count=len(ints))
    return ints, values


def _ranked(labels: ArrayLike, scores: ArrayLike) -> _Ranked:
    truth, values = _pair(labels, scores)
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    return _Ranked(ordered[ends], ends + 1, np.cumsum(truth[order])[ends])


def _auc(ranked: _Ranked) -> float:
    bads_here = np.diff(ranked.bads, prepend=0)
    goods_here = np.diff(ranked.goods, prepend=0)
    doubled = int(np.sum(goods_here * (2 * ranked.bads - bads_here)))
    return doubled / (2 * ranked.total_bads * ranked.total_goods)


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Chance that a random bad scores above a random good; a tie counts one half (midranks), in exact integers."""
    return _auc(_ranked(labels, scores))


def _ks_index(ranked: _Ranked) -> int:
    return int(np.argmax(ranked.bads * ranked.total_goods - ranked.goods * ranked.total_bads))


def _ks(ranked: _Ranked) -> Ks:
    at = _ks_index(ranked)
    distance = float(ranked.bads[at] / ranked.total_bads - ranked.goods[at] / ranked.total_goods)
    if distance < 0.0:
        return Ks(0.0, float(ranked.scores[-1]))
    return Ks(distance, float(ranked.scores[at]))


def ks(labels: ArrayLike, scores: ArrayLike) -> Ks:
    """Largest share of bads caught minus share of goods caught over all cut-offs, and the highest cut-off there.

    A score that points the wrong way has a KS near 0: the distance is signed, not absolute.
    """
    return _ks(_ranked(labels, scores))


def _roc(ranked: _Ranked, at_most: int | None) -> tuple[RocPoint, ...]:
    count = len(ranked.scores)
    kept = np.arange(count)
    if at_most is not None and count > at_most:
        wanted = np.linspace(0, int(ranked.rows[-1]), at_most)[1:]
        spread = np.searchsorted(ranked.rows, wanted, side="left")
        kept = np.unique(np.append(spread, [_ks_index(ranked), count - 1]))
    start = RocPoint(float("inf"), 0.0, 0.0, 0.0)
    return start, *(
        RocPoint(
            threshold=float(ranked.scores[at]),
            share=float(ranked.rows[at] / ranked.rows[-1]),
            tpr=float(ranked.bads[at] / ranked.total_bads),
            fpr=float(ranked.goods[at] / ranked.total_goods),
        )
        for at in kept
    )


def roc_points(labels: ArrayLike, scores: ArrayLike, at_most: int | None = None) -> tuple[RocPoint, ...]:
    """The ROC curve from (0, 0) to (1, 1), one point per distinct score.

    With `at_most`, about that many points, evenly spread over the rows, and always the one of the KS.
    """
    return _roc(_ranked(labels, scores), at_most)


def _capture(ranked: _Ranked, share: float) -> float:
    rows = np.concatenate(([0], ranked.rows))
    bads = np.concatenate(([0], ranked.bads))
    return float(np.interp(share * rows[-1], rows, bads) / ranked.total_bads)


def capture(labels: ArrayLike, scores: ArrayLike, share: float = 0.1) -> float:
    """Share of all bads among the riskiest `share` of rows; rows tied at the edge count in proportion."""
    if not 0.0 < share <= 1.0:
        raise ValueError("a share lies in (0, 1]")
    return _capture(_ranked(labels, scores), share)


def _slots(ends: Ints, count: int) -> Ints:
    """The slot 0..count-1 of each group, whole groups only: the slot in which the middle of the group lies."""
    starts = np.concatenate(([0], ends[:-1]))
    return (starts + ends) * count // (2 * int(ends[-1]))


def _bands(ranked: _Ranked, bands: int) -> tuple[Band, ...]:
    slots = _slots(ranked.rows, bands)
    total_rows, total_bads = int(ranked.rows[-1]), ranked.total_bads
    base = total_bads / total_rows
    result = []
    rows_before = bads_before = 0
    lasts = np.append(np.flatnonzero(slots[1:] != slots[:-1]), len(slots) - 1)
    first = 0
    for last in lasts:
        rows_so_far, bads_so_far = int(ranked.rows[last]), int(ranked.bads[last])
        rows, bads = rows_so_far - rows_before, bads_so_far - bads_before
        result.append(
            Band(
                band=int(slots[last]) + 1,
                low=float(ranked.scores[last]),
                high=float(ranked.scores[first]),
                rows=rows,
                bads=bads,
                bad_rate=bads / rows,
                lift=bads / rows / base,
                cumulative_rows=rows_so_far,
                cumulative_bads=bads_so_far,
                cumulative_row_share=rows_so_far / total_rows,
                cumulative_bad_share=bads_so_far / total_bads,
                cumulative_lift=bads_so_far / rows_so_far / base,
            )
        )
        rows_before, bads_before, first = rows_so_far, bads_so_far, int(last) + 1
    return tuple(result)


def lift_table(labels: ArrayLike, scores: ArrayLike, bands: int = 10) -> tuple[Band, ...]:
    """Rows cut into `bands` bands (10 or 20 as a rule) of equal size by score, riskiest first: gain and lift table.

    Rows of one score stay together, in the band where the middle of their group lies; so bands differ in size under
    ties, and a band that no group falls into is left out (the numbers of the others stay).
    """
    if bands < 2:
        raise ValueError("at least two bands")
    return _bands(_ranked(labels, scores), bands)


def _calibration(truth: Floats, predicted: Floats, bins: int) -> tuple[CalibrationBin, ...]:
    values, inverse, counts = np.unique(predicted, return_inverse=True, return_counts=True)
    slots = _slots(np.cumsum(counts), bins)
    rows = np.bincount(slots, weights=counts, minlength=bins)
    sum_predicted = np.bincount(slots, weights=values * counts, minlength=bins)
    sum_observed = np.bincount(slots[inverse], weights=truth, minlength=bins)
    return tuple(
        CalibrationBin(int(n), float(p / n), float(o / n))
        for n, p, o in zip(rows, sum_predicted, sum_observed, strict=True)
        if n
    )


def calibration(labels: ArrayLike, scores: ArrayLike, bins: int = 10) -> tuple[CalibrationBin, ...]:
    """Mean predicted and observed rate in `bins` bins of equal size, safest first; ties as in `lift_table`."""
    truth, values = _pair(labels, scores)
    return _calibration(truth.astype(np.float64), values, bins)


def _probabilities(values: Floats) -> Floats:
    if values.min() < 0.0 or values.max() > 1.0:
        raise ValueError("probabilities lie in [0, 1]")
    return values


def log_loss(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean negative log-likelihood in nats; probabilities are kept 1e-15 away from 0 and 1."""
    truth, values = _pair(labels, scores)
    safe = np.clip(_probabilities(values), LOG_FLOOR, 1.0 - LOG_FLOOR)
    return float(-np.mean(np.where(truth == 1, np.log(safe), np.log1p(-safe))))


def score_histogram(labels: ArrayLike, scores: ArrayLike, bins: int = 25) -> Histogram:
    """Goods and bads in `bins` intervals of equal width between the lowest and the highest score."""
    truth, values = _pair(labels, scores)
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    goods = np.histogram(values[truth == 0], bins=edges)[0]
    bads = np.histogram(values[truth == 1], bins=edges)[0]
    return Histogram(
        tuple(float(e) for e in edges), tuple(int(n) for n in goods), tuple(int(n) for n in bads)
    )


def evaluate(labels: ArrayLike, scores: ArrayLike) -> Evaluation:
    """All figures of one vector of probabilities. DataError `one_class` where goods or bads are missing."""
    ranked = _ranked(labels, scores)
    rows, bads = int(ranked.rows[-1]), ranked.total_bads
    distance = _ks(ranked)
    worst = _capture(ranked, 0.1)
    return Evaluation(
        rows=rows,
        positives=bads,
        positive_rate=bads / rows,
        auc=_auc(ranked),
        ks=distance.value,
        ks_threshold=distance.threshold,
        log_loss=log_loss(labels, scores),
        worst_tenth_capture=worst,
        worst_tenth_bad_rate=worst * bads / (0.1 * rows),
        roc=_roc(ranked, CURVE_POINTS),
        bands=_bands(ranked, 10),
        bands_20=_bands(ranked, 20),
        calibration=calibration(labels, scores),
        histogram=score_histogram(labels, scores),
    )


def _numbers(actual: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    truth, values = _finite(actual, "label"), _finite(predicted, "score")
    if truth.shape != values.shape:
        raise ValueError(f"{truth.shape} labels do not fit {values.shape} predictions")
    if not len(truth):
        raise DataError("too_small", what="label", count=0, needed=1)
    return truth, values


def _root_mean(squares: Floats) -> float:
    return float(np.sqrt(squares.mean()))


def rmse(actual: ArrayLike, predicted: ArrayLike) -> float:
    """Root of the mean squared error, in the unit of the label."""
    truth, values = _numbers(actual, predicted)
    return _root_mean((truth - values) ** 2)


def evaluate_regression(actual: ArrayLike, predicted: ArrayLike) -> RegressionEvaluation:
    """All figures of one vector of predicted numbers."""
    truth, values = _numbers(actual, predicted)
    spread = float(np.sum((truth - truth.mean()) ** 2))
    error = float(np.sum((truth - values) ** 2))
    constant = bool(truth.min() == truth.max())
    return RegressionEvaluation(
        rows=len(truth),
        rmse=rmse(truth, values),
        mae=float(np.mean(np.abs(truth - values))),
        r2=None if constant else 1.0 - error / spread,
        mean_actual=float(truth.mean()),
        mean_predicted=float(values.mean()),
        calibration=_calibration(truth, values, 10),
    )


def psi_of_counts(expected: ArrayLike, actual: ArrayLike) -> tuple[float, tuple[float, ...]]:
    """PSI and its contribution per bin from two rows of counts over the same bins.

    Sum over bins of (a - e) ln(a / e) with shares a and e. Zero-bin rule: a count of 0 is taken as half a row; a bin
    empty on both sides adds nothing.
    """
    e, a = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    if e.shape != a.shape or e.ndim != 1:
        raise ValueError("both sides need the same bins")
    if e.sum() == 0 or a.sum() == 0:
        raise DataError("too_small", what="PSI", count=0, needed=1)
    e_share = np.where(e == 0, 0.5, e) / e.sum()
    a_share = np.where(a == 0, 0.5, a) / a.sum()
    parts = np.where((e == 0) & (a == 0), 0.0, (a_share - e_share) * np.log(a_share / e_share))
    return float(parts.sum()), tuple(float(p) for p in parts)


def psi(expected: ArrayLike, actual: ArrayLike, bins: int = 10) -> Psi:
    """Population stability index of `actual` against `expected`, over quantile bins of `expected`.

    Equal quantiles merge into one bin; missing values (NaN), if either side has any, get a last bin of their own.
    The zero-bin rule is that of `psi_of_counts`. Under 0.1 is stable, 0.1 to 0.25 worth a look, above it shifted.
    """
    e, a = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    e_present, a_present = e[~np.isnan(e)], a[~np.isnan(a)]
    edges = np.empty(0)
    if len(e_present):
        shares = np.arange(1, bins) / bins
        edges = np.unique(np.quantile(e_present, shares, method="inverted_cdf"))
        edges = edges[edges < e_present.max()]
    size = len(edges) + 1
    e_counts = np.bincount(np.searchsorted(edges, e_present, side="left"), minlength=size)
    a_counts = np.bincount(np.searchsorted(edges, a_present, side="left"), minlength=size)
    missing = len(e_present) < len(e) or len(a_present) < len(a)
    if missing:
        e_counts = np.append(e_counts, len(e) - len(e_present))
        a_counts = np.append(a_counts, len(a) - len(a_present))
    value, parts = psi_of_counts(e_counts, a_counts)
    return Psi(
        value=value,
        edges=tuple(float(x) for x in edges),
        expected=tuple(float(n) / len(e) for n in e_counts),
        actual=tuple(float(n) / len(a) for n in a_counts),
        contributions=parts,
        missing=missing,
    )


def _interval(gain: float, draws: list[float]) -> GainInterval:
    low, high = np.quantile(np.asarray(draws), [0.025, 0.975])
    return GainInterval(gain, float(low), float(high), len(draws))


def _sampled_auc(groups: Ints, size: int, bads: Ints, goods: Ints) -> float:
    bads_here = np.bincount(groups[bads], minlength=size)
    goods_here = np.bincount(groups[goods], minlength=size)
    above = np.cumsum(bads_here)
    return int(np.sum(goods_here * (2 * above - bads_here))) / (2 * len(bads) * len(goods))


def bootstrap_gain(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, repeats: int, rng: Rng
) -> GainInterval:
    """AUC of `scores_b` minus that of `scores_a` on the same rows, with a 95 % percentile interval.

    Each repeat draws rows with replacement, goods and bads apart (so both stay as many), and scores both vectors on
    the same draw. The draws come from `rng` under `bootstrap/K`.
    """
    if repeats < 1:
        raise ValueError("at least one repeat")
    truth, first = _pair(labels, scores_a)
    _, second = _pair(labels, scores_b)
    groups_a, size_a = _groups(first)
    groups_b, size_b = _groups(second)
    bad_rows, good_rows = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    draws = []
    for repeat in range(repeats):
        drawn = rng.uniform(f"bootstrap/{repeat}", len(truth))
        bads = bad_rows[(drawn[: len(bad_rows)] * len(bad_rows)).astype(np.int64)]
        goods = good_rows[(drawn[len(bad_rows) :] * len(good_rows)).astype(np.int64)]
        gain = _sampled_auc(groups_b, size_b, bads, goods) - _sampled_auc(groups_a, size_a, bads, goods)
        draws.append(gain)
    return _interval(auc(truth, second) - auc(truth, first), draws)


def _groups(scores: Floats) -> tuple[Ints, int]:
    """The rank of each row's score among the distinct ones, riskiest 0, and how many there are."""
    values, inverse = np.unique(-scores, return_inverse=True)
    return inverse.astype(np.int64), len(values)


def bootstrap_rmse_gain(
    actual: ArrayLike, predicted_a: ArrayLike, predicted_b: ArrayLike, repeats: int, rng: Rng
) -> GainInterval:
    """RMSE of `predicted_a` minus that of `predicted_b` (positive: b is better), with a 95 % percentile interval."""
    if repeats < 1:
        raise ValueError("at least one repeat")
    truth, first = _numbers(actual, predicted_a)
    _, second = _numbers(actual, predicted_b)
    errors_a, errors_b = (truth - first) ** 2, (truth - second) ** 2
    draws = []
    for repeat in range(repeats):
        rows = (rng.uniform(f"bootstrap/{repeat}", len(truth)) * len(truth)).astype(np.int64)
        draws.append(_root_mean(errors_a[rows]) - _root_mean(errors_b[rows]))
    return _interval(_root_mean(errors_a) - _root_mean(errors_b), draws)
