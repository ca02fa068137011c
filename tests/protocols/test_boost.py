"""Boosted trees: every engine, world and setting gives what the twin gives."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from isthmus.base.errors import PeerError
from isthmus.base.progress import Progress
from isthmus.base.randomness import Rng
from isthmus.learn.bins import ColumnBins, fit_numeric
from isthmus.learn.histogram import BinMatrix
from isthmus.learn.parameters import BoostedTrees, Crypto
from isthmus.learn.tree import FeatureHalf, Floats, LabelHalf
from isthmus.protocols.binning import Binned
from isthmus.protocols.boost import Kept, LabelBooster, Next, Sides, Won, boost_as_feature_owner
from isthmus.protocols.histogram import PaillierFeatureSide, PaillierLabelSide
from isthmus.protocols.score import score_as_feature_owner, score_as_label_owner
from isthmus.table.table import Column, NumericColumn, Table
from isthmus.wire.channel import Channel
from isthmus.wire.message import Message
from tests.protocols.plain import PlainEngine, PlainFeatureSide
from tests.protocols.twin import Pooled, grow, score
from tests.worlds import WORLDS, Role, run_pair, run_star

SEED = bytes(range(32))
CRYPTO = Crypto()


def table(rows: int, columns: int, seed: int, missing: float = 0.1) -> Table:
    """Random numeric columns, some cells missing."""
    draw = np.random.default_rng(seed)
    made: dict[str, Column] = {}
    for i in range(columns):
        values = draw.normal(size=rows).round(1 if i % 2 else 3)
        values[draw.random(rows) < missing] = np.nan
        made[f"x{seed}_{i}"] = NumericColumn(f"x{seed}_{i}", values)
    ids = [str(i).encode() for i in range(rows)]
    return Table(ids, made, None, {}, np.arange(1, rows + 1), [i.decode() for i in ids])


def binned(source: Table, max_bins: int = 8) -> Binned:
    """Bins of all rows, fitted on all rows."""
    columns: list[ColumnBins] = []
    bins = []
    for column in source.columns.values():
        assert isinstance(column, NumericColumn)
        fitted = fit_numeric(column.name, column.values, max_bins, 20)
        assert fitted is not None
        columns.append(fitted)
        bins.append(fitted.apply(column.values))
    return Binned(columns, BinMatrix(np.stack(bins), tuple(c.count for c in columns)), {})


def label_of(tables: list[Table], objective: str, seed: int = 5) -> Floats:
    draw = np.random.default_rng(seed)
    leading = [next(iter(t.columns.values())) for t in tables]
    first = [np.nan_to_num(c.values, nan=1.0) for c in leading if isinstance(c, NumericColumn)]
    signal: Floats = np.sum(first, axis=0) + 0.5 * first[0] * first[-1]
    if objective == "binary":
        made: Floats = (signal + draw.normal(size=len(signal)) > 0.7).astype(np.float64)
        return made
    return signal + 0.1 * draw.normal(size=len(signal))


def train(
    tables: list[Table], label: np.ndarray, rows: int, p: BoostedTrees, crypto: Crypto = CRYPTO
) -> tuple[Any, PlainEngine, list[Binned]]:
    """Joint training over memory with the plain engine; all halves."""
    cut = [binned(t) for t in tables]
    shapes = [b.matrix.counts for b in cut[1:]]
    engine = PlainEngine([BinMatrix(b.matrix.bins[:, :rows], b.matrix.counts) for b in cut[1:]])

    async def label_owner(channels: list[Channel]) -> LabelHalf:
        booster = LabelBooster(channels, engine, cut[0], shapes, label, rows, p, crypto, Rng(SEED))
        return await booster.train(Progress())

    def feature_owner(own: Binned) -> Any:
        async def role(channel: Channel) -> FeatureHalf:
            side = PlainFeatureSide()
            return await boost_as_feature_owner(channel, side, own, p, crypto.split_reveal, Progress())

        return role

    return run_star(label_owner, [feature_owner(b) for b in cut[1:]]), engine, cut


def answering(half: FeatureHalf, own: Table) -> Role:
    return lambda channel: score_as_feature_owner(channel, half, own)


def joint_scores(halves: Any, tables: list[Table], reveal: Any = "ids") -> np.ndarray:
    async def hub(channels: list[Channel]) -> Floats:
        return await score_as_label_owner(channels, halves[0], tables[0], reveal)

    scores = run_star(
        hub,
        [answering(h, t) for h, t in zip(halves[1:], tables[1:], strict=True)],
    )[0]
    assert isinstance(scores, np.ndarray), scores
    return scores


def twin_scores(
    cut: list[Binned], label: np.ndarray, rows: int, p: BoostedTrees, crypto: Crypto = CRYPTO
) -> np.ndarray:
    pooled = Pooled(
        np.concatenate([b.matrix.bins for b in cut]),
        [c for b in cut for c in b.matrix.counts],
        [o for o, b in enumerate(cut) for _ in b.matrix.counts],
    )
    model = grow(pooled, label, rows, p, (crypto.gradient_bits, crypto.hessian_bits), Rng(SEED))
    return score(model, pooled)


SETTINGS = {
    "plain": BoostedTrees(trees=3, depth=3, min_child_rows=20, stop_after=0, local_trees=0),
    "local tree first": BoostedTrees(trees=3, depth=4, min_child_rows=20, stop_after=0, local_trees=1),
    "sampled": BoostedTrees(
        trees=4, depth=3, min_child_rows=20, row_sample=0.6, column_sample=0.5, stop_after=0
    ),
    "strict": BoostedTrees(
        trees=3, depth=5, min_child_rows=40, min_child_hessian=6.0, gamma=0.8, l2=3.0, stop_after=0
    ),
    "regression": BoostedTrees(objective="regression", trees=3, depth=3, min_child_rows=20, stop_after=0),
    "early stop": BoostedTrees(trees=30, depth=4, learning_rate=1.0, min_child_rows=20, stop_after=2),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("reveal", ["ids", "column"])
def test_the_joint_model_equals_the_pooled_twin_bit_for_bit(name: str, reveal: Any) -> None:
    p = SETTINGS[name]
    tables = [table(420, 3, 1), table(420, 4, 2)]
    label = label_of(tables, p.objective)
    rows = 300
    halves, _, cut = train(tables, label, rows, p, Crypto(split_reveal=reveal))
    assert isinstance(halves[0], LabelHalf), halves
    assert joint_scores(halves, tables, reveal).tobytes() == twin_scores(cut, label, rows, p).tobytes()
    if name == "early stop":
        assert len(halves[0].trees) < 30


def test_three_feature_owners_equal_the_pooled_twin_bit_for_bit() -> None:
    p = BoostedTrees(trees=4, depth=4, min_child_rows=20, stop_after=0, local_trees=0)
    tables = [table(400, 2, s) for s in (1, 2, 3, 4)]
    label = label_of(tables, "binary")
    halves, _, cut = train(tables, label, 400, p)
    assert {n.owner for t in halves[0].trees for n in t.inner.values()} == {0, 1, 2, 3}
    assert joint_scores(halves, tables).tobytes() == twin_scores(cut, label, 400, p).tobytes()


@pytest.mark.parametrize("world", WORLDS)
def test_paillier_gives_the_twins_scores_in_every_world(world: str) -> None:
    p = BoostedTrees(trees=2, depth=3, min_child_rows=20, stop_after=0, local_trees=0, row_sample=0.8)
    crypto = Crypto(paillier_bits=2048)
    tables = [table(200, 2, 1), table(200, 2, 2)]
    label = label_of(tables, "binary")
    cut = [binned(t, 5) for t in tables]
    shape = cut[1].matrix.counts

    async def label_owner(channel: Channel) -> tuple[LabelHalf, np.ndarray]:
        engine = await PaillierLabelSide.begin([channel], 200, [sum(shape)], crypto, Progress())
        booster = LabelBooster([channel], engine, cut[0], [shape], label, 200, p, crypto, Rng(SEED))
        half = await booster.train(Progress())
        await engine.close()
        return half, await score_as_label_owner([channel], half, tables[0], "ids")

    async def feature_owner(channel: Channel) -> FeatureHalf:
        engine = await PaillierFeatureSide.begin(channel, cut[1].matrix, crypto)
        half = await boost_as_feature_owner(channel, engine, cut[1], p, "ids", Progress())
        await score_as_feature_owner(channel, half, tables[1])
        return half

    first, second = run_pair(world, label_owner, feature_owner)
    assert isinstance(first, tuple), first
    assert isinstance(second, FeatureHalf), second
    assert second.splits
    assert first[1].tobytes() == twin_scores(cut, label, 200, p, crypto).tobytes()


def test_no_gradient_is_wider_than_the_cap() -> None:
    p = BoostedTrees(trees=3, depth=2, min_child_rows=20, stop_after=0, local_trees=0)
    tables = [table(300, 2, 1), table(300, 2, 2)]
    _, engine, _ = train(tables, label_of(tables, "binary"), 300, p)
    assert engine.widest == 15


def test_neither_half_names_the_others_columns() -> None:
    p = BoostedTrees(trees=3, depth=3, min_child_rows=20, stop_after=0, local_trees=0)
    tables = [table(300, 2, 1), table(300, 2, 2)]
    halves, _, _ = train(tables, label_of(tables, "binary"), 300, p)
    label_half, feature_half = str(halves[0].to_json()), str(halves[1].to_json())
    assert "x1_0" in label_half
    assert "x2_" not in label_half
    assert "x2_0" in feature_half
    assert "x1_" not in feature_half
    for word in ("leaf", "gain", "cover", "count", "hessian", "tree"):
        assert word not in feature_half


def send_all(*messages: Any) -> Any:
    async def role(channel: Channel) -> None:
        for message in messages:
            await channel.send(message)
        await asyncio.sleep(0)

    return role


def won(feature: int = 0, last_left: int = 1, rows: list[int] | None = None, sets: int = 1) -> Won:
    rows = [0, 1] if rows is None else rows
    return Won(
        np.array([feature], dtype="u2"),
        np.array([last_left], dtype="u1"),
        np.array([0], dtype="u1"),
        [np.array(rows)] * sets,
    )


BAD: dict[str, list[Message]] = {
    "a level before any tree": [Next(2)],
    "an unknown step": [Next(7)],
    "more trees than agreed": [Next(1)] * 3,
    "more levels than agreed": [Next(1), *[m for _ in range(3) for m in (Next(2), won(rows=[0]))]],
    "a feature that does not exist": [Next(1), Next(2), won(feature=9)],
    "a bin that does not exist": [Next(1), Next(2), won(last_left=200)],
    "bin zero": [Next(1), Next(2), won(last_left=0)],
    "a row that does not exist": [Next(1), Next(2), won(rows=[10_000])],
    "rows for more splits than there are": [Next(1), Next(2), won(sets=2)],
    "rows for fewer": [Next(1), Next(2), won(sets=0)],
    "an answer instead of a question": [Next(1), Next(2), Sides(np.zeros(3, dtype="u1"))],
    "a split kept that was never made": [Next(0), Kept(np.array([4], dtype="u4"))],
}


@pytest.mark.parametrize("case", BAD)
def test_a_feature_owner_refuses_a_bad_message(case: str) -> None:
    p = BoostedTrees(trees=2, depth=2, min_child_rows=20, stop_after=0)
    own = binned(table(100, 2, 3))

    async def victim(channel: Channel) -> FeatureHalf:
        return await boost_as_feature_owner(channel, PlainFeatureSide(), own, p, "ids", Progress())

    async def attacker(channel: Channel) -> None:
        for message in BAD[case]:
            await channel.send(message)
            if isinstance(message, Won) and case == "more levels than agreed":
                await channel.recv(Sides)
        await channel.recv(Sides)

    _, result = run_pair("memory", attacker, victim)
    assert isinstance(result, PeerError), result


def test_a_feature_owner_whose_bins_do_not_add_up_is_caught() -> None:
    p = BoostedTrees(trees=1, depth=2, min_child_rows=20, stop_after=0, local_trees=0)
    tables = [table(300, 2, 1), table(300, 2, 2)]
    label, cut = label_of(tables, "binary"), [binned(t) for t in tables]

    class Liar(PlainEngine):
        async def level(self, slot_of_row: np.ndarray, slots: int) -> list[np.ndarray]:
            sums = await super().level(slot_of_row, slots)
            sums[0][0, 1, 0] += 1
            return sums

    async def label_owner(channels: list[Channel]) -> LabelHalf:
        engine = Liar([cut[1].matrix])
        shapes = [cut[1].matrix.counts]
        return await LabelBooster(channels, engine, cut[0], shapes, label, 300, p, Crypto(), Rng(SEED)).train(
            Progress()
        )

    async def feature_owner(channel: Channel) -> FeatureHalf:
        return await boost_as_feature_owner(channel, PlainFeatureSide(), cut[1], p, "ids", Progress())

    first, second = run_star(label_owner, [feature_owner])
    assert isinstance(first, PeerError)
    assert first.code == "answer_inconsistent"
    assert isinstance(second, PeerError)
    assert second.fields["code"] == "answer_inconsistent"
