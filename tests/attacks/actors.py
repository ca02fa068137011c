"""Partners that do not follow the protocol, on a channel: one that only listens, one that sends vectors of its choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isthmus.base.progress import Progress
from isthmus.crypto.lattice import outer, sets, vectors
from isthmus.crypto.lattice.vectors import Payload
from isthmus.crypto.onetime import Ledger, MemoryLedger
from isthmus.learn.histogram import BinMatrix
from isthmus.learn.parameters import Crypto
from isthmus.protocols import hint, hint_setup
from isthmus.protocols.hint import HintFeatureSide, HintLabelSide
from isthmus.wire.channel import Channel
from tests.attacks.parties import draw, encrypted, layout_of

DIGEST = bytes(range(32))


async def begin_label(
    kind: type[HintLabelSide],
    channels: Sequence[Channel],
    matrices: Sequence[BinMatrix],
    ledger: Ledger | None = None,
    expected: int = 4,
) -> HintLabelSide:
    shapes = [matrix.counts for matrix in matrices]
    return await kind.begin(
        channels, matrices[0].rows, shapes, DIGEST, Crypto(), ledger or MemoryLedger(), expected, Progress()
    )


async def begin_feature(
    kind: type[HintFeatureSide],
    channel: Channel,
    matrix: BinMatrix,
    ledger: Ledger | None = None,
    budget: int = 1000,
) -> HintFeatureSide:
    return await kind.begin(channel, matrix, DIGEST, Crypto(), budget, ledger or MemoryLedger(), Progress())


class Listener:
    """A feature owner that keeps every word and hint it gets, takes whatever index comes, and answers with zeros."""

    def __init__(self, channel: Channel, matrix: BinMatrix) -> None:
        self.channel, self.matrix = channel, matrix
        self.words: list[tuple[int, np.ndarray]] = []
        """Index and words `(rows, ...)` of each vector."""
        self.sums: list[tuple[int, np.ndarray]] = []
        """Index and own sums less the opened hint `(R,)` of each vector: what would be answered, under its mask."""
        self._opened: dict[int, np.ndarray] = {}
        self.hints: list[tuple[int, bytes]] = []
        """Index and both parts of each hint."""

    @classmethod
    async def begin(cls, channel: Channel, matrix: BinMatrix, ledger: Ledger | None = None) -> Listener:
        listener = cls(channel, matrix)
        await listener.agree(ledger)
        return listener

    async def agree(self, ledger: Ledger | None = None) -> None:
        """The set-up, as an honest feature owner does it."""
        self._key = (await begin_feature(HintFeatureSide, self.channel, self.matrix, ledger))._key

    async def level(self) -> None:
        while (offline := await self.channel.recv(hint.Offline)).left:
            first, count = offline.index, offline.left
            while True:
                for at, (one, other) in enumerate(zip(offline.first, offline.second, strict=True)):
                    self.hints.append((offline.index + at, one.tobytes() + other.tobytes()))
                    self._opened[offline.index + at] = self._key.open(one, other)
                if len(offline.first) == offline.left:
                    break
                offline = await self.channel.recv(hint.Offline)
            asked = np.arange(first, first + hint._checks(count), dtype=np.uint32)
            await self.channel.send(hint.Check(asked))
            await self.channel.recv(hint.Seeds)
        indexes = (await self.channel.recv(hint.Vectors)).indexes.tolist()
        pieces: list[np.ndarray] = []
        while sum(piece.shape[1] for piece in pieces) < self.matrix.rows:
            pieces.append((await self.channel.recv(hint.PieceOfWords)).words)
        words = np.concatenate(pieces, axis=1)
        self.words += zip(indexes, words, strict=True)
        sums = np.zeros((len(indexes), self.matrix.total), dtype=np.uint64)
        vectors.add_into_bins(sums, self.matrix.bins, self.matrix.counts, 0, words)
        self.sums += [(index, own - self._opened[index]) for index, own in zip(indexes, sums, strict=True)]
        width = layout_of(self.matrix.rows, len(self.matrix.counts), self.matrix.total).payload
        nothing = np.zeros((len(indexes), self.matrix.total, hint._bytes(width)), dtype=np.uint8)
        await self.channel.send(hint.Answer(0, nothing))


class Chooser:
    """A label owner with honest hints whose vectors carry what it likes."""

    def __init__(self, channel: Channel, keys: outer.LabelKeys, public: vectors.PublicMatrix) -> None:
        self.channel, self.keys, self.public = channel, keys, public
        self._next = 0
        self._ready: dict[int, outer.Drawn] = {}

    @classmethod
    async def begin(cls, channel: Channel, matrix: BinMatrix) -> Chooser:
        layout = layout_of(matrix.rows, len(matrix.counts), matrix.total)
        nonce = bytes(32)
        await channel.send(hint_setup.Commit(hint_setup.commitment(DIGEST, nonce)))
        heard = await channel.recv(hint_setup.Nonce)
        others = np.frombuffer(heard.nonce, dtype=np.uint8).reshape(1, 32)
        await channel.send(
            hint_setup.Agreed(nonce, others, 0, sets.SETS.index(layout.set), layout.payload, layout.cut, 0)
        )
        shared, own = hint_setup.seeds_of(DIGEST, nonce, others, 0)
        keys = outer.LabelKeys(own, layout)
        await hint_setup.receive_columns(channel, keys, Progress(), 0)
        return cls(channel, keys, vectors.PublicMatrix(shared, matrix.rows, layout.set))

    async def prepare(self, count: int) -> None:
        """A batch of honest hints, opened where asked."""
        first, drawn = self._next, draw(count)
        self._next += count
        _, ones, others = self.keys.prepare(drawn)
        await self.channel.send(hint.Offline(first, count, ones, others))
        asked = (await self.channel.recv(hint.Check)).indexes.tolist()
        seeds = b"".join(drawn[index - first].seed for index in asked)
        await self.channel.send(hint.Seeds(np.frombuffer(seeds, dtype=np.uint8).reshape(-1, 32)))
        self._ready |= {first + at: one for at, one in enumerate(drawn) if first + at not in asked}

    async def ask(
        self, weights: np.ndarray, vector_of_row: np.ndarray, below_root: bool = False
    ) -> np.ndarray:
        """Sums of the weights of the rows of each vector in every bin, `(vectors, R)`, as far as an answer shows them."""
        layout, count = self.keys.layout, int(vector_of_row.max()) + 1
        width = hint._widths(layout, Crypto())[below_root]
        while len(self._ready) < count:
            await self.prepare(16)
        indexes = sorted(self._ready)[:count]
        drawn = [self._ready.pop(index) for index in indexes]
        await self.channel.send(hint.NO_BATCH)
        await self.channel.send(hint.Vectors(np.array(indexes, dtype=np.uint32)))
        payload = Payload(
            weights, np.zeros_like(weights), vector_of_row, np.ones(count, dtype=np.int64), width
        )
        for start, stop in self.public.pieces(hint.PIECE_BYTES // (8 * count)):
            words = encrypted(self.public, layout, drawn, payload, start, stop)
            await self.channel.send(hint.PieceOfWords(start, words))
        parts: list[np.ndarray] = []
        while sum(part.shape[1] for part in parts) < layout.bins:
            parts.append(hint._unpacked((await self.channel.recv(hint.Answer)).sums))
        masks = np.stack([one.mask(layout) for one in drawn]) >> np.uint64(64 - width)
        sums: np.ndarray = np.concatenate(parts, axis=1) - masks
        return sums & np.uint64((1 << width) - 1)
