"""Vertical boosted trees: one model over the columns of all parties, each of which keeps its own half.

    label owner (labels, gradients)                            feature owner (bins)
      1  Next     tree                     ------------->
         g and h of the tree               the engine (protocols/histogram.py)
      2  Next     level                    ------------->                                  repeated for each level
         sums per tree node and bin        the engine
      3  Won      feature, bin, rows       ------------->      (the splits that this owner won at the level)
      4                                    <-------------      Sides    one bit a row: left or right
      5  Next     end                      ------------->
      6  Kept     numbers of its splits    ------------->

The label owner picks every split. It names a partner's split by opaque feature and bin; the partner alone knows column and
threshold, keeps them under a running number, and answers with the side of each row. The smaller of two siblings is asked
for, the other is parent minus child. A child under the row floor makes its parent a leaf.

Leaks: as the engine says, and: the label owner learns the side that rows take at a partner's split, of the rows in
that tree node (`split_reveal: ids`) or of all rows (`column`). The feature owner learns which of its bins split, and with
`ids` which rows are in the tree nodes that it won; with `column` not even that. No counts, gains or leaf values are sent.
Adversary: semi-honest; each feature's bins must add up to the tree node's own total, or the job stops.
Source: Chen and Guestrin 2016 (XGBoost); Cheng et al. 2021 (SecureBoost).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import PeerError
from isthmus.base.progress import Progress
from isthmus.base.randomness import Rng
from isthmus.base.record import BINNED, WEIGHED, Forgetful, Record
from isthmus.base.workers import in_thread, together
from isthmus.learn.histogram import BinMatrix, Sums, histogram
from isthmus.learn.parameters import BoostedTrees, Crypto
from isthmus.learn.quantise import Quantised, quantise
from isthmus.learn.tree import (
    FeatureHalf,
    Inner,
    LabelHalf,
    OwnSplit,
    Split,
    Tree,
    base_score,
    best_splits,
    goes_left,
    gradients,
    leaf_values,
    loss,
)
from isthmus.protocols.binning import Binned
from isthmus.protocols.histogram import FeatureSide, LabelSide
from isthmus.wire.channel import Channel
from isthmus.wire.message import Array, Message, Number, RowSets

END, TREE, LEVEL = 0, 1, 2
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Next(Message):
    KIND: ClassVar[int] = 0x0401
    what: Annotated[int, Number("B")]


@dataclass(frozen=True)
class Won(Message):
    """The splits that the receiver won, and the rows of each of these tree nodes; none where all rows are answered for."""

    KIND: ClassVar[int] = 0x0402
    features: Annotated[NDArray[np.uint16], Array("u2", None)]
    last_left: Annotated[NDArray[np.uint8], Array("u1", None)]
    missing_left: Annotated[NDArray[np.uint8], Array("u1", None)]
    rows: Annotated[list[Rows], RowSets()]


@dataclass(frozen=True)
class Sides(Message):
    KIND: ClassVar[int] = 0x0403
    bits: Annotated[NDArray[np.uint8], Array("u1", None)]


@dataclass(frozen=True)
class Kept(Message):
    KIND: ClassVar[int] = 0x0404
    splits: Annotated[NDArray[np.uint32], Array("u4", None)]


@dataclass(slots=True)
class TrainingLog:
    """What the label owner can tell about a training: loss after each tree, splits and gain by owner (0 its own)."""

    train_loss: list[float] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)
    best_trees: int = 0
    splits_of_owner: dict[int, int] = field(default_factory=dict)
    gain_of_owner: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class LabelBooster:
    """The label owner's role. `label` covers training rows, then validation rows, as `binned.matrix` does.

    Without channels and engine it trains on the columns in `binned` alone: the baseline, or the twin, whose last
    `joined_columns` columns stand for those of the partners and stay out of the local trees.
    """

    channels: Sequence[Channel]
    engine: LabelSide | None
    binned: Binned
    shapes: list[tuple[int, ...]]
    label: Floats
    train_rows: int
    parameters: BoostedTrees
    crypto: Crypto
    rng: Rng
    joined_columns: int = 0
    log: TrainingLog = field(default_factory=TrainingLog)
    _asked: list[int] = field(init=False)
    _won: list[tuple[int, float]] = field(init=False, default_factory=list)
    _own: BinMatrix = field(init=False)

    def __post_init__(self) -> None:
        self._asked = [0] * len(self.channels)
        self._own = BinMatrix(self.binned.matrix.bins[:, : self.train_rows], self.binned.matrix.counts)

    async def train(self, progress: Progress, record: Record | None = None) -> LabelHalf:
        """All trees, from the first that is not on record."""
        p, n = self.parameters, self.train_rows
        base = base_score(p.objective, self.label[:n])
        half = LabelHalf(p.objective, base, self.binned.columns, [c.partner for c in self.channels])
        raw = np.full(len(self.label), base)
        progress.start("train", p.trees)
        record = record or Forgetful()
        over = [self._again(half, body, raw) for body in record.found("tree")][-1:] == [True]
        for number in range(p.trees if over else len(half.trees), p.trees):
            rng = self.rng.under(f"tree/{number}")
            g, h, inside, q = await in_thread(self._gradients, raw[:n], rng)
            alone = not self.channels or number < p.local_trees
            if not alone:
                await self._tell(TREE)  # 1
                await self._engine().tree(q.g, q.h)
            open_features = self._open_features(rng, number < p.local_trees)
            splits = len(half.splits)
            tree, rows_of = await self._grow(half, q, inside, open_features, alone)
            half.trees.append(tree)
            leaf_of_row, over = await in_thread(self._finish, tree, rows_of, g, h, raw)
            body = await in_thread(self._tree_body, tree, half.splits[splits:], leaf_of_row)
            # A local tree is nobody else's business: it stands as soon as the bins do.
            barrier = BINNED if number < p.local_trees else WEIGHED + number + 1
            await in_thread(record.keep, barrier, tree=body)
            if over:
                break
            progress.at(number + 1, f"loss {self.log.train_loss[-1]:.4f}")
        del half.trees[self.log.best_trees :]
        if self.channels:
            await self._tell(END)  # 5
        await self._keep(half)
        return half

    def _gradients(self, raw: Floats, rng: Rng) -> tuple[Floats, Floats, Bools | None, Quantised]:
        """g and h of the training rows, exact and as integers, 0 for a row outside the sample; the sample, None for all."""
        p = self.parameters
        g, h = gradients(p.objective, self.label[: self.train_rows], raw)
        inside = None
        if p.row_sample < 1.0:
            inside = rng.uniform("rows", self.train_rows) < p.row_sample
            g[~inside], h[~inside] = 0.0, 0.0
        return g, h, inside, quantise(g, h, self.crypto.gradient_bits, self.crypto.hessian_bits, rng)

    def _again(self, half: LabelHalf, body: bytes, raw: Floats) -> bool:
        """Take up a tree that is on record; says whether training was over with it."""
        size = int.from_bytes(body[:4], "little")
        known = json.loads(body[4 : 4 + size])
        leaf_of_row = np.frombuffer(body, dtype=np.uint8, offset=4 + size)
        tree = Tree({i: Inner(owner, split) for i, owner, split in known["inner"]}, dict(known["leaf"]))
        half.trees.append(tree)
        half.splits += [OwnSplit(*split) for split in known["splits"]]
        self._asked = known["asked"]
        for owner, gain in known["won"]:
            self._note_split(owner, gain)
        raw += np.array(list(tree.leaf.values()))[leaf_of_row]
        return self._note_and_stop(raw)

    def _tree_body(self, tree: Tree, splits: list[OwnSplit], leaf_of_row: Rows) -> bytes:
        """A complete tree for the record: its shape, what it did to the counts, and the leaf of each row in one byte."""
        known = {
            "inner": [[i, n.owner, n.split] for i, n in tree.inner.items()],
            "leaf": list(tree.leaf.items()),
            "splits": [[s.column, s.last_left, s.missing_left] for s in splits],
            "asked": self._asked,
            "won": self._won,
        }
        text = json.dumps(known).encode()
        return len(text).to_bytes(4, "little") + text + leaf_of_row.astype(np.uint8).tobytes()

    def _note_split(self, owner: int, gain: float) -> None:
        log = self.log
        log.splits_of_owner[owner] = log.splits_of_owner.get(owner, 0) + 1
        log.gain_of_owner[owner] = log.gain_of_owner.get(owner, 0.0) + gain

    def _finish(
        self, tree: Tree, rows_of: dict[int, Rows], g: Floats, h: Floats, raw: Floats
    ) -> tuple[Rows, bool]:
        """Value the leaves, add them to the raw scores, note the loss: the leaf of each row, and whether training is over."""
        leaves = sorted(rows_of)
        leaf_of_row = np.empty(len(raw), dtype=np.int64)
        for at, leaf in enumerate(leaves):
            leaf_of_row[rows_of[leaf]] = at
        values = leaf_values(leaf_of_row[: len(g)], len(leaves), g, h, self.parameters)
        tree.leaf = dict(zip(leaves, values.tolist(), strict=True))
        raw += values[leaf_of_row]
        return leaf_of_row, self._note_and_stop(raw)

    async def _grow(
        self, half: LabelHalf, q: Quantised, inside: Bools | None, open_features: list[Bools], alone: bool
    ) -> tuple[Tree, dict[int, Rows]]:
        """One tree; returns it without leaf values, and the rows of every leaf, in order."""
        p = self.parameters
        tree, self._won = Tree(), []
        rows_of = {0: np.arange(len(self.label))}
        sizes = {0: self._counted(rows_of[0], inside)}
        open_nodes: list[int] = [0]
        sums: dict[int, list[Sums]] = {}
        counts = [self.binned.matrix.counts, *([] if alone else self.shapes)]
        for _ in range(p.depth):
            open_nodes = [i for i in open_nodes if sizes[i] >= 2 * p.min_child_rows]
            if not open_nodes:
                break
            sums = await self._sums(open_nodes, sums, sizes, rows_of, inside, q, alone)
            found = await in_thread(best_splits, [sums[i] for i in open_nodes], counts, open_features, q, p)
            won = {i: split for i, split in zip(open_nodes, found, strict=True) if split is not None}
            sides = await self._apply(won, rows_of, alone)
            open_nodes = []
            for i, (split, number, left) in sides.items():
                children = {2 * i + 1: rows_of[i].compress(left), 2 * i + 2: rows_of[i].compress(~left)}
                counted = {child: self._counted(rows, inside) for child, rows in children.items()}
                if min(counted.values()) < p.min_child_rows:
                    continue
                if split.owner == 0:
                    number = len(half.splits)
                    half.splits.append(OwnSplit(split.feature, split.last_left, split.missing_left))
                tree.inner[i] = Inner(split.owner, number)
                del rows_of[i]
                rows_of |= children
                sizes |= counted
                open_nodes += children
                self._won.append((split.owner, split.gain))
                self._note_split(split.owner, split.gain)
        return tree, rows_of

    def _counted(self, rows: Rows, inside: Bools | None) -> int:
        """How many of these rows, which are in order, are in the tree's sample of the training rows."""
        training = rows[: np.searchsorted(rows, self.train_rows)]
        return len(training) if inside is None else int(np.count_nonzero(inside[training]))

    async def _sums(
        self,
        nodes: list[int],
        above: dict[int, list[Sums]],
        sizes: dict[int, int],
        rows_of: dict[int, Rows],
        inside: Bools | None,
        q: Quantised,
        alone: bool,
    ) -> dict[int, list[Sums]]:
        """Sums of each open tree node by owner: the smaller sibling from the engine, the larger by subtraction."""
        asked = sorted({i if i == 0 else _smaller(i, sizes) for i in nodes})
        slot_of_row = np.full(len(self.label), -1, dtype=np.int32)
        for slot, i in enumerate(asked):
            slot_of_row[rows_of[i]] = slot
        slot_of_row = slot_of_row[: self.train_rows]
        if inside is not None:
            slot_of_row[~inside] = -1
        own_work = in_thread(histogram, self._own, slot_of_row, len(asked), q.g, q.h)
        if alone:
            owners = [await own_work]
        else:
            await self._tell(LEVEL)  # 2
            theirs, own = await together(self._engine().level(slot_of_row, len(asked)), own_work)
            owners = [own, *theirs]
            self._check(owners)
        sums = {i: [owner[at] for owner in owners] for at, i in enumerate(asked)}
        for i in nodes:
            if i not in sums:
                sums[i] = [
                    whole - part for whole, part in zip(above[(i - 1) // 2], sums[_sibling(i)], strict=True)
                ]
        return sums

    def _check(self, owners: list[Sums]) -> None:
        """Each feature's bins add up to the same total, that of the label owner's own first feature."""
        total = owners[0][:, : self.binned.matrix.counts[0]].sum(axis=1)
        for sums, counts, channel in zip(owners[1:], self.shapes, self.channels, strict=True):
            starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
            if not (np.add.reduceat(sums, starts, axis=1) == total[:, None, :]).all():
                raise PeerError("answer_inconsistent", partner=channel.partner)

    async def _apply(
        self, won: dict[int, Split], rows_of: dict[int, Rows], alone: bool
    ) -> dict[int, tuple[Split, int, Bools]]:
        """For each tree node that splits: the split, its number at its owner, and the sides of the tree node's rows."""
        sides: dict[int, tuple[Split, int, Bools]] = {}
        for i, split in won.items():
            if split.owner == 0:
                bins = self.binned.matrix.bins[split.feature][rows_of[i]]
                sides[i] = (split, -1, goes_left(bins, split.last_left, split.missing_left))
        for owner, channel in enumerate([] if alone else self.channels, start=1):
            mine = [i for i, split in won.items() if split.owner == owner]
            column = self.crypto.split_reveal == "column"
            told = [np.zeros(0, dtype=np.int64) if column else rows_of[i] for i in mine]
            splits = [won[i] for i in mine]
            await channel.send(  # 3
                Won(
                    np.array([s.feature for s in splits], dtype=np.uint16),
                    np.array([s.last_left for s in splits], dtype=np.uint8),
                    np.array([s.missing_left for s in splits], dtype=np.uint8),
                    told,
                )
            )
            if not mine:
                continue
            sizes = [len(self.label) if column else len(rows) for rows in told]
            bits = (await channel.recv(Sides)).bits  # 4
            if len(bits) != (sum(sizes) + 7) // 8:
                raise PeerError("bad_message", why="more or fewer sides came than rows were asked for")
            parts = np.split(np.unpackbits(bits, count=sum(sizes)).view(np.bool_), np.cumsum(sizes)[:-1])
            for i, split, part in zip(mine, splits, parts, strict=True):
                sides[i] = (split, self._asked[owner - 1], part[rows_of[i]] if column else part)
                self._asked[owner - 1] += 1
        return {i: sides[i] for i in won}

    def _open_features(self, rng: Rng, local: bool) -> list[Bools]:
        """Which features of each owner take part in this tree: at least one."""
        own = len(self.binned.matrix.counts)
        widths = [own, *([] if local else [len(s) for s in self.shapes])]
        total = sum(widths) - (self.joined_columns if local else 0)
        chosen = np.zeros(sum(widths), dtype=bool)
        chosen[rng.permutation("columns", total)[: max(1, round(self.parameters.column_sample * total))]] = (
            True
        )
        return list(np.split(chosen, np.cumsum(widths)[:-1]))

    def _note_and_stop(self, raw: Floats) -> bool:
        p, n, log = self.parameters, self.train_rows, self.log
        log.train_loss.append(loss(p.objective, self.label[:n], raw[:n]))
        if len(self.label) == n or not p.stop_after:
            log.best_trees = len(log.train_loss)
            return False
        log.valid_loss.append(loss(p.objective, self.label[n:], raw[n:]))
        log.best_trees = int(np.argmin(log.valid_loss)) + 1
        return len(log.valid_loss) - log.best_trees >= p.stop_after

    async def _keep(self, half: LabelHalf) -> None:
        """Tell each feature owner which of its splits the model uses, and number them anew."""
        for owner, channel in enumerate(self.channels, start=1):
            kept = sorted({n.split for t in half.trees for n in t.inner.values() if n.owner == owner})
            anew = {old: new for new, old in enumerate(kept)}
            for tree in half.trees:
                for i, node in tree.inner.items():
                    if node.owner == owner:
                        tree.inner[i] = Inner(owner, anew[node.split])
            await channel.send(Kept(np.array(kept, dtype=np.uint32)))  # 6

    async def _tell(self, what: int) -> None:
        for channel in self.channels:
            await channel.send(Next(what))

    def _engine(self) -> LabelSide:
        if self.engine is None:
            raise ValueError("a joint tree needs an engine")
        return self.engine


async def boost_as_feature_owner(
    channel: Channel,
    engine: FeatureSide,
    binned: Binned,
    parameters: BoostedTrees,
    split_reveal: Literal["ids", "column"],
    progress: Progress,
    record: Record | None = None,
) -> FeatureHalf:
    """Answer for the own columns until the label owner ends the training; returns the own half.

    That a tree is complete shows only in the next message, so it is put on record then.
    """
    half = FeatureHalf(binned.columns)
    record = record or Forgetful()
    for body in record.found("splits"):
        half.splits += [OwnSplit(*split) for split in json.loads(body)]
    # The local trees are none of this owner's work: it stands behind them from the beginning.
    trees, levels, done = max(record.barrier - WEIGHED, parameters.local_trees), 0, len(half.splits)
    first = trees
    progress.start("train", parameters.trees)
    while True:
        what = (await channel.recv(Next)).what  # 1, 2, 5
        if what != LEVEL and trees > first:
            splits = [[s.column, s.last_left, s.missing_left] for s in half.splits[done:]]
            await in_thread(record.keep, WEIGHED + trees, splits=json.dumps(splits).encode())
            done = len(half.splits)
        if what == END:
            break
        if what == TREE and trees < parameters.trees:
            trees, levels = trees + 1, 0
            await engine.tree()
            progress.at(trees)
        elif what == LEVEL and trees > first and levels < parameters.depth:
            levels += 1
            await engine.level()
            won = await channel.recv(Won)  # 3
            asked = _asked_splits(won, binned, split_reveal)
            half.splits += [split for split, _ in asked]
            if asked:
                bins = binned.matrix.bins
                left = [goes_left(bins[s.column][rows], s.last_left, s.missing_left) for s, rows in asked]
                await channel.send(Sides(np.packbits(np.concatenate(left))))  # 4
        else:
            raise PeerError("bad_message", why="more trees or levels than the job file allows")
    kept = (await channel.recv(Kept)).splits  # 6
    if len(kept) and (kept.max() >= len(half.splits) or (np.diff(kept.astype(np.int64)) <= 0).any()):
        raise PeerError("bad_message", why="a split is kept that was never made")
    half.splits = [half.splits[i] for i in kept]
    return half


def _asked_splits(won: Won, binned: Binned, split_reveal: str) -> list[tuple[OwnSplit, Rows | slice]]:
    """The splits that the label owner names and the rows it asks about, checked."""
    matrix, count = binned.matrix, len(won.features)
    if not len(won.last_left) == len(won.missing_left) == len(won.rows) == count:
        raise PeerError("bad_message", why="the fields of the splits differ in length")
    column = split_reveal == "column"
    if any(len(rows) and (column or rows[-1] >= matrix.rows) for rows in won.rows):
        raise PeerError("bad_message", why="a split names rows that it may not")
    asked: list[tuple[OwnSplit, Rows | slice]] = []
    for feature, last_left, missing_left, rows in zip(
        won.features, won.last_left, won.missing_left, won.rows, strict=True
    ):
        if feature >= len(matrix.counts) or not 0 < last_left < matrix.counts[feature] or missing_left > 1:
            raise PeerError("bad_message", why="a split names a feature or bin that does not exist")
        split = OwnSplit(int(feature), int(last_left), bool(missing_left))
        asked.append((split, slice(None) if column else rows))
    return asked


def _sibling(node: int) -> int:
    return node + 1 if node % 2 else node - 1


def _smaller(node: int, sizes: dict[int, int]) -> int:
    return min(node, _sibling(node), key=lambda i: (sizes[i], i))
