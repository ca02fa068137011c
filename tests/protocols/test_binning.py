"""Bins, and the weights of evidence that the label owner gets of features it cannot see."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.base.errors import DataError, PeerError
from isthmus.base.progress import Progress
from isthmus.learn.bins import (
    CategoryBins,
    NumericBins,
    bins_from_json,
    fit_category,
    fit_numeric,
)
from isthmus.learn.histogram import BinMatrix
from isthmus.learn.parameters import Binning, Crypto
from isthmus.learn.woe import WoeTable, woe_table
from isthmus.protocols.binning import (
    TEST,
    TRAIN,
    VALID,
    Binned,
    Parts,
    Shapes,
    bin_as_feature_owner,
    bin_as_label_owner,
    bin_table,
    weigh_as_label_owner,
)
from isthmus.protocols.histogram import PaillierFeatureSide, PaillierLabelSide
from isthmus.table.table import CategoryColumn, Column, NumericColumn, Table
from isthmus.wire.channel import Channel
from tests.protocols.plain import PlainEngine
from tests.worlds import WORLDS, run_pair

DIGEST = bytes(range(32))


def table(rows: int = 200, seed: int = 1, more: dict[str, Column] | None = None) -> Table:
    draw = np.random.default_rng(seed)
    columns: dict[str, Column] = {
        n: NumericColumn(n, draw.normal(size=rows)) for n in ("age", "limit", "paid")
    }
    columns["city"] = CategoryColumn("city", draw.integers(0, 3, rows).astype(np.int32), ("a", "b", "c"))
    columns |= more or {}
    ids = [b"%d" % i for i in range(rows)]
    return Table(ids, columns, None, {}, np.arange(1, rows + 1), [i.decode() for i in ids])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(-9, 9).map(float), st.floats(-5, 5)), min_size=1, max_size=300),
    st.integers(2, 40),
    st.integers(1, 30),
)
def test_every_numeric_bin_in_use_holds_the_floor_and_keeps_the_order(
    cells: list[float | None], max_bins: int, floor: int
) -> None:
    values = np.array([np.nan if c is None else c for c in cells])
    fitted = fit_numeric("x", values, max_bins, floor)
    if fitted is None:
        return
    bins = fitted.apply(values)
    sizes = np.bincount(bins, minlength=fitted.count)
    assert fitted.count <= max_bins + 1
    assert all(size >= floor for size in sizes[sizes > 0])
    assert (sizes[1:] > 0).all()
    present = ~np.isnan(values)
    order = np.argsort(values[present], kind="stable")
    assert (np.diff(bins[present][order].astype(int)) >= 0).all()
    assert len(fitted.labels()) == fitted.count


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-1, 12), min_size=1, max_size=300), st.integers(2, 10), st.integers(1, 30))
def test_every_category_bin_in_use_holds_the_floor(codes: list[int], max_bins: int, floor: int) -> None:
    levels = tuple(f"level{i}" for i in range(13))
    column = np.array(codes, dtype=np.int32)
    fitted = fit_category("x", column, levels, max_bins, floor)
    if fitted is None:
        return
    bins = fitted.apply(column, levels)
    sizes = np.bincount(bins, minlength=fitted.count)
    assert fitted.count <= max_bins + 1
    assert all(size >= floor for size in sizes[sizes > 0])
    assert len(fitted.labels()) == fitted.count


def test_categories_are_coded_by_frequency_and_rare_levels_share_the_last_bin() -> None:
    levels = ("a", "b", "c", "d", "e")
    codes = np.repeat(np.arange(5), [10, 60, 40, 9, 8]).astype(np.int32)
    fitted = fit_category("x", codes, levels, 32, 20)
    assert fitted == CategoryBins("x", (("b",), ("c",), ("a", "d", "e")), 3)
    assert fitted.apply(np.array([0, 1, -1], dtype=np.int32), ("new", "b")).tolist() == [3, 1, 0]


def test_a_missing_bin_under_the_floor_joins_the_fullest_bin() -> None:
    values = np.array([np.nan] * 5 + [1.0] * 30 + [2.0] * 50)
    fitted = fit_numeric("x", values, 8, 20)
    assert fitted == NumericBins("x", (1.0,), 2)
    assert fitted.apply(np.array([np.nan, 0.0, 9.0])).tolist() == [2, 1, 2]
    alone = fit_numeric("x", np.concatenate([values, [np.nan] * 20]), 8, 20)
    assert alone == NumericBins("x", (1.0,), 0)


def test_a_column_with_one_bin_is_dropped_and_listed() -> None:
    own = table(more={"flat": NumericColumn("flat", np.array([1.0] * 190 + [2.0] * 10))})
    binned = bin_table(own, np.zeros(200, dtype=np.uint8), Binning(8, 20), None)
    assert binned.dropped == {"flat": "sparse_bins"}
    with pytest.raises(DataError, match="no_features"):
        bin_table(table(30), np.zeros(30, dtype=np.uint8), Binning(8, 20), None)


def test_bins_are_fitted_on_training_rows_alone() -> None:
    part = np.array([TRAIN] * 100 + [VALID] * 50 + [TEST] * 50, dtype=np.uint8)
    own, other = table(), table()
    column = other.columns["age"]
    assert isinstance(column, NumericColumn)
    column.values[100:] = 1e9
    first, second = bin_table(own, part, Binning(8, 20), None), bin_table(other, part, Binning(8, 20), None)
    assert first.columns == second.columns
    assert first.matrix.rows == 150


@pytest.mark.parametrize(
    "fitted", [NumericBins("x", (1.5, 2.25), 0), CategoryBins("c", (("a", "b"), ("d",)), 2, 1)]
)
def test_bins_come_back_from_json(fitted: NumericBins | CategoryBins) -> None:
    assert bins_from_json(fitted.to_json()) == fitted
    with pytest.raises(DataError, match="bad_model"):
        bins_from_json({**fitted.to_json(), "kind": "pickle"})
    with pytest.raises(DataError, match="bad_model"):
        bins_from_json({"kind": "numeric", "name": "x", "cuts": ["one"], "missing_bin": 0})


@pytest.mark.parametrize("world", WORLDS)
def test_the_label_owner_gets_exact_weights_of_opaque_features(world: str) -> None:
    mine, yours = table(seed=1), table(seed=2)
    label = (np.random.default_rng(3).random(200) < 0.3).astype(float)
    part = np.array([TRAIN] * 160 + [TEST] * 40, dtype=np.uint8)
    binning, crypto = Binning(5, 20), Crypto(paillier_bits=2048)

    async def label_owner(channel: Channel) -> tuple[list[tuple[int, ...]], list[list[WoeTable]]]:
        _, shapes = await bin_as_label_owner([channel], mine, part, binning)
        engine = await PaillierLabelSide.begin([channel], 160, [sum(shapes[0])], crypto, Progress())
        weights = await weigh_as_label_owner(engine, label[:160], shapes)
        await engine.close()
        return shapes, weights

    async def feature_owner(channel: Channel) -> Binned:
        binned, _ = await bin_as_feature_owner(channel, yours, binning, DIGEST)
        engine = await PaillierFeatureSide.begin(channel, binned.matrix, crypto)
        await engine.tree()
        await engine.level()
        return binned

    first, second = run_pair(world, label_owner, feature_owner)
    assert isinstance(second, Binned), second
    shapes, weights = first
    assert shapes == [second.matrix.counts]
    for at, count in enumerate(second.matrix.counts):
        bins = second.matrix.bins[at]
        bads = np.bincount(bins, weights=label[:160], minlength=count).astype(np.int64)
        assert weights[0][at] == woe_table(bads, np.bincount(bins, minlength=count))


@pytest.mark.parametrize("change", [(0, 0, 1), (0, 1, 1), (0, 0, -500), (0, 0, 500)])
def test_weights_that_cannot_be_are_refused(change: tuple[int, int, int]) -> None:
    label = np.array([0.0, 1.0] * 80)
    bins = BinMatrix(np.repeat(np.arange(1, 5, dtype=np.uint8), 40)[None], (5,))

    class Liar(PlainEngine):
        async def level(self, slot_of_row: np.ndarray, slots: int) -> list[np.ndarray]:
            sums = await super().level(slot_of_row, slots)
            row, part, by = change
            sums[0][0, row + 1, part] += by
            sums[0][0, row + 2, part] -= by if abs(by) > 1 else 0
            return sums

    with pytest.raises(PeerError, match="answer_inconsistent"):
        asyncio.run(weigh_as_label_owner(Liar([bins]), label, [(5,)]))
    assert len(asyncio.run(weigh_as_label_owner(PlainEngine([bins]), label, [(5,)]))[0]) == 1


def test_the_order_of_opaque_features_changes_with_the_job_and_not_with_a_rerun() -> None:
    part = np.zeros(200, dtype=np.uint8)
    wide = table(
        more={f"c{i}": NumericColumn(f"c{i}", np.random.default_rng(i).normal(size=200)) for i in range(9)}
    )
    orders = [
        [c.name for c in bin_table(wide, part, Binning(5, 20), d).columns]
        for d in (DIGEST, DIGEST, bytes(32))
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


BAD_SHAPES = {
    "no features": np.zeros(0),
    "a feature with one bin": np.array([5, 1]),
    "more bins than agreed": np.array([9, 200]),
}


@pytest.mark.parametrize("case", BAD_SHAPES)
def test_a_label_owner_refuses_bad_shapes(case: str) -> None:
    async def attacker(channel: Channel) -> None:
        await channel.recv(Parts)
        await channel.send(Shapes(BAD_SHAPES[case].astype(np.uint16)))

    part = np.zeros(200, dtype=np.uint8)
    result, _ = run_pair("memory", lambda c: bin_as_label_owner([c], table(), part, Binning(8, 20)), attacker)
    assert isinstance(result, PeerError), result


@pytest.mark.parametrize("part", [np.zeros(199), np.full(200, 3)])
def test_a_feature_owner_refuses_parts_that_do_not_fit(part: np.ndarray) -> None:
    async def attacker(channel: Channel) -> None:
        await channel.send(Parts(part.astype(np.uint8)))

    _, result = run_pair(
        "memory", attacker, lambda c: bin_as_feature_owner(c, table(), Binning(8, 20), DIGEST)
    )
    assert isinstance(result, PeerError), result


def test_the_matrix_counts_its_bins() -> None:
    assert BinMatrix(np.zeros((2, 3), dtype=np.uint8), (4, 5)).total == 9
