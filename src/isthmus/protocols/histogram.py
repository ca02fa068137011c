"""Encrypted histograms: sums of (g, h) per tree node and bin of a feature owner's columns, for the label owner's eyes.

The interface of all engines, in two halves, and the Paillier engine. The label owner's half calls `tree` once per tree with
small integers and `level` once per level; the feature owner's half answers in step. Equal integers in, equal sums out,
whatever the engine.

    label owner (key)                                          feature owner (bins)
      1  Setup       public key, widths      ------------->                                  once
      2  Encrypted   n rows of Enc(g, h)     ------------->                                  per tree
      3  Nodes       tree node of each row   ------------->                                  per level
      4                                      <-------------    Answer  Enc(bin sums), packed

One ciphertext holds g and h of a row, g * 2^shift + h; the feature owner multiplies ciphertexts to add their plaintexts,
packs several bins into one ciphertext, and gives it fresh randomness before it leaves.

Leaks: the label owner learns the exact sums of the quantised (g, h) per tree node and bin. The feature owner learns which
rows are in every tree node, and nothing of g and h. Adversary: semi-honest.
Source: Paillier 1999; Damgard, Jurik, Nielsen 2010 (short exponents); Cheng et al. 2021 (SecureBoost); Chen et al. 2021
(SecureBoost+, packing).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import PeerError
from isthmus.base.progress import Progress
from isthmus.base.workers import in_thread
from isthmus.crypto.paillier import (
    Ciphertexts,
    PrivateKey,
    PublicKey,
    open_sealed,
    pack,
    seal_for_wire,
    slots_per_ciphertext,
    sum_into_bins,
)
from isthmus.crypto.sealed import SealedCiphertexts
from isthmus.learn.histogram import BinMatrix, Sums
from isthmus.learn.parameters import Crypto
from isthmus.wire.channel import Channel
from isthmus.wire.message import Array, Blob, Message, Number, Sealed

CHUNK_CIPHERTEXTS = 1024
CIPHERTEXT_MAX_BYTES = 1024
AHEAD_MAX_ROWS = 50_000
AHEAD_STEP = 256
Integers = NDArray[np.int64]
Slots = NDArray[np.int32]


class LabelSide(Protocol):
    """The label owner's half of an engine, for all feature owners at once."""

    hides_nodes: bool

    async def tree(self, g: Integers, h: Integers) -> None:
        """Begin a tree with the rows' small integers, `(rows,)` each."""

    async def level(self, slot_of_row: Slots, slots: int) -> list[Sums]:
        """Sums of each feature owner, `(slots, R, 2)`; row i counts in slot `slot_of_row[i]`, nowhere where that is -1."""

    async def close(self) -> None:
        """Stop what is still made ahead; secrets that were not used are dropped."""


class FeatureSide(Protocol):
    """A feature owner's half of an engine, over its bins."""

    async def tree(self) -> None:
        """Take part in the beginning of a tree."""

    async def level(self) -> None:
        """Answer one level."""


@dataclass(frozen=True)
class Setup(Message):
    KIND: ClassVar[int] = 0x0301
    public_key: Annotated[bytes, Blob(4096)]
    rows: Annotated[int, Number("Q")]
    hessian_shift: Annotated[int, Number("B")]
    slot_bits: Annotated[int, Number("B")]


@dataclass(frozen=True)
class Encrypted(Message):
    KIND: ClassVar[int] = 0x0302
    rows: Annotated[SealedCiphertexts, Sealed(CIPHERTEXT_MAX_BYTES)]


@dataclass(frozen=True)
class Nodes(Message):
    KIND: ClassVar[int] = 0x0303
    slots: Annotated[int, Number("H")]
    slot_of_row: Annotated[Slots, Array("i4", None)]


@dataclass(frozen=True)
class Answer(Message):
    KIND: ClassVar[int] = 0x0304
    sums: Annotated[SealedCiphertexts, Sealed(CIPHERTEXT_MAX_BYTES)]


class PaillierLabelSide:
    """Encrypts once for all feature owners, decrypts the packed sums. While it waits for sums it makes the blinding of the
    next tree ahead."""

    hides_nodes = False

    def __init__(
        self, channels: Sequence[Channel], key: PrivateKey, rows: int, totals: list[int], widths: Widths
    ) -> None:
        self._channels, self._key, self._rows, self._totals, self._widths = (
            channels,
            key,
            rows,
            totals,
            widths,
        )
        self._ahead: asyncio.Task[None] | None = None

    @classmethod
    async def begin(
        cls, channels: Sequence[Channel], rows: int, totals: list[int], crypto: Crypto, progress: Progress
    ) -> PaillierLabelSide:
        """Make a key and send its public half. `totals` is R, all bins of all features, of each feature owner."""
        progress.start("key")
        key = await in_thread(PrivateKey.generate, crypto.paillier_bits)
        widths = Widths.of(rows, crypto)
        for channel in channels:  # 1
            await channel.send(Setup(key.public.encode(), rows, widths.hessian_shift, widths.slot_bits))
        return cls(channels, key, rows, totals, widths)

    async def tree(self, g: Integers, h: Integers) -> None:
        await self.close()
        packed = [(a << self._widths.hessian_shift) + b for a, b in zip(g.tolist(), h.tolist(), strict=True)]
        for start in range(0, self._rows, CHUNK_CIPHERTEXTS):  # 2
            sealed = await in_thread(self._key.encrypt_for_wire, packed[start : start + CHUNK_CIPHERTEXTS])
            for channel in self._channels:
                await channel.send(Encrypted(sealed))
        self._ahead = asyncio.create_task(self._prepare())

    async def close(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)
            self._ahead = None

    async def _prepare(self) -> None:
        for _ in range(0, min(self._rows, AHEAD_MAX_ROWS), AHEAD_STEP):
            await in_thread(self._key.prepare, AHEAD_STEP)

    async def level(self, slot_of_row: Slots, slots: int) -> list[Sums]:
        for channel in self._channels:  # 3
            await channel.send(Nodes(slots, slot_of_row))
        return [
            await self._sums(c, slots, total) for c, total in zip(self._channels, self._totals, strict=True)
        ]

    async def _sums(self, channel: Channel, slots: int, total: int) -> Sums:
        count = slots * total
        per = slots_per_ciphertext(self._key.public.bits, self._widths.slot_bits)
        values: list[int] = []
        while len(values) < count:  # 4
            sealed = (await channel.recv(Answer)).sums
            due = min(count - len(values), len(sealed) * per)
            if not len(sealed) or (due + per - 1) // per != len(sealed):
                raise PeerError("bad_message", why="more or fewer sums came than were asked for")
            values += await in_thread(self._key.decrypt_packed, sealed, due, self._widths.slot_bits)
        return self._widths.split(values).reshape(slots, total, 2)


class PaillierFeatureSide:
    """Adds ciphertexts into bins. Keeps the ciphertexts of one tree in memory, 2 x key length a row."""

    def __init__(self, channel: Channel, matrix: BinMatrix, public: PublicKey, widths: Widths) -> None:
        self._channel, self._matrix, self._public, self._widths = channel, matrix, public, widths
        self._rows: list[Ciphertexts] = []

    @classmethod
    async def begin(cls, channel: Channel, matrix: BinMatrix, crypto: Crypto) -> PaillierFeatureSide:
        """Receive and check the label owner's public key and widths."""
        setup = await channel.recv(Setup)  # 1
        public = await in_thread(PublicKey.decode, setup.public_key)
        if public.bits != crypto.paillier_bits:
            raise PeerError("bad_key", why="its length is not the one in the job file")
        widths = Widths.of(matrix.rows, crypto)
        if (setup.rows, setup.hessian_shift, setup.slot_bits) != (
            matrix.rows,
            widths.hessian_shift,
            widths.slot_bits,
        ):
            raise PeerError("bad_message", why="rows or widths differ from what follows from the job file")
        return cls(channel, matrix, public, widths)

    async def tree(self) -> None:
        self._rows = []
        held = 0
        while held < self._matrix.rows:  # 2
            sealed = (await self._channel.recv(Encrypted)).rows
            if not 0 < len(sealed) <= self._matrix.rows - held:
                raise PeerError("bad_message", why="more or fewer rows came than were announced")
            self._rows.append(await in_thread(open_sealed, self._public, sealed))
            held += len(sealed)

    async def level(self) -> None:
        nodes = await self._channel.recv(Nodes)  # 3
        slots = nodes.slot_of_row
        if (
            len(slots) != self._matrix.rows
            or slots.min() < -1
            or slots.max() >= nodes.slots
            or not nodes.slots
        ):
            raise PeerError("bad_message", why="a row is in a tree node that does not exist")
        packed = await in_thread(self._sum, slots, nodes.slots)
        for start in range(0, len(packed), CHUNK_CIPHERTEXTS):  # 4
            part = packed.take(np.arange(start, min(start + CHUNK_CIPHERTEXTS, len(packed))))
            await self._channel.send(Answer(await in_thread(seal_for_wire, self._public, part)))

    def _sum(self, slot_of_row: Slots, slots: int) -> Ciphertexts:
        rows, bins, counts = Ciphertexts.join(self._rows), self._matrix.bins.T, self._matrix.counts
        sums = [
            part
            for slot in range(slots)
            for part in sum_into_bins(self._public, rows, bins, np.flatnonzero(slot_of_row == slot), counts)
        ]
        return pack(self._public, Ciphertexts.join(sums), self._widths.slot_bits)


@dataclass(frozen=True, slots=True)
class Widths:
    """Where g and h lie in a plaintext: h below `hessian_shift`, g above, signed, `slot_bits` in all."""

    hessian_shift: int
    slot_bits: int

    @classmethod
    def of(cls, rows: int, crypto: Crypto) -> Widths:
        """Wide enough for the sum over all rows, so that no sum can reach its neighbour."""
        row_bits = rows.bit_length()
        hessian_shift = crypto.hessian_bits + row_bits
        return cls(hessian_shift, hessian_shift + crypto.gradient_bits + row_bits + 1)

    def split(self, values: list[int]) -> Sums:
        """`(count, 2)`: g and h of each packed sum."""
        h = np.array([v & ((1 << self.hessian_shift) - 1) for v in values], dtype=np.int64)
        g = np.array([v >> self.hessian_shift for v in values], dtype=np.int64)
        return np.stack([g, h], axis=1)
