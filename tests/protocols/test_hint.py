"""The lattice engine gives the sums of the plain one, in every world, and refuses what does not fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.base.errors import IsthmusError, LineError, LocalError, PeerError, PolicyError
from isthmus.base.progress import Progress
from isthmus.base.randomness import Rng
from isthmus.crypto.lattice import outer, sets, vectors
from isthmus.crypto.lattice.ntt import N, transform
from isthmus.crypto.onetime import Ledger, MemoryLedger, Recorded
from isthmus.learn.histogram import BinMatrix, histogram
from isthmus.learn.parameters import BoostedTrees, Crypto
from isthmus.learn.tree import FeatureHalf, LabelHalf
from isthmus.protocols import hint, hint_setup
from isthmus.protocols.boost import LabelBooster, boost_as_feature_owner
from isthmus.protocols.hint import (
    NO_BATCH,
    Check,
    HintFeatureSide,
    HintLabelSide,
    Offline,
    PieceOfWords,
    Seeds,
    Vectors,
    vectors_expected,
    vectors_max,
)
from isthmus.protocols.hint_setup import Agreed, Commit, Nonce
from isthmus.protocols.score import score_as_feature_owner, score_as_label_owner
from isthmus.store.checkpoints import Checkpoints
from isthmus.wire.channel import Channel
from tests.protocols.test_boost import SEED, binned, label_of, table, twin_scores
from tests.records import KEY, lasting_ledger
from tests.worlds import WORLDS, metered_pair, run_pair, run_star

DIGEST = bytes(range(32))
MODEL = BoostedTrees(trees=3, depth=3, min_child_rows=20, stop_after=0, local_trees=0, row_sample=0.8)
BUDGET = vectors_max(MODEL.trees, MODEL.depth)
ROWS = 300


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hint, "BATCH", 8)
    monkeypatch.setattr(hint, "FIRST_BATCH", 8)


def matrix(rows: int = ROWS, features: int = 3, bins: int = 5, seed: int = 1) -> BinMatrix:
    cells = np.random.default_rng(seed).integers(0, bins, (features, rows)).astype(np.uint8)
    return BinMatrix(cells, (bins,) * features)


def gradients(rows: int = ROWS, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.integers(-15, 16, rows), draw.integers(0, 16, rows)


async def label_side(
    channels: list[Channel],
    matrices: list[BinMatrix],
    ledger: Ledger | None = None,
    crypto: Crypto | None = None,
) -> HintLabelSide:
    return await HintLabelSide.begin(
        channels,
        matrices[0].rows,
        [m.counts for m in matrices],
        DIGEST,
        crypto or Crypto(),
        ledger or MemoryLedger(),
        vectors_expected(MODEL.trees, MODEL.depth),
        Progress(),
    )


async def feature_side(
    channel: Channel, own: BinMatrix, ledger: Ledger | None = None, budget: int = BUDGET
) -> HintFeatureSide:
    return await HintFeatureSide.begin(
        channel, own, DIGEST, Crypto(), budget, ledger or MemoryLedger(), Progress()
    )


@pytest.mark.parametrize("world", WORLDS)
def test_trees_equal_the_twin_bit_for_bit(world: str) -> None:
    tables = [table(200, 2, 1), table(200, 2, 2)]
    label, cut = label_of(tables, "binary"), [binned(t, 5) for t in tables]
    shape = cut[1].matrix.counts

    async def label_owner(channel: Channel) -> np.ndarray:
        engine = await label_side([channel], [cut[1].matrix])
        booster = LabelBooster([channel], engine, cut[0], [shape], label, 200, MODEL, Crypto(), Rng(SEED))
        half: LabelHalf = await booster.train(Progress())
        await engine.close()
        return await score_as_label_owner([channel], half, tables[0], "ids")

    async def feature_owner(channel: Channel) -> FeatureHalf:
        engine = await feature_side(channel, cut[1].matrix)
        half = await boost_as_feature_owner(channel, engine, cut[1], MODEL, "ids", Progress())
        await score_as_feature_owner(channel, half, tables[1])
        return half

    first, second = run_pair(world, label_owner, feature_owner)
    assert isinstance(second, FeatureHalf), second
    assert first.tobytes() == twin_scores(cut, label, 200, MODEL).tobytes()


@pytest.mark.parametrize("rows", [ROWS, 20_000])
def test_two_feature_owners_share_one_vector_and_have_keys_of_their_own(rows: int) -> None:
    matrices = [matrix(rows, seed=1), matrix(rows, features=2, bins=9, seed=4)]
    g, h = gradients(rows)
    slot_of_row = np.random.default_rng(9).integers(-1, 3, rows).astype(np.int32)

    async def label_owner(channels: list[Channel]) -> list[list[np.ndarray]]:
        engine = await label_side(channels, matrices)
        await engine.tree(g, h)
        found = [
            await engine.level(np.zeros(rows, dtype=np.int32), 1),
            await engine.level(slot_of_row // 2, 2),
        ]
        await engine.tree(g, h)
        found.append(await engine.level(slot_of_row, 3))
        await engine.close()
        return found

    def feature_owner(own: BinMatrix) -> Any:
        async def role(channel: Channel) -> None:
            engine = await feature_side(channel, own)
            for levels in (2, 1):
                await engine.tree()
                for _ in range(levels):
                    await engine.level()

        return role

    results = run_star(label_owner, [feature_owner(m) for m in matrices])
    asked = [(np.zeros(rows, dtype=np.int32), 1), (slot_of_row // 2, 2), (slot_of_row, 3)]
    for (slots, count), by_owner in zip(asked, results[0], strict=True):
        for own, sums in zip(matrices, by_owner, strict=True):
            assert (sums == histogram(own, slots, count, g, h)).all()


def test_a_node_whose_sums_are_too_wide_is_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no set carried more than 26 bits."""
    own = matrix(rows=2000)
    g, h = gradients(2000)
    counted: list[int] = []
    real = sets.choose
    monkeypatch.setattr(sets, "choose", lambda rows, shapes, needed: real(rows, shapes, 26))

    async def label_owner(channel: Channel) -> np.ndarray:
        engine = await label_side([channel], [own])
        await engine.tree(g, h)
        counted.append(len(engine._fit(np.zeros(2000, dtype=np.int32), 1, 26)[0]))
        sums = (await engine.level(np.zeros(2000, dtype=np.int32), 1))[0]
        await engine.close()
        return sums

    async def feature_owner(channel: Channel) -> None:
        await (await feature_side(channel, own)).level()

    first, second = run_pair("memory", label_owner, feature_owner)
    assert second is None
    assert counted[0] > 1
    assert (first == histogram(own, np.zeros(2000, dtype=np.int32), 1, g, h)).all()


def test_the_feature_owner_sees_as_many_bytes_whatever_the_gradients_and_nodes() -> None:
    own = matrix()

    def crossed(seed: int) -> Any:
        g, h = gradients(seed=seed)
        slots = (np.random.default_rng(seed).random(ROWS) < 0.1 * seed).astype(np.int32)

        async def label_owner(channel: Channel) -> None:
            engine = await label_side([channel], [own])
            await engine.tree(g, h)
            await engine.level(slots, 2)
            await engine.close()

        async def feature_owner(channel: Channel) -> None:
            await (await feature_side(channel, own)).level()

        _, meters = metered_pair(label_owner, feature_owner)
        return meters[1].received, meters[1].sent

    assert crossed(1) == crossed(8)


def test_answers_carry_no_more_bits_than_the_rows_can_need() -> None:
    """The precision cap, as the feature owner keeps it: at the root, and less below, where half the rows are the most."""
    own = matrix()
    answers: list[int] = []

    async def label_owner(channel: Channel) -> None:
        engine = await label_side([channel], [own])
        await engine.tree(*gradients())
        real = hint._unpacked

        def spy(sums: np.ndarray) -> np.ndarray:
            words = real(sums)
            answers.append(int(words.max()).bit_length())
            return words

        hint._unpacked = spy
        try:
            await engine.level(np.zeros(ROWS, dtype=np.int32), 1)
            await engine.level(np.full(ROWS, -1, dtype=np.int32), 1)
        finally:
            hint._unpacked = real
        await engine.close()

    async def feature_owner(channel: Channel) -> None:
        engine = await feature_side(channel, own)
        await engine.level()
        await engine.level()

    assert run_pair("memory", label_owner, feature_owner) == (None, None)
    root, below = sets.width(ROWS, 5, 4), sets.width(ROWS // 2, 5, 4)
    assert below == root - 2
    assert answers[0] <= root
    assert answers[1] <= below


def test_a_secret_is_taken_before_it_encrypts_and_never_comes_back() -> None:
    own = matrix()

    async def label_owner(channel: Channel) -> None:
        engine = await label_side([channel], [own])
        await engine.tree(*gradients())
        await engine.level(np.zeros(ROWS, dtype=np.int32), 1)
        kept = engine._pool[min(engine._pool)]
        kept.take()
        with pytest.raises(LocalError, match="secret_spent"):
            kept.take()
        with pytest.raises(LocalError, match="secret_spent"):
            await engine.level(np.zeros(ROWS, dtype=np.int32), 1)
        await engine.close()
        assert not engine._pool

    async def feature_owner(channel: Channel) -> None:
        engine = await feature_side(channel, own)
        await engine.level()
        with pytest.raises(LineError):
            await engine.level()

    assert run_pair("memory", label_owner, feature_owner) == (None, None)


def test_two_runs_of_one_job_share_no_public_polynomial() -> None:
    nonces = [
        hint_setup.seeds_of(DIGEST, bytes([n]) * 32, np.zeros((1, 32), dtype=np.uint8), 0) for n in (1, 2)
    ]
    assert len({*nonces[0], *nonces[1]}) == 4


class Recorder:
    """A ledger that says what was on record when."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.next = self.answered = 0

    def answer(self, total: int) -> None:
        self.events.append(f"answer {total}")

    def burn(self, stop: int) -> None:
        self.events.append(f"burn {stop}")
        self.next = stop


def test_indexes_are_on_record_before_any_hint_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    own, ledger = matrix(), Recorder()
    real = outer.LabelKeys.prepare

    def prepare(self: outer.LabelKeys, drawn: Any) -> Any:
        ledger.events.append(f"prepare {len(drawn)}")
        return real(self, drawn)

    monkeypatch.setattr(outer.LabelKeys, "prepare", prepare)

    async def label_owner(channel: Channel) -> None:
        engine = await label_side([channel], [own], ledger)
        await engine.tree(*gradients())
        await engine.level(np.zeros(ROWS, dtype=np.int32), 1)
        await engine.close()

    async def feature_owner(channel: Channel) -> None:
        await (await feature_side(channel, own)).level()

    assert run_pair("memory", label_owner, feature_owner) == (None, None)
    burns = [event for event in ledger.events if event.startswith("burn")]
    made = [int(event.split()[1]) for event in ledger.events if event.startswith("prepare")]
    assert burns == [f"burn {sum(made[:at])}" for at in range(len(made) + 1)]
    assert [event.split()[0] for event in ledger.events] == ["burn", *["burn", "prepare"] * len(made)]


def test_a_ledger_that_cannot_be_written_stops_before_anything_is_made(tmp_path: Path) -> None:
    own = matrix()
    checkpoints = Checkpoints(tmp_path / "record.db", KEY)
    ledger = Recorded(checkpoints)
    checkpoints._db.execute("PRAGMA query_only = ON")

    async def label_owner(channel: Channel) -> None:
        engine = await label_side([channel], [own], ledger)
        try:
            await engine.tree(*gradients())
            await engine.level(np.zeros(ROWS, dtype=np.int32), 1)
        finally:
            assert not engine._pool
            await engine.close()

    async def feature_owner(channel: Channel) -> None:
        await (await feature_side(channel, own)).level()

    first, second = run_pair("memory", label_owner, feature_owner)
    assert isinstance(first, LocalError)
    assert first.code == "disk_error"
    assert isinstance(second, PeerError)
    assert second.code == "partner_failed"


def test_a_party_that_begins_again_goes_on_above_every_index_that_either_has_seen(tmp_path: Path) -> None:
    """A crash between record and send: what was burned is gone, and no index comes twice."""
    own = matrix()
    seen: list[list[int]] = []

    def go(label_ledger: Ledger, feature_ledger: Ledger) -> None:
        async def label_owner(channel: Channel) -> None:
            engine = await label_side([channel], [own], label_ledger)
            await engine.tree(*gradients())
            await engine.level(np.zeros(ROWS, dtype=np.int32), 1)
            seen.append(sorted(engine._pool))
            await engine.close()

        async def feature_owner(channel: Channel) -> None:
            await (await feature_side(channel, own, feature_ledger)).level()

        assert run_pair("memory", label_owner, feature_owner) == (None, None)

    paths = tmp_path / "label", tmp_path / "feature"
    go(lasting_ledger(paths[0]), lasting_ledger(paths[1]))
    burned = lasting_ledger(paths[0]).next
    lasting_ledger(paths[0]).burn(burned + 100)  # and then the process is gone
    go(lasting_ledger(paths[0]), lasting_ledger(paths[1]))
    go(MemoryLedger(), lasting_ledger(paths[1]))  # the label owner was restored from before the job
    assert min(seen[1]) >= burned + 100
    assert min(seen[2]) >= max(seen[1])


def test_the_vectors_of_earlier_attempts_count(tmp_path: Path) -> None:
    own = matrix()

    def go(budget: int) -> Any:
        async def label_owner(channel: Channel) -> None:
            engine = await label_side([channel], [own])
            try:
                await engine.tree(*gradients())
                await engine.level(np.zeros(ROWS, dtype=np.int32), 1)
            finally:
                await engine.close()

        async def feature_owner(channel: Channel) -> None:
            ledger = lasting_ledger(tmp_path / "feature")
            await (await feature_side(channel, own, ledger, budget)).level()

        return run_pair("memory", label_owner, feature_owner)

    assert go(2) == go(2) == (None, None)
    _, refused = go(2)
    assert isinstance(refused, PolicyError)
    assert refused.code == "vectors"
    assert go(3) == (None, None)


async def _agree(channel: Channel, **changed: Any) -> Agreed:
    """The first messages of a label owner that may lie."""
    nonce = bytes(32)
    await channel.send(Commit(hint_setup.commitment(DIGEST, changed.pop("committed", nonce))))
    heard = await channel.recv(Nonce)
    others = np.frombuffer(heard.nonce, dtype=np.uint8).reshape(1, 32)
    fields: dict[str, Any] = {
        "nonce": nonce, "others": others, "place": 0, "set": 0, "payload": sets.width(ROWS, 5, 4), "cut": 0, "first": 0,
    }  # fmt: skip
    agreed = Agreed(**{**fields, **changed})
    await channel.send(agreed)
    return agreed


LIES: dict[str, dict[str, Any]] = {
    "a nonce other than the committed one": {"committed": bytes([1]) * 32},
    "the receiver's nonce left out": {"others": np.zeros((1, 32), dtype=np.uint8)},
    "a place that is not there": {"place": 3},
    "a set that is not on the list": {"set": len(sets.SETS)},
    "one bit over the precision cap": {"payload": sets.width(ROWS, 5, 4) + 1},
    "no bit": {"payload": 0},
    "words too short for the noise": {"cut": 4},
    "words of less than four bytes": {"cut": 5},
    "an index below the receiver's": {"first": 4},
    "a first number that leaves no room": {"first": 2**32 - 1},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_beginning_that_one_side_chose_alone_is_refused(lie: str) -> None:
    async def attacker(channel: Channel) -> None:
        await _agree(channel, **dict(LIES[lie]))
        await channel.recv(hint_setup.Columns)

    async def victim(channel: Channel) -> None:
        await feature_side(channel, matrix(), MemoryLedger(5 if "index" in lie else 0))

    _, result = run_pair("memory", attacker, victim)
    assert isinstance(result, PeerError), result
    assert result.code == ("secret_reused" if "index" in lie else "bad_message")


def test_a_label_owner_refuses_a_number_that_leaves_no_room_for_its_own() -> None:
    ledger = MemoryLedger(5)

    async def victim(channel: Channel) -> None:
        await hint_setup.set_up_as_label_owner(
            [channel], ROWS, [(5, 5, 5)], DIGEST, Crypto(), ledger, Progress()
        )

    async def attacker(channel: Channel) -> None:
        await channel.recv(Commit)
        await channel.send(Nonce(bytes(32), 2**32 - 1))
        await channel.recv(Agreed)

    result, _ = run_pair("memory", victim, attacker)
    assert isinstance(result, PeerError), result
    assert (result.code, ledger.next) == ("bad_message", 5)


@pytest.mark.parametrize(
    "shape", [(0, 0, 256, 14), (0, 0, 0, 15), (1, 0, 256, 15), (0, 256, 256, 15), (0, 0, N + 1, 15)]
)
def test_a_label_owner_refuses_columns_of_other_rows_or_bins(shape: tuple[int, ...]) -> None:
    """A feature owner that lies about R, or sends columns twice or in another order."""
    chunk, start, count, bins = shape

    async def liar(channel: Channel) -> None:
        await channel.recv(Commit)
        await channel.send(Nonce(bytes(32), 0))
        await channel.recv(Agreed)
        await channel.send(hint_setup.Columns(chunk, start, np.zeros((count, bins), dtype=np.uint64)))
        await channel.recv(Offline)

    async def victim(channel: Channel) -> None:
        await label_side([channel], [matrix()])

    result, _ = run_pair("memory", victim, liar)
    assert isinstance(result, PeerError), result
    assert result.code == "bad_message"


class Attacker:
    """A label owner with honest keys that sends what it likes."""

    def __init__(self, channel: Channel, keys: outer.LabelKeys, shared: bytes) -> None:
        self.channel, self.keys, self.shared = channel, keys, shared
        self.drawn: dict[int, outer.Drawn] = {}

    @classmethod
    async def begin(cls, channel: Channel, own: BinMatrix) -> Attacker:
        agreed = await _agree(channel)
        layout = sets.Layout(sets.SETS[0], agreed.payload, 0, own.rows, len(own.counts), own.total)
        shared, seed = hint_setup.seeds_of(DIGEST, agreed.nonce, agreed.others, 0)
        keys = outer.LabelKeys(seed, layout)
        await hint_setup.receive_columns(channel, keys, Progress(), 0)
        return cls(channel, keys, shared)

    async def batch(self, first: int, count: int, forge: Any = None) -> list[int]:
        """A batch of hints, opened where asked; the indexes that are left."""
        drawn = [outer.Drawn(os.urandom(32), 0) for _ in range(count)]
        self.drawn.update(enumerate(drawn, first))
        _, ones, others = self.keys.prepare(drawn)
        if forge:
            forge(ones, others)
        await self.channel.send(Offline(first, count, ones, others))
        asked = (await self.channel.recv(Check)).indexes.tolist()
        seeds = b"".join(drawn[index - first].seed for index in asked)
        await self.channel.send(Seeds(np.frombuffer(seeds, dtype=np.uint8).reshape(-1, 32)))
        return [index for index in range(first, first + count) if index not in asked]

    async def ask(self, *indexes: int, rows: int = ROWS) -> None:
        await self.channel.send(NO_BATCH)
        await self.channel.send(Vectors(np.array(indexes, dtype=np.uint32)))
        await self.channel.send(PieceOfWords(0, np.zeros((len(indexes), rows, 8), dtype=np.uint8)))
        await self.channel.recv(hint.Answer)


def attack(what: Any, budget: int = BUDGET) -> IsthmusError:
    """What the feature owner says to it."""
    own = matrix()

    async def attacker(channel: Channel) -> None:
        await what(await Attacker.begin(channel, own))

    async def victim(channel: Channel) -> None:
        engine = await feature_side(channel, own, budget=budget)
        while True:
            await engine.level()

    _, result = run_pair("memory", attacker, victim)
    assert isinstance(result, IsthmusError), result
    return result


async def _never_announced(a: Attacker) -> None:
    await a.ask(0)


async def _twice_in_one_level(a: Attacker) -> None:
    left = await a.batch(0, 4)
    await a.ask(left[0], left[0])


async def _twice_in_two_levels(a: Attacker) -> None:
    left = await a.batch(0, 4)
    await a.ask(left[1])
    await a.ask(left[1])


async def _descending(a: Attacker) -> None:
    left = await a.batch(0, 4)
    await a.ask(left[1], left[0])


async def _one_that_was_opened(a: Attacker) -> None:
    left = await a.batch(0, 4)
    await a.ask(next(index for index in range(4) if index not in left))


async def _an_old_batch(a: Attacker) -> None:
    await a.batch(0, 4)
    await a.batch(2, 4)


async def _a_batch_at_the_end(a: Attacker) -> None:
    await a.batch(2**32 - 8, 4)


async def _no_vector(a: Attacker) -> None:
    await a.ask()


async def _more_than_announced(a: Attacker) -> None:
    shape = (5, 1, N)
    await a.channel.send(Offline(0, 4, np.zeros(shape, dtype=np.uint64), np.zeros((5, 15), dtype=np.uint64)))


async def _a_gap_in_a_batch(a: Attacker) -> None:
    one, other = np.zeros((1, 1, N), dtype=np.uint64), np.zeros((1, 15), dtype=np.uint64)
    await a.channel.send(Offline(0, 4, one, other))
    await a.channel.send(Offline(2, 2, one, other))


async def _another_shape(a: Attacker) -> None:
    await a.channel.send(
        Offline(0, 1, np.zeros((1, 2, N), dtype=np.uint64), np.zeros((1, 15), dtype=np.uint64))
    )


async def _rows_too_few(a: Attacker) -> None:
    left = await a.batch(0, 4)
    await a.channel.send(NO_BATCH)
    await a.channel.send(Vectors(np.array(left[:1], dtype=np.uint32)))
    await a.channel.send(PieceOfWords(0, np.zeros((1, ROWS - 1, 8), dtype=np.uint8)))
    await a.channel.send(PieceOfWords(ROWS, np.zeros((1, 1, 8), dtype=np.uint8)))
    await a.channel.recv(hint.Answer)


async def _rows_too_many(a: Attacker) -> None:
    await a.ask((await a.batch(0, 4))[0], rows=ROWS + 1)


MISUSE: dict[str, tuple[Any, str]] = {
    "an index never announced": (_never_announced, "secret_reused"),
    "an index twice in one level": (_twice_in_one_level, "secret_reused"),
    "an index twice in two levels": (_twice_in_two_levels, "secret_reused"),
    "an index that was opened": (_one_that_was_opened, "secret_reused"),
    "indexes that go back": (_descending, "secret_reused"),
    "a batch over old indexes": (_an_old_batch, "secret_reused"),
    "a batch at the end of all numbers": (_a_batch_at_the_end, "bad_message"),
    "a level without a vector": (_no_vector, "secret_reused"),
    "more hints than announced": (_more_than_announced, "bad_message"),
    "a gap in a batch": (_a_gap_in_a_batch, "bad_message"),
    "a hint of another shape": (_another_shape, "bad_message"),
    "a row too few": (_rows_too_few, "bad_message"),
    "a row too many": (_rows_too_many, "bad_message"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_a_feature_owner_refuses_what_does_not_fit(case: str) -> None:
    what, code = MISUSE[case]
    assert attack(what).code == code


def test_one_vector_over_the_budget_is_refused() -> None:
    answered: list[int] = []

    async def greedy(a: Attacker) -> None:
        for index in await a.batch(0, 16):
            await a.ask(index)
            answered.append(index)

    refused = attack(greedy, budget=5)
    assert isinstance(refused, PolicyError)
    assert refused.code == "vectors"
    assert len(answered) == 5


def test_more_hints_than_the_budget_can_use_are_refused() -> None:
    async def hoarder(a: Attacker) -> None:
        for first in range(0, 1024, 8):
            await a.batch(first, 8)

    assert attack(hoarder, budget=10).code == "vectors"


def test_a_forged_hint_is_found_when_its_lot_falls() -> None:
    """Forged to make the feature owner decrypt under its own key: the second part is left out."""

    def forge(ones: np.ndarray, others: np.ndarray) -> None:
        others[:] = 0

    async def forger(a: Attacker) -> None:
        await a.ask((await a.batch(0, 16, forge))[0])

    assert attack(forger).code == "forged_hint"


def test_a_hint_that_is_off_by_more_than_its_noise_is_found() -> None:
    def forge(ones: np.ndarray, others: np.ndarray) -> None:
        others[:, 3] += np.uint64(2 * sets.Layout(sets.SETS[0], 20, 0, ROWS, 3, 15).tolerance)

    async def forger(a: Attacker) -> None:
        await a.ask((await a.batch(0, 16, forge))[0])

    assert attack(forger).code == "forged_hint"


def test_a_first_part_that_is_off_by_one_is_found() -> None:
    def forge(ones: np.ndarray, others: np.ndarray) -> None:
        ones[:, 0, 7] += np.uint64(1)

    async def forger(a: Attacker) -> None:
        await a.ask((await a.batch(0, 16, forge))[0])

    assert attack(forger).code == "forged_hint"


def test_a_sum_that_is_pushed_to_the_end_of_a_step_carries_by_chance() -> None:
    """Half a dither before the end: without the dither it would never carry, and one noise further on always."""
    own = matrix()
    carried: list[int] = []

    async def pusher(channel: Channel) -> None:
        a = await Attacker.begin(channel, own)
        layout, cell = a.keys.layout, int(own.bins[0, 0])
        left = (await a.batch(0, 64))[:40]
        public = vectors.PublicMatrix(a.shared, ROWS, layout.set)
        factors = transform(np.stack([a.drawn[index].secret() for index in left]))
        words = vectors.encrypt(public, 0, ROWS, factors, None, 0).view("<u8")[:, :, 0]
        masks = np.array([a.drawn[index].mask(layout)[cell] for index in left])
        low = masks & np.uint64((1 << layout.gap) - 1)
        words[:, 0] += np.uint64((1 << layout.gap) - layout.dither // 2) - low
        await channel.send(NO_BATCH)
        await channel.send(Vectors(np.array(left, dtype=np.uint32)))
        await channel.send(PieceOfWords(0, words[:, :, None].view(np.uint8)))
        sums = hint._unpacked((await channel.recv(hint.Answer)).sums)[:, cell]
        over = (sums - (masks >> np.uint64(layout.gap))) & np.uint64((1 << layout.payload) - 1)
        carried.extend(over.tolist())

    async def victim(channel: Channel) -> None:
        await (await feature_side(channel, own)).level()

    assert run_pair("memory", pusher, victim) == (None, None)
    assert set(carried) == {0, 1}  # all alike with a chance of 2^-39


def test_a_label_owner_opens_only_what_is_agreed() -> None:
    """A feature owner that asks for all seeds, or for one twice, gets none."""
    own = matrix()

    def asking(lot: list[int]) -> Any:
        async def curious(channel: Channel) -> None:
            await channel.recv(Commit)
            nonce = os.urandom(32)
            await channel.send(Nonce(nonce, 0))
            agreed = await channel.recv(Agreed)
            shared, seed = hint_setup.seeds_of(DIGEST, agreed.nonce, agreed.others, 0)
            public = vectors.PublicMatrix(shared, ROWS, sets.SETS[agreed.set])
            await hint_setup.send_columns(channel, own, public, outer.OuterKey(seed, own.total), Progress())
            batch = await channel.recv(Offline)
            assert batch.left == 8
            await channel.send(Check(np.array(lot, dtype=np.uint32)))
            await channel.recv(Seeds)

        return curious

    async def victim(channel: Channel) -> None:
        engine = await label_side([channel], [own])
        await engine.tree(*gradients())
        try:
            await engine.level(np.zeros(ROWS, dtype=np.int32), 1)
        finally:
            await engine.close()

    for lot in ([], [0, 1], list(range(8)), [8], [-1 & 0xFFFFFFFF]):
        result, other = run_pair("memory", victim, asking(lot))
        assert isinstance(result, PeerError), result
        assert result.code == "bad_message"
        assert isinstance(other, PeerError), other
    result, other = run_pair("memory", victim, asking([3]))
    assert other is None, other
