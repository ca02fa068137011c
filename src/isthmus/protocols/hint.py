"""Lattice hint histograms: the engine whose online work for the feature owner is adding 64-bit words.

    label owner (g, h, secrets s_t)                            feature owner (bins, key sigma)
      1  Commit    hash of a nonce           ------------->                                   once, per binning
      2                                      <-------------    Nonce
      3  Opened    all nonces                ------------->    seed of every public polynomial
      4                                      <-------------    Columns   Enc_sigma(H), and p0
      5  Offline   hint of H s_t, masked     ------------->    V_t = H s_t - u_t              per vector, ahead
      6  Vectors   indexes                   ------------->                                   per level
      7  Vector    a s_t + e + Delta m       ------------->    adds words into bins
      8                                      <-------------    Answer    top bits of (sums - V_t)

One vector carries g and h of the rows of one tree node, and zero for every other row. Every secret is drawn fresh, lives
in the memory of this process alone, and is taken out of the pool before it encrypts; a new binning means new nonces,
a new H and a new sigma. A node whose sums would not fit a payload is sent as several vectors.

Leaks: the label owner learns the exact sums of the quantised (g, h) per tree node and bin. The feature owner learns how many
vectors there are, and neither g, h, nor which rows are in a tree node. Adversary: semi-honest; a label owner that
chooses its vectors can read bins of a few rows per payload bit (docs/explanation/security.md).
Source: Henzinger et al. 2023 (SimplePIR, a fixed matrix and a hint); Lyubashevsky, Peikert, Regev 2010 (ring LWE). Outside
cryptographers have not reviewed this construction.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import ConfigError, PeerError
from isthmus.base.progress import Progress
from isthmus.base.workers import in_thread, together
from isthmus.crypto.lattice import hint
from isthmus.crypto.lattice.ntt import N
from isthmus.crypto.lattice.sampling import Stream, Words
from isthmus.crypto.onetime import OneTime
from isthmus.learn.histogram import BinMatrix, Sums
from isthmus.learn.parameters import BoostedTrees
from isthmus.wire.channel import Channel
from isthmus.wire.message import Array, Message, Number, Raw

COLUMNS_AT_ONCE = 512
BATCH = 64
HINTS_AT_ONCE = 32
ROWS_OF_A1 = 16_000
ROWS_MAX = 4_000_000
Integers = NDArray[np.int64]
Slots = NDArray[np.int32]


@dataclass(frozen=True)
class Commit(Message):
    KIND: ClassVar[int] = 0x0701
    digest: Annotated[bytes, Raw(32)]


@dataclass(frozen=True)
class Nonce(Message):
    KIND: ClassVar[int] = 0x0702
    nonce: Annotated[bytes, Raw(32)]


@dataclass(frozen=True)
class Opened(Message):
    """The label owner's nonce, those of all feature owners, and the place of the receiver among them."""

    KIND: ClassVar[int] = 0x0703
    nonce: Annotated[bytes, Raw(32)]
    others: Annotated[NDArray[np.uint8], Array("u1", None, 32)]
    place: Annotated[int, Number("B")]


@dataclass(frozen=True)
class Columns(Message):
    KIND: ClassVar[int] = 0x0704
    start: Annotated[int, Number("H")]
    words: Annotated[Words, Array("u8", None, None)]


@dataclass(frozen=True)
class Offline(Message):
    """Hints of the vectors from `index` on."""

    KIND: ClassVar[int] = 0x0705
    index: Annotated[int, Number("I")]
    first: Annotated[Words, Array("u8", None, None, N)]
    second: Annotated[Words, Array("u8", None, None)]


@dataclass(frozen=True)
class Vectors(Message):
    """How many hints come first, in one message or more, and the index of each vector of this level."""

    KIND: ClassVar[int] = 0x0706
    offline: Annotated[int, Number("H")]
    indexes: Annotated[NDArray[np.uint32], Array("u4", None)]


@dataclass(frozen=True)
class Vector(Message):
    KIND: ClassVar[int] = 0x0707
    words: Annotated[Words, Array("u8", None)]


@dataclass(frozen=True)
class Answer(Message):
    KIND: ClassVar[int] = 0x0708
    sums: Annotated[Words, Array("u8", None, None)]


@dataclass(frozen=True, slots=True)
class _Ready:
    """One secret with its mask for each feature owner."""

    secret: Integers
    masks: list[Words]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A batch of new secrets: the first index, how many, and their hints for each feature owner."""

    index: int
    count: int
    messages: list[tuple[Words, Words]]


class HintLabelSide:
    """Draws secrets in batches, sends their masked hints, encrypts, reads the sums."""

    hides_nodes = True

    def __init__(
        self,
        channels: Sequence[Channel],
        public: hint.PublicMatrix,
        keys: list[hint.LabelKeys],
        chosen: hint.Set,
    ) -> None:
        self._channels, self._public, self._keys, self._set = channels, public, keys, chosen
        self._pool: dict[int, OneTime[_Ready]] = {}
        self._made = 0
        self._g = self._h = np.zeros(0, dtype=np.int64)

    @classmethod
    async def begin(
        cls, channels: Sequence[Channel], rows: int, totals: list[int], digest: bytes, progress: Progress
    ) -> HintLabelSide:
        """Agree on seeds and receive every feature owner's columns. `totals` is R of each feature owner."""
        nonce = secrets.token_bytes(32)
        progress.start("hint", len(channels) * N)
        for channel in channels:  # 1
            await channel.send(Commit(_commitment(digest, nonce)))
        others = [(await channel.recv(Nonce)).nonce for channel in channels]  # 2
        joined = np.frombuffer(b"".join(others), dtype=np.uint8).reshape(-1, 32)
        chosen = set_of(rows)
        seeds = [_seeds(digest, nonce, joined, place) for place in range(len(channels))]
        for place, channel in enumerate(channels):  # 3
            await channel.send(Opened(nonce, joined, place))
        public = await in_thread(hint.PublicMatrix, seeds[0][0], rows, chosen)
        keys = []
        for place, (channel, total) in enumerate(zip(channels, totals, strict=True)):  # 4
            chunks = -(-total // N)
            columns = np.empty((N, total), dtype=np.uint64)
            for start in range(0, N, COLUMNS_AT_ONCE):
                part = await channel.recv(Columns)
                if part.start != start or part.words.shape != (COLUMNS_AT_ONCE, total):
                    raise PeerError("bad_message", why="key columns have another shape than agreed")
                columns[start : start + COLUMNS_AT_ONCE] = part.words
                progress.at(place * N + start + COLUMNS_AT_ONCE)
            p0 = (await channel.recv(Columns)).words
            if p0.shape != (chunks, N):
                raise PeerError("bad_message", why="key columns have another shape than agreed")
            keys.append(hint.LabelKeys(seeds[place][1], columns, p0, chosen, rows))
        return cls(channels, public, keys, chosen)

    async def tree(self, g: Integers, h: Integers) -> None:
        self._g, self._h = g, h

    async def close(self) -> None:
        self._pool.clear()

    async def level(self, slot_of_row: Slots, slots: int) -> list[Sums]:
        parts = [
            (slot, part) for slot in range(slots) for part in self._fit(np.flatnonzero(slot_of_row == slot))
        ]
        fresh = await in_thread(self._draw, len(parts))
        indexes = sorted(self._pool)[: len(parts)]
        for place, channel in enumerate(self._channels):  # 5, 6
            await channel.send(Vectors(fresh.count, np.array(indexes, dtype=np.uint32)))
            for start in range(0, fresh.count, HINTS_AT_ONCE):
                first, second = (part[start : start + HINTS_AT_ONCE] for part in fresh.messages[place])
                await channel.send(Offline(fresh.index + start, first, second))
        burned = [self._pool.pop(index).take() for index in indexes]

        async def ask() -> None:
            for ready, (_, rows) in zip(burned, parts, strict=True):
                payload = np.zeros(len(slot_of_row), dtype=np.int64)
                payload[rows] = self._g[rows] + (self._h[rows] << self._width(rows)[0])
                words = await in_thread(hint.encrypt, self._public, ready.secret, payload)
                for channel in self._channels:  # 7
                    await channel.send(Vector(words))

        async def collect() -> list[Sums]:
            return [await self._read(place, parts, burned, slots) for place in range(len(self._channels))]

        _, sums = await together(ask(), collect())
        return sums

    async def _read(
        self, place: int, parts: list[tuple[int, Integers]], burned: list[_Ready], slots: int
    ) -> Sums:
        total = self._keys[place].total
        answers = (await self._channels[place].recv(Answer)).sums  # 8
        if answers.shape != (len(parts), total):
            raise PeerError("bad_message", why="more or fewer sums came than were asked for")
        sums = np.zeros((slots, total, 2), dtype=np.int64)
        for answer, ready, (slot, rows) in zip(answers, burned, parts, strict=True):
            packed = hint.read_sums(answer, ready.masks[place], self._set).astype(np.int64)
            g_bits, below = self._width(rows)
            g = ((packed + below) & ((1 << g_bits) - 1)) - below
            sums[slot, :, 0] += g
            sums[slot, :, 1] += ((packed - g) & ((1 << self._set.payload) - 1)) >> g_bits
        return sums

    def _width(self, rows: Integers) -> tuple[int, int]:
        """Bits of the sum of g over these rows, and how far it can go below zero."""
        g = self._g[rows]
        below = int(-g[g < 0].sum())
        return (int(g[g > 0].sum()) + below).bit_length(), below

    def _fit(self, rows: Integers) -> list[Integers]:
        """The rows in as few parts as fit a payload each."""
        g_bits, _ = self._width(rows)
        if g_bits + int(self._h[rows].sum()).bit_length() <= self._set.payload or len(rows) < 2:
            return [rows]
        half = len(rows) // 2
        return [*self._fit(rows[:half]), *self._fit(rows[half:])]

    def _draw(self, needed: int) -> _Drawn:
        """Fill the pool up to `needed`; the hints of what was drawn, for each feature owner."""
        missing, index = needed - len(self._pool), self._made
        if missing <= 0:
            return _Drawn(index, 0, [])
        count = max(missing, BATCH)
        drawn = Stream.fresh().ternary(count, N)
        made = [key.prepare(drawn) for key in self._keys]
        for at in range(count):
            self._pool[index + at] = OneTime(_Ready(drawn[at], [masks[at] for masks, _, _ in made]))
        self._made += count
        return _Drawn(index, count, [(first, second) for _, first, second in made])


class HintFeatureSide:
    """Keeps sigma and the opened hints; adds words into bins."""

    def __init__(
        self, channel: Channel, matrix: BinMatrix, key: hint.OuterKey, chosen: hint.Set, budget: int
    ) -> None:
        self._channel, self._matrix, self._key, self._set, self._left = channel, matrix, key, chosen, budget
        self._cells = hint.cells(matrix.bins, matrix.counts)
        self._opened: dict[int, Words] = {}
        self._next = 0

    @classmethod
    async def begin(
        cls, channel: Channel, matrix: BinMatrix, digest: bytes, model: BoostedTrees, progress: Progress
    ) -> HintFeatureSide:
        """Agree on seeds, make the hint and the key, and send the columns."""
        commit = await channel.recv(Commit)  # 1
        nonce = secrets.token_bytes(32)
        await channel.send(Nonce(nonce))  # 2
        opened = await channel.recv(Opened)  # 3
        if not compare_digest(commit.digest, _commitment(digest, opened.nonce)):
            raise PeerError("bad_message", why="the nonce is not the one that was committed to")
        if opened.place >= len(opened.others) or opened.others[opened.place].tobytes() != nonce:
            raise PeerError("bad_message", why="the own nonce is not among those of all parties")
        chosen = set_of(matrix.rows)
        shared, own = _seeds(digest, opened.nonce, opened.others, opened.place)
        progress.start("hint", N)
        public = await in_thread(hint.PublicMatrix, shared, matrix.rows, chosen)
        words = await in_thread(hint.hint_matrix, public, matrix.bins, matrix.counts)
        key = hint.OuterKey(own, matrix.total)
        for start in range(0, N, COLUMNS_AT_ONCE):  # 4
            part = await in_thread(key.columns, words, start, start + COLUMNS_AT_ONCE)
            await channel.send(Columns(start, part))
            progress.at(start + COLUMNS_AT_ONCE)
        await channel.send(Columns(0, await in_thread(key.p0)))
        return cls(channel, matrix, key, chosen, vectors_max(model, matrix.rows))

    async def tree(self) -> None:
        """Nothing crosses at the beginning of a tree."""

    async def level(self) -> None:
        vectors = await self._channel.recv(Vectors)  # 5, 6
        due = self._next + vectors.offline
        while self._next < due:
            message = await self._channel.recv(Offline)
            count = len(message.first)
            if (
                message.index != self._next
                or not 0 < count <= due - self._next
                or len(message.second) != count
            ):
                raise PeerError("bad_message", why="hints came out of turn, or not as many as announced")
            for first, second in zip(message.first, message.second, strict=True):
                self._opened[self._next] = await in_thread(self._key.open, first, second)
                self._next += 1
        self._left -= len(vectors.indexes)
        if self._left < 0:
            raise PeerError("bad_message", why="more vectors came than the job file allows")
        sums = np.zeros((len(vectors.indexes), self._matrix.total), dtype=np.uint64)
        for at, index in enumerate(vectors.indexes.tolist()):  # 7
            hidden = self._opened.pop(index, None)
            if hidden is None:
                raise PeerError("bad_message", why="a vector names an index that was used or never announced")
            words = (await self._channel.recv(Vector)).words
            if len(words) != self._matrix.rows:
                raise PeerError("bad_message", why="a vector has more or fewer rows than agreed")
            sums[at] = await in_thread(self._add, words, hidden)
        await self._channel.send(Answer(sums))  # 8

    def _add(self, words: Words, hidden: Words) -> Words:
        return hint.answer(hint.add_words(words, self._cells, self._matrix.total), hidden, self._set)


def set_of(rows: int) -> hint.Set:
    """The parameter set for this many training rows; both sides derive it."""
    if rows > ROWS_MAX:
        raise ConfigError(
            "out_of_bounds",
            field="crypto.engine",
            value="lattice-hint",
            allowed=f"{ROWS_MAX:,} training rows",
        )
    return hint.SETS["A1" if rows <= ROWS_OF_A1 else "W8"]


def vectors_max(model: BoostedTrees, rows: int) -> int:
    """How many vectors a whole job can need: the smaller siblings of every level, split where sums are wide."""
    parts = max(1, -(-rows // ROWS_OF_A1))
    return (model.trees * (1 << (model.depth - 1)) + 1) * parts


def _commitment(digest: bytes, nonce: bytes) -> bytes:
    return hashlib.sha256(b"isthmus/hint/commit/v1" + digest + nonce).digest()


def _seeds(digest: bytes, nonce: bytes, others: NDArray[np.uint8], place: int) -> tuple[bytes, bytes]:
    """The seed of A, shared by all parties of the job, and that of one feature owner's outer layer."""
    shared = hashlib.sha256(b"isthmus/hint/seed/v1" + digest + nonce + others.tobytes()).digest()
    return shared, hashlib.sha256(b"isthmus/hint/outer/v1" + shared + bytes([place])).digest()
