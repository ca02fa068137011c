"""The lattice engine gives the sums of the plain one, in every world, and refuses what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from isthmus.base.errors import ConfigError, LocalError, PeerError
from isthmus.base.progress import Progress
from isthmus.base.randomness import Rng
from isthmus.crypto.lattice.hint import Set
from isthmus.crypto.lattice.ntt import N
from isthmus.learn.histogram import BinMatrix, histogram
from isthmus.learn.parameters import BoostedTrees, Crypto
from isthmus.learn.tree import FeatureHalf, LabelHalf
from isthmus.protocols import hint
from isthmus.protocols.boost import LabelBooster, boost_as_feature_owner
from isthmus.protocols.hint import (
    Commit,
    HintFeatureSide,
    HintLabelSide,
    Nonce,
    Offline,
    Opened,
    Vector,
    Vectors,
    vectors_max,
)
from isthmus.protocols.score import score_as_feature_owner, score_as_label_owner
from isthmus.wire.channel import Channel
from isthmus.wire.message import Message
from tests.protocols.test_boost import SEED, binned, label_of, table, twin_scores
from tests.worlds import metered_pair, run_pair, run_star

DIGEST = bytes(range(32))
MODEL = BoostedTrees(trees=3, depth=3, min_child_rows=20, stop_after=0, local_trees=0, row_sample=0.8)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hint, "BATCH", 8)


def matrix(rows: int = 300, features: int = 3, bins: int = 5, seed: int = 1) -> BinMatrix:
    cells = np.random.default_rng(seed).integers(0, bins, (features, rows)).astype(np.uint8)
    return BinMatrix(cells, (bins,) * features)


def gradients(rows: int, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.integers(-15, 16, rows), draw.integers(0, 16, rows)


@pytest.mark.parametrize("world", ["memory", "stream", "link"])
def test_trees_equal_the_twin_bit_for_bit(world: str) -> None:
    tables = [table(200, 2, 1), table(200, 2, 2)]
    label, cut = label_of(tables, "binary"), [binned(t, 5) for t in tables]
    shape = cut[1].matrix.counts

    async def label_owner(channel: Channel) -> np.ndarray:
        engine = await HintLabelSide.begin([channel], 200, [sum(shape)], DIGEST, Progress())
        booster = LabelBooster([channel], engine, cut[0], [shape], label, 200, MODEL, Crypto(), Rng(SEED))
        half: LabelHalf = await booster.train(Progress())
        return await score_as_label_owner([channel], half, tables[0], "ids")

    async def feature_owner(channel: Channel) -> FeatureHalf:
        engine = await HintFeatureSide.begin(channel, cut[1].matrix, DIGEST, MODEL, Progress())
        half = await boost_as_feature_owner(channel, engine, cut[1], MODEL, "ids", Progress())
        await score_as_feature_owner(channel, half, tables[1])
        return half

    first, second = run_pair(world, label_owner, feature_owner)
    assert isinstance(second, FeatureHalf), second
    assert first.tobytes() == twin_scores(cut, label, 200, MODEL).tobytes()


def test_two_feature_owners_share_one_vector_and_have_keys_of_their_own() -> None:
    matrices = [matrix(seed=1), matrix(features=2, bins=9, seed=4)]
    g, h = gradients(300)
    slot_of_row = np.random.default_rng(9).integers(-1, 3, 300).astype(np.int32)

    async def label_owner(channels: list[Channel]) -> list[np.ndarray]:
        engine = await HintLabelSide.begin(channels, 300, [m.total for m in matrices], DIGEST, Progress())
        await engine.tree(g, h)
        return await engine.level(slot_of_row, 3)

    def feature_owner(own: BinMatrix) -> Any:
        async def role(channel: Channel) -> None:
            engine = await HintFeatureSide.begin(channel, own, DIGEST, MODEL, Progress())
            await engine.tree()
            await engine.level()

        return role

    results = run_star(label_owner, [feature_owner(m) for m in matrices])
    for own, sums in zip(matrices, results[0], strict=True):
        assert (sums == histogram(own, slot_of_row, 3, g, h)).all()


def test_a_node_whose_sums_are_too_wide_is_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    own = matrix(rows=2000)
    g, h = gradients(2000)
    counted: list[int] = []

    async def label_owner(channel: Channel) -> np.ndarray:
        engine = await HintLabelSide.begin([channel], 2000, [own.total], DIGEST, Progress())
        engine._set = Set("narrow", 64, 0, 26)
        engine._keys[0]._set = engine._public.set = engine._set
        await engine.tree(g, h)
        counted.append(len(engine._fit(np.arange(2000))))
        return (await engine.level(np.zeros(2000, dtype=np.int32), 1))[0]

    async def feature_owner(channel: Channel) -> None:
        wide = BoostedTrees(trees=50, depth=3)
        engine = await HintFeatureSide.begin(channel, own, DIGEST, wide, Progress())
        engine._set = Set("narrow", 64, 0, 26)
        await engine.level()

    first, second = run_pair("memory", label_owner, feature_owner)
    assert second is None
    assert counted[0] > 1
    assert (first == histogram(own, np.zeros(2000, dtype=np.int32), 1, g, h)).all()


def test_the_feature_owner_sees_as_many_bytes_whatever_the_gradients_and_nodes() -> None:
    own = matrix()

    def crossed(seed: int) -> Any:
        g, h = gradients(300, seed)
        slots = (np.random.default_rng(seed).random(300) < 0.1 * seed).astype(np.int32)

        async def label_owner(channel: Channel) -> None:
            engine = await HintLabelSide.begin([channel], 300, [own.total], DIGEST, Progress())
            await engine.tree(g, h)
            await engine.level(slots, 2)

        async def feature_owner(channel: Channel) -> None:
            engine = await HintFeatureSide.begin(channel, own, DIGEST, MODEL, Progress())
            await engine.level()

        _, meters = metered_pair(label_owner, feature_owner)
        return meters[1].received, meters[1].sent

    assert crossed(1) == crossed(8)


def test_a_secret_is_taken_before_it_encrypts_and_never_comes_back() -> None:
    own = matrix()

    async def label_owner(channel: Channel) -> None:
        engine = await HintLabelSide.begin([channel], 300, [own.total], DIGEST, Progress())
        await engine.tree(*gradients(300))
        held = dict(engine._pool)
        assert not held
        await engine.level(np.zeros(300, dtype=np.int32), 1)
        kept = engine._pool[min(engine._pool)]
        assert 0 not in engine._pool
        kept.take()
        with pytest.raises(LocalError, match="secret_spent"):
            kept.take()
        await engine.close()
        assert not engine._pool

    async def feature_owner(channel: Channel) -> None:
        engine = await HintFeatureSide.begin(channel, own, DIGEST, MODEL, Progress())
        await engine.level()

    first, second = run_pair("memory", label_owner, feature_owner)
    assert (first, second) == (None, None)


def test_two_runs_of_one_job_share_no_public_polynomial() -> None:
    nonces = [hint._seeds(DIGEST, bytes([n]) * 32, np.zeros((1, 32), dtype=np.uint8), 0) for n in (1, 2)]
    assert len({*nonces[0], *nonces[1]}) == 4


@pytest.mark.parametrize("what", ["nonce", "commit", "place"])
def test_a_seed_that_one_side_chose_alone_is_refused(what: str) -> None:
    async def attacker(channel: Channel) -> None:
        nonce = bytes(32)
        await channel.send(Commit(hint._commitment(DIGEST, nonce)))
        theirs = (await channel.recv(Nonce)).nonce
        others = np.frombuffer(theirs, dtype=np.uint8).reshape(1, 32)
        if what == "commit":
            nonce = bytes([1]) * 32
        if what == "nonce":
            others = np.zeros((1, 32), dtype=np.uint8)
        await channel.send(Opened(nonce, others, 3 if what == "place" else 0))
        await channel.recv(Nonce)

    async def victim(channel: Channel) -> None:
        await HintFeatureSide.begin(channel, matrix(), DIGEST, MODEL, Progress())

    _, result = run_pair("memory", attacker, victim)
    assert isinstance(result, PeerError), result


def offline(index: int) -> Offline:
    return Offline(index, np.zeros((1, 1, N), dtype=np.uint64), np.zeros((1, 15), dtype=np.uint64))


def vectors(offline_count: int, *indexes: int) -> Vectors:
    return Vectors(offline_count, np.array(indexes, dtype=np.uint32))


WORDS = Vector(np.zeros(300, dtype=np.uint64))
BAD: dict[str, list[Message]] = {
    "an index never announced": [vectors(0, 0)],
    "an index used twice": [vectors(1, 0, 0), offline(0), WORDS, WORDS],
    "hints out of turn": [vectors(1, 0), offline(7)],
    "a hint repeated": [vectors(2, 0), offline(0), offline(0)],
    "a vector of other length": [vectors(1, 0), offline(0), Vector(np.zeros(299, dtype=np.uint64))],
    "a hint of another shape": [
        vectors(1, 0),
        Offline(0, np.zeros((1, 2, N), dtype=np.uint64), np.zeros((1, 15), dtype=np.uint64)),
    ],
    "one vector over the budget": [vectors(0, *range(vectors_max(MODEL, 300) + 1))],
}


@pytest.mark.parametrize("case", BAD)
def test_a_feature_owner_refuses_what_does_not_fit(case: str) -> None:
    own = matrix()

    async def attacker(channel: Channel) -> None:
        await HintLabelSide.begin([channel], 300, [own.total], DIGEST, Progress())
        for message in BAD[case]:
            await channel.send(message)
        await channel.recv(hint.Answer)

    async def victim(channel: Channel) -> None:
        engine = await HintFeatureSide.begin(channel, own, DIGEST, MODEL, Progress())
        await engine.level()

    _, result = run_pair("memory", attacker, victim)
    assert isinstance(result, PeerError), result


def test_more_rows_than_the_sets_were_made_for_are_refused() -> None:
    assert hint.set_of(16_000).name == "A1"
    assert hint.set_of(16_001).name == "W8"
    with pytest.raises(ConfigError):
        hint.set_of(hint.ROWS_MAX + 1)
