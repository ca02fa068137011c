"""K4: a label owner that puts weights of its choice in the place of gradients, and reads the bins of rows (X1, T14)."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from isthmus.base.errors import PolicyError
from isthmus.jobs.engine import count_vectors
from isthmus.learn.parameters import BoostedTrees
from isthmus.protocols.hint import HintFeatureSide
from isthmus.wire.channel import Channel
from tests.attacks.actors import Chooser, begin_feature
from tests.attacks.parties import bins_of
from tests.attacks.weak.sides import UnlimitedFeatureSide
from tests.worlds import run_pair

ROWS = 20_000
CHOSEN = 128
"""Rows read by one vector: three and a half a bit of its payload."""
COUNT_BITS = 5
OWN = bins_of(ROWS, 3, 32)


def weights_of(width: int, vectors: int) -> tuple[np.ndarray, np.ndarray]:
    """128 rows a vector: 1 in the lowest bits, which count the rows of a bin, and random bits above that tell which."""
    weights = np.zeros(ROWS, dtype=np.int64)
    place = np.full(ROWS, -1, dtype=np.int32)
    drawn = np.random.default_rng(width).integers(0, 1 << (width - COUNT_BITS), vectors * CHOSEN)
    weights[: len(drawn)] = (drawn << COUNT_BITS) + 1
    place[: len(drawn)] = np.arange(len(drawn)) // CHOSEN
    return weights, place


def _choices(rows: np.ndarray, weights: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Every set of so many rows, `(sets, count)`, in the order of its sum."""
    if count == 0:
        return np.zeros((1, 0), dtype=np.int64), np.zeros(1, dtype=np.int64)
    sets = np.array(list(combinations(range(len(rows)), count)), dtype=np.int64).reshape(-1, count)
    sums = weights[rows[sets]].sum(axis=1)
    order = np.argsort(sums)
    return rows[sets[order]], sums[order]


def _subset(rows: np.ndarray, weights: np.ndarray, count: int, total: int, width: int) -> np.ndarray | None:
    """The rows of a bin by their number and the sum of their weights modulo 2^width: two halves that meet; None if unsure."""
    first, first_sums = _choices(rows, weights, count // 2)
    other, other_sums = (first, first_sums) if count % 2 == 0 else _choices(rows, weights, count - count // 2)
    found: set[tuple[int, ...]] = set()
    for wraps in range(count + 1):
        wanted = total + (wraps << width) - first_sums
        start, stop = (
            np.searchsorted(other_sums, wanted, "left"),
            np.searchsorted(other_sums, wanted, "right"),
        )
        for at in np.flatnonzero(start < stop):
            for to in range(start[at], stop[at]):
                together = {*first[at].tolist(), *other[to].tolist()}
                if len(together) == count:
                    found.add(tuple(sorted(together)))
    return np.array(found.pop(), dtype=np.int64) if len(found) == 1 else None


def decode(sums: np.ndarray, weights: np.ndarray, rows: np.ndarray, width: int) -> np.ndarray:
    """The bin of each of `rows` in one feature, from the sums of its bins; bins of few rows first. -1 where it stays open."""
    bin_of = np.full(len(weights), -1, dtype=np.int64)
    counts = (sums & np.uint64((1 << COUNT_BITS) - 1)).astype(np.int64)
    left = rows
    for bin_ in np.argsort(counts, kind="stable"):
        if counts[bin_] > 7 and len(left) > 60:
            break
        members = _subset(left, weights, int(counts[bin_]), int(sums[bin_]), width)
        if members is not None:
            bin_of[members] = bin_
            left = np.setdiff1d(left, members)
    found: np.ndarray = bin_of[rows]
    return found


def read(side: type[HintFeatureSide], vectors: int, budget: int) -> tuple[int, int, object]:
    """Cells (row and feature) read and right, cells tried, and what became of the feature owner: None or its error."""
    right = tried = 0

    async def label_owner(channel: Channel) -> None:
        nonlocal right, tried
        attacker = await Chooser.begin(channel, OWN)
        width = attacker.keys.layout.payload
        weights, place = weights_of(width, vectors)
        for vector in range(vectors):
            alone = np.where(place == vector, 0, -1).astype(np.int32)
            sums = (await attacker.ask(weights, alone))[0].reshape(len(OWN.counts), -1)
            rows = np.flatnonzero(place == vector)
            for feature, of_bins in enumerate(sums):
                found = decode(of_bins, weights, rows, width)
                right += int((found == OWN.bins[feature, rows]).sum())
                tried += len(rows)

    async def feature_owner(channel: Channel) -> None:
        engine = await begin_feature(side, channel, OWN, budget=budget)
        for _ in range(vectors):
            await engine.tree()
            await engine.level()

    _, became = run_pair("memory", label_owner, feature_owner)
    return right, tried, became


def test_without_a_budget_one_vector_after_the_other_reads_128_rows() -> None:
    right, tried, became = read(UnlimitedFeatureSide, vectors=3, budget=1)
    assert became is None
    assert right == tried == 3 * CHOSEN * len(OWN.counts)


def test_the_budget_of_the_product_ends_it() -> None:
    """What is within the budget is read here too: that is X1, and the budget is all that bounds it."""
    right, tried, became = read(HintFeatureSide, vectors=3, budget=1)
    assert isinstance(became, PolicyError), became
    assert became.code == "vectors"
    assert right == tried == CHOSEN * len(OWN.counts)


def test_what_the_budget_of_a_job_leaves_to_a_label_owner_that_reads_bins() -> None:
    """Rows read by a job of 100 trees of depth 4 and 50 features, on record: all of a small table, a part of a large one."""
    payloads = {100_000: 42, 1_000_000: 46, 4_000_000: 46}
    budget = {rows: count_vectors(BoostedTrees(), rows, payload) for rows, payload in payloads.items()}
    assert {rows: CHOSEN * vectors for rows, vectors in budget.items()} == {
        100_000: 410_112,
        1_000_000: 410_112,
        4_000_000: 615_168,
    }
