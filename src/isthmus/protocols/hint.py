"""Lattice hint histograms: the engine whose online work for the feature owner is adding 64-bit words.

    label owner (g, h, secrets s_t)                            feature owner (bins, key sigma)
      1 to 4       seeds, and H under sigma  <------------>    protocols/hint_setup.py        once, per binning
      5  Offline   hints of H s_t, masked    ------------->    V_t = H s_t - u_t              a batch, made ahead
      6                                      <-------------    Check     some of the batch, by lot
      7  Seeds     of those                  ------------->    recomputed; never used
      8  Vectors   indexes                   ------------->                                   per level
      9  Words     a s_t + e + Delta m       ------------->    adds words into bins           in pieces of rows
     10                                      <-------------    Answer    top bits of (sums - V_t)

One vector carries g and h of the rows of one tree node, and zero for every other row. Every secret comes from a fresh seed,
lives in the memory of this process alone, is on record as burned before its hint is made, and is taken out of the pool before
it encrypts; a new binning means new nonces, a new H and a new sigma. Batches are made in a thread of their own while this
side waits. A tree node whose sums would not fit a payload is sent as several vectors.

Leaks: the label owner learns the exact sums of the quantised (g, h) per tree node and bin. The feature owner learns how many
vectors there are, and so of a very large tree node whether its sums are wider than a payload; neither g, h, nor which rows are
in a tree node. Adversary: semi-honest; a label owner that
chooses its vectors can read bins of a few rows per payload bit, as many as the budget of vectors allows; one that forges
a hint is found by the checks with a chance of 1 in 16; one that pushes sums to the end of a payload step learns of sigma
what the noise that the feature owner adds to every sum leaves of it (docs/explanation/lattice.md).
Source: Henzinger et al. 2023 (SimplePIR, a fixed matrix and a hint); Lyubashevsky, Peikert, Regev 2010 (ring LWE). Outside
cryptographers have not reviewed this construction.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import PeerError, PolicyError
from isthmus.base.progress import Progress
from isthmus.base.record import check_told
from isthmus.base.workers import in_thread, together
from isthmus.crypto.lattice import sets
from isthmus.crypto.lattice.ntt import N, transform
from isthmus.crypto.lattice.outer import Drawn, LabelKeys, first_parts, limbs_of, p1
from isthmus.crypto.lattice.sampling import Stream, Words
from isthmus.crypto.lattice.vectors import Payload, PublicMatrix, add_into_bins, encrypt
from isthmus.crypto.onetime import Ledger, OneTime
from isthmus.learn.histogram import BinMatrix, Sums, histogram
from isthmus.learn.parameters import Crypto
from isthmus.protocols.hint_setup import (
    FeatureSetup,
    set_up_as_feature_owner,
    set_up_as_label_owner,
    width_of,
)
from isthmus.wire.channel import Channel
from isthmus.wire.message import Array, Message, Number

PIECE_BYTES: Final = 8 * 2**20
BATCH = 256
FIRST_BATCH: Final = 64
BATCH_BYTES: Final = 64 * 2**20
AGAIN_MAX: Final = 20
CHECKED: Final = 16
"""One hint in so many of a batch is opened, or one more."""
Integers = NDArray[np.int64]
Slots = NDArray[np.int32]


@dataclass(frozen=True)
class Offline(Message):
    """Hints of the vectors from `index` on, the first `left` of a batch still to come with this message; 0: no batch."""

    KIND: ClassVar[int] = 0x0705
    index: Annotated[int, Number("I")]
    left: Annotated[int, Number("H")]
    first: Annotated[Words, Array("u8", None, None, N)]
    second: Annotated[Words, Array("u8", None, None)]


NO_BATCH: Final = Offline(0, 0, np.zeros((0, 0, N), dtype=np.uint64), np.zeros((0, 0), dtype=np.uint64))


@dataclass(frozen=True)
class Check(Message):
    KIND: ClassVar[int] = 0x0706
    indexes: Annotated[NDArray[np.uint32], Array("u4", None)]


@dataclass(frozen=True)
class Seeds(Message):
    KIND: ClassVar[int] = 0x0707
    seeds: Annotated[NDArray[np.uint8], Array("u1", None, 32)]


@dataclass(frozen=True)
class Vectors(Message):
    """The index of each vector of this level, ascending."""

    KIND: ClassVar[int] = 0x0708
    indexes: Annotated[NDArray[np.uint32], Array("u4", None)]


@dataclass(frozen=True)
class PieceOfWords(Message):
    """Words of the rows from `start` on, of all vectors of the level, `(vectors, rows, bytes)`."""

    KIND: ClassVar[int] = 0x0709
    start: Annotated[int, Number("I")]
    words: Annotated[NDArray[np.uint8], Array("u1", None, None, None)]


@dataclass(frozen=True)
class Answer(Message):
    """Sums of the bins from `start` on, `(vectors, bins, bytes)`: as many little-endian bytes as the payload has."""

    KIND: ClassVar[int] = 0x070A
    start: Annotated[int, Number("I")]
    sums: Annotated[NDArray[np.uint8], Array("u1", None, None, None)]


@dataclass(frozen=True, slots=True)
class _Ready:
    """One seed with its mask for each feature owner."""

    seed: bytes
    masks: list[Words]

    def __repr__(self) -> str:
        return "_Ready()"


@dataclass(frozen=True, slots=True)
class _Batch:
    """New one-time secrets from index `first` on, and their hints for each feature owner."""

    first: int
    ready: list[OneTime[_Ready]]
    hints: list[tuple[Words, Words]]


@dataclass(frozen=True, slots=True)
class _Part:
    """One vector: the slot it belongs to, and how its sums are packed: (g + below) + h * radix."""

    slot: int
    below: int
    radix: int


class HintLabelSide:
    """Draws secrets in batches, sends their masked hints, encrypts, reads the sums."""

    hides_nodes = True

    def __init__(
        self,
        channels: Sequence[Channel],
        public: PublicMatrix,
        keys: list[LabelKeys],
        crypto: Crypto,
        ledger: Ledger,
        expected: int,
    ) -> None:
        self._channels, self._public, self._keys, self._ledger = channels, public, keys, ledger
        self._widths = _widths(keys[0].layout, crypto)
        self._pool: dict[int, OneTime[_Ready]] = {}
        self._below_root = False
        self._g = self._h = np.zeros(0, dtype=np.int64)
        each = 8 * sum(key.chunks * N + key.layout.bins for key in keys)
        self._batch, self._made = min(BATCH, max(CHECKED, BATCH_BYTES // each)), 0
        self._one_bin = BinMatrix(np.zeros((1, public.rows), dtype=np.uint8), (1,))
        self._expected = expected
        self._ahead: asyncio.Task[_Batch] | None = None
        self._draw_ahead(0)

    @classmethod
    async def begin(
        cls,
        channels: Sequence[Channel],
        rows: int,
        shapes: Sequence[tuple[int, ...]],
        digest: bytes,
        crypto: Crypto,
        ledger: Ledger,
        expected: int,
        progress: Progress,
        folder: Path | None = None,
    ) -> HintLabelSide:
        """Agree on seeds and receive every feature owner's columns. `shapes` holds the bins of each of its features.

        So many vectors as are `expected` are made ahead. `folder` takes the columns that do not fit in memory.
        """
        public, keys = await set_up_as_label_owner(
            channels, rows, shapes, digest, crypto, ledger, progress, folder
        )
        return cls(channels, public, keys, crypto, ledger, expected)

    async def tree(self, g: Integers, h: Integers) -> None:
        self._g, self._h, self._below_root = g, h, False

    async def close(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._ahead
        self._pool.clear()

    async def level(self, slot_of_row: Slots, slots: int) -> list[Sums]:
        width = self._widths[self._below_root]
        parts, vector_of_row = await in_thread(self._fit, slot_of_row, slots, width)
        self._below_root = True
        await self._fill(len(parts))
        indexes = sorted(self._pool)[: len(parts)]
        burned = [self._pool.pop(index).take() for index in indexes]
        for channel in self._channels:  # 8
            await channel.send(Vectors(np.array(indexes, dtype=np.uint32)))
        radix = np.array([part.radix for part in parts], dtype=np.int64)
        payload = Payload(self._g, self._h, vector_of_row, radix, width)

        cut = self._keys[0].layout.cut

        async def ask() -> None:
            drawn = np.stack([Drawn(ready.seed, 0).secret() for ready in burned])
            factors = await in_thread(transform, drawn)
            for start, stop in self._public.pieces(PIECE_BYTES // (8 * len(parts))):
                words = await in_thread(encrypt, self._public, start, stop, factors, payload, cut)
                for channel in self._channels:  # 9
                    await channel.send(PieceOfWords(start, words))

        async def collect() -> list[Sums]:
            return [
                await self._read(place, parts, burned, slots, width) for place in range(len(self._channels))
            ]

        _, sums = await together(ask(), collect())
        return sums

    async def _read(
        self, place: int, parts: list[_Part], burned: list[_Ready], slots: int, width: int
    ) -> Sums:
        bins = self._keys[place].layout.bins
        shift, cut = np.uint64(64 - width), np.uint64((1 << width) - 1)
        sums = np.zeros((slots, bins, 2), dtype=np.int64)
        start = 0
        while start < bins:
            answer = await self._channels[place].recv(Answer)  # 10
            stop = start + answer.sums.shape[1]
            if (
                answer.start != start
                or answer.sums.shape != (len(parts), stop - start, _bytes(width))
                or (not start < stop <= bins)
            ):
                raise PeerError("bad_message", why="more or fewer sums came than were asked for")
            for packed, ready, part in zip(_unpacked(answer.sums), burned, parts, strict=True):
                whole = packed - (ready.masks[place][start:stop] >> shift) + np.uint64(part.below)
                h, g = np.divmod((whole & cut).astype(np.int64), part.radix)
                sums[part.slot, start:stop, 0] += g - part.below
                sums[part.slot, start:stop, 1] += h
            start = stop
        return sums

    def _fit(self, slot_of_row: Slots, slots: int, width: int) -> tuple[list[_Part], Slots]:
        """The vectors of a level, each narrow enough for `width` bits, and the vector of each row, -1 for none."""
        inside = slot_of_row >= 0
        parts: list[_Part] = []
        vector_of_row = slot_of_row
        pieces = np.ones(slots, dtype=np.int64)
        while True:
            made = self._parts(vector_of_row, pieces)
            wide = np.array([part.radix * (h + 1) > 1 << width for part, h in made])
            if not wide.any():
                parts = [part for part, _ in made]
                return parts, vector_of_row
            slot_of_part = np.repeat(np.arange(slots), pieces)
            pieces[np.unique(slot_of_part[wide])] *= 2
            firsts = np.concatenate([[0], np.cumsum(pieces)[:-1]])
            vector_of_row = np.full(len(slot_of_row), -1, dtype=np.int32)
            turn = np.cumsum(inside) - 1
            vector_of_row[inside] = (firsts[slot_of_row] + turn % pieces[slot_of_row])[inside]

    def _parts(self, vector_of_row: Slots, pieces: Integers) -> list[tuple[_Part, int]]:
        """Of each vector: its packing, and the sum of h. Sums of |g| and g give those of the negative part."""
        count, whole = int(pieces.sum()), self._one_bin
        g_sums = histogram(whole, vector_of_row, count, self._g, np.abs(self._g))[:, 0]
        h_sums = histogram(whole, vector_of_row, count, self._h, self._h)[:, 0, 0]
        slots = np.repeat(np.arange(len(pieces)), pieces).tolist()
        return [
            (_Part(slot, int(size - g) // 2, int(size) + 1), int(h))
            for slot, (g, size), h in zip(slots, g_sums, h_sums, strict=True)
        ]

    async def _fill(self, needed: int) -> None:
        """Send batches until the pool holds what is needed, and begin to make the next one."""
        while len(self._pool) < needed:
            if self._ahead is None:
                self._expected = max(self._expected, needed)
                self._draw_ahead(0)
            assert self._ahead is not None
            batch, self._ahead = await self._ahead, None
            self._draw_ahead(len(batch.ready))
            await self._announce(batch)
        self._expected -= needed
        for channel in self._channels:
            await channel.send(NO_BATCH)

    def _draw_ahead(self, coming: int) -> None:
        """Begin the next batch, unless what is here and coming covers what is expected; more is drawn than is checked."""
        missing = (
            self._expected
            - len(self._pool)
            - (coming - _checks(coming) * len(self._channels) if coming else 0)
        )
        if missing > 0:
            owners = len(self._channels)
            count = -(-CHECKED * (missing + owners) // (CHECKED - owners))
            count = min(self._batch, count, BATCH if self._made else FIRST_BATCH)
            self._made += count
            self._ahead = asyncio.create_task(in_thread(self._draw, count))

    async def _announce(self, batch: _Batch) -> None:
        count = len(batch.ready)
        indexes = range(batch.first, batch.first + count)
        self._pool.update(zip(indexes, batch.ready, strict=True))
        for channel, (first, second) in zip(self._channels, batch.hints, strict=True):  # 5
            step = max(1, PIECE_BYTES // (8 * (first[0].size + second[0].size)))
            for at in range(0, count, step):
                part = slice(at, at + step)
                await channel.send(Offline(batch.first + at, count - at, first[part], second[part]))
        asked = [(await channel.recv(Check)).indexes.tolist() for channel in self._channels]  # 6
        for chosen in asked:
            if (
                len(set(chosen)) != len(chosen)
                or len(chosen) != _checks(count)
                or not set(chosen) <= set(indexes)
            ):
                raise PeerError("bad_message", why="other hints are to be opened than were agreed")
        opened = {index: self._pool.pop(index).take().seed for index in set().union(*asked)}
        for channel, chosen in zip(self._channels, asked, strict=True):  # 7
            seeds = b"".join(opened[index] for index in chosen)
            await channel.send(Seeds(np.frombuffer(seeds, dtype=np.uint8).reshape(-1, 32)))

    def _draw(self, count: int) -> _Batch:
        """New secrets, on record as burned before anything is made of them."""
        first = self._ledger.next
        self._ledger.burn(first + count)
        seeds = [secrets.token_bytes(32) for _ in range(count)]
        made = [key.prepare([Drawn(seed, place) for seed in seeds]) for place, key in enumerate(self._keys)]
        ready = [OneTime(_Ready(seed, [masks[at] for masks, _, _ in made])) for at, seed in enumerate(seeds)]
        return _Batch(first, ready, [(hints, others) for _, hints, others in made])


class HintFeatureSide:
    """Keeps sigma and the opened hints; adds words into bins; answers each index once, in ascending order."""

    def __init__(
        self,
        channel: Channel,
        matrix: BinMatrix,
        made: FeatureSetup,
        crypto: Crypto,
        ledger: Ledger,
        budget: int,
    ) -> None:
        self._channel, self._matrix, self._public, self._key = channel, matrix, made.public, made.key
        self._layout, self._place, self._ledger = made.layout, made.place, ledger
        self._widths = _widths(made.layout, crypto)
        self._below_root = False
        self._budget, self._left = budget, budget - ledger.answered
        self._hints_left = 2 * budget + 2 * BATCH
        self._p1 = limbs_of(p1(made.key.seed, made.key.chunks))
        self._opened: dict[int, Words] = {}
        self._next = 0

    @classmethod
    async def begin(
        cls,
        channel: Channel,
        matrix: BinMatrix,
        digest: bytes,
        crypto: Crypto,
        budget: int,
        ledger: Ledger,
        progress: Progress,
    ) -> HintFeatureSide:
        """Agree on seeds, make the hint and the key, send the columns. No more than `budget` vectors are answered, those
        of earlier attempts of the run counted in."""
        matrix = BinMatrix(np.ascontiguousarray(matrix.bins), matrix.counts)
        made = await set_up_as_feature_owner(channel, matrix, digest, crypto, ledger, progress)
        return cls(channel, matrix, made, crypto, ledger, budget)

    async def tree(self) -> None:
        """Nothing crosses at the beginning of a tree."""
        self._below_root = False

    async def level(self) -> None:
        while (offline := await self._channel.recv(Offline)).left:  # 5
            await self._take_in(offline)
        width = self._widths[self._below_root]
        self._below_root = True
        indexes = (await self._channel.recv(Vectors)).indexes.astype(np.int64)  # 8
        self._left -= len(indexes)
        if self._left < 0:
            raise PolicyError("vectors", partner=self._channel.partner, allowed=self._budget)
        await in_thread(self._ledger.answer, self._budget - self._left)
        if not len(indexes) or indexes[0] < self._next or (np.diff(indexes) <= 0).any():
            raise PeerError("secret_reused", partner=self._channel.partner)
        if not all(index in self._opened for index in indexes.tolist()):
            raise PeerError("secret_reused", partner=self._channel.partner)
        hidden = [self._opened.pop(index) for index in indexes.tolist()]
        self._next = int(indexes[-1]) + 1
        for index in [index for index in self._opened if index < self._next]:
            del self._opened[index]
        sums = np.zeros((len(indexes), self._matrix.total), dtype=np.uint64)
        start = 0
        while start < self._matrix.rows:
            piece = await self._channel.recv(PieceOfWords)  # 9
            stop = start + piece.words.shape[1]
            size = (len(sums), stop - start, self._layout.word_bytes)
            if piece.start != start or piece.words.shape != size or not start < stop <= self._matrix.rows:
                raise PeerError("bad_message", why="a vector has more or fewer rows than agreed")
            await in_thread(add_into_bins, sums, self._matrix.bins, self._matrix.counts, start, piece.words)
            start = stop
        dither = Stream.fresh().uniform(*sums.shape) * self._layout.dither
        sums = (sums - np.stack(hidden) + dither.astype(np.uint64)) >> np.uint64(64 - width)
        step = max(1, PIECE_BYTES // (8 * len(sums)))
        for at in range(0, self._matrix.total, step):
            await self._channel.send(Answer(at, _packed(sums[:, at : at + step], width)))  # 10

    async def _take_in(self, offline: Offline) -> None:
        """A batch of hints whose first part is `offline`: open them, then have some of them explained."""
        first, count = offline.index, offline.left
        self._hints_left -= count
        if self._hints_left < 0:
            raise PolicyError("vectors", partner=self._channel.partner, allowed=self._budget)
        if first < self._ledger.next:
            raise PeerError("secret_reused", partner=self._channel.partner)
        check_told(first, self._ledger.next)
        self._ledger.burn(first + count)
        # The lot is drawn here and told to nobody until the whole batch has come.
        lot = sorted(secrets.SystemRandom().sample(range(first, first + count), _checks(count)))
        kept: list[Words] = []
        index = first
        while True:
            made = len(offline.first)
            if (
                offline.index != index
                or offline.left != first + count - index
                or not 0 < made <= offline.left
                or len(offline.second) != made
            ):
                raise PeerError("bad_message", why="hints came out of turn, or not as many as announced")
            for one, other in zip(offline.first, offline.second, strict=True):
                self._opened[index] = await in_thread(self._key.open, one, other)
                if index in lot:
                    kept.append(one)
                index += 1
            if index == first + count:
                break
            offline = await self._channel.recv(Offline)
        await self._channel.send(Check(np.array(lot, dtype=np.uint32)))  # 6
        seeds = (await self._channel.recv(Seeds)).seeds  # 7
        if len(seeds) != len(lot):
            raise PeerError("bad_message", why="other hints were opened than were asked for")
        drawn = [Drawn(seed.tobytes(), self._place) for seed in seeds]
        opened = np.stack([self._opened.pop(index) for index in lot])
        if not await in_thread(self._agree, drawn, np.stack(kept), opened):
            raise PeerError("forged_hint", partner=self._channel.partner)

    def _agree(self, drawn: list[Drawn], firsts: Words, opened: Words) -> bool:
        """The first part of each hint is what its seed makes, and it opens to M (A s) - u up to its noise, in every bin."""
        if not (first_parts(self._key.seed, self._p1, drawn) == firsts).all():
            return False
        expected = np.zeros_like(opened)
        factors = transform(np.stack([d.secret() for d in drawn]))
        for start, stop in self._public.pieces(PIECE_BYTES // (8 * len(drawn))):
            words = encrypt(self._public, start, stop, factors, None, 0)
            add_into_bins(expected, self._matrix.bins, self._matrix.counts, start, words)
        expected -= np.stack([d.mask(self._layout) for d in drawn])
        off = (opened - expected).view(np.int64)
        return bool((np.abs(off) <= self._layout.tolerance).all())


def vectors_expected(trees: int, depth: int) -> int:
    """Vectors of a whole job: the smaller siblings of every level of every tree, and one for the weights of evidence."""
    return trees * (1 << (depth - 1)) + 1


def vectors_max(trees: int, depth: int) -> int:
    """How many vectors a feature owner answers: four times what is expected, as a tree node with wide sums takes several."""
    return 4 * vectors_expected(trees, depth)


def vectors_again(depth: int, attempts: int) -> int:
    """How many more a feature owner answers after so many attempts of a run, each of which may do one tree again."""
    return 4 * (vectors_expected(1, depth) + 1) * min(max(attempts - 1, 0), AGAIN_MAX)


def _checks(count: int) -> int:
    return -(-count // CHECKED)


def _widths(layout: sets.Layout, crypto: Crypto) -> tuple[int, int]:
    """Bits of a sum at the root and below it, where a vector holds the smaller of two siblings."""
    return layout.payload, min(layout.payload, width_of(layout.rows // 2, crypto))


def _bytes(width: int) -> int:
    return (width + 7) // 8


def _packed(sums: Words, width: int) -> NDArray[np.uint8]:
    whole = np.ascontiguousarray(sums).astype("<u8").view(np.uint8).reshape(*sums.shape, 8)
    return whole[:, :, : _bytes(width)]


def _unpacked(sums: NDArray[np.uint8]) -> Words:
    whole = np.zeros((*sums.shape[:2], 8), dtype=np.uint8)
    whole[:, :, : sums.shape[2]] = sums
    words: Words = whole.view("<u8")[:, :, 0].astype(np.uint64)
    return words
