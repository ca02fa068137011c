"""Lattice hint histograms, first part: public polynomials from a joint seed, and the feature owner's matrix under its key.

    label owner                                                feature owner (bins, key sigma)
      1  Commit    hash of a nonce           ------------->
      2                                      <-------------    Nonce     and the highest index ever seen
      3  Agreed    nonces, set, payload      ------------->    seed of every public polynomial
      4                                      <-------------    Columns   Enc_sigma(H), and p0

Done once for an alignment and a binning; a new one means new nonces, a new H and a new sigma. H is made and sent in chunks of
4,096 bins. Leaks: shapes, which both know. What it is for: protocols/hint.py; why it is safe: docs/explanation/lattice.md.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Annotated, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import PeerError
from isthmus.base.progress import Progress
from isthmus.base.record import check_told
from isthmus.base.workers import in_thread
from isthmus.crypto.lattice import sets
from isthmus.crypto.lattice.ntt import N
from isthmus.crypto.lattice.outer import LabelKeys, OuterKey
from isthmus.crypto.lattice.sampling import Words
from isthmus.crypto.lattice.vectors import PublicMatrix, hint_rows
from isthmus.crypto.onetime import Ledger
from isthmus.learn.histogram import BinMatrix
from isthmus.learn.parameters import Crypto
from isthmus.wire.channel import Channel
from isthmus.wire.message import Array, Message, Number, Raw

COLUMNS_AT_ONCE: Final = 256


@dataclass(frozen=True)
class Commit(Message):
    KIND: ClassVar[int] = 0x0701
    digest: Annotated[bytes, Raw(32)]


@dataclass(frozen=True)
class Nonce(Message):
    KIND: ClassVar[int] = 0x0702
    nonce: Annotated[bytes, Raw(32)]
    seen: Annotated[int, Number("I")]


@dataclass(frozen=True)
class Agreed(Message):
    """The label owner's nonce, those of all feature owners, the receiver's place among them; what the vectors will be."""

    KIND: ClassVar[int] = 0x0703
    nonce: Annotated[bytes, Raw(32)]
    others: Annotated[NDArray[np.uint8], Array("u1", None, 32)]
    place: Annotated[int, Number("B")]
    set: Annotated[int, Number("B")]
    payload: Annotated[int, Number("B")]
    cut: Annotated[int, Number("B")]
    first: Annotated[int, Number("I")]


@dataclass(frozen=True)
class Columns(Message):
    """Columns of one chunk of bins from column `start` on; after the last of all, p0 of every chunk."""

    KIND: ClassVar[int] = 0x0704
    chunk: Annotated[int, Number("H")]
    start: Annotated[int, Number("H")]
    words: Annotated[Words, Array("u8", None, None)]


@dataclass(frozen=True, slots=True)
class FeatureSetup:
    """What a feature owner holds afterwards; `place` is its place among the feature owners."""

    public: PublicMatrix
    key: OuterKey
    layout: sets.Layout
    place: int


async def set_up_as_label_owner(
    channels: Sequence[Channel],
    rows: int,
    shapes: Sequence[tuple[int, ...]],
    digest: bytes,
    crypto: Crypto,
    ledger: Ledger,
    progress: Progress,
    folder: Path | None = None,
) -> tuple[PublicMatrix, list[LabelKeys]]:
    """The public matrix and every feature owner's columns. Indexes go on above every one that any party has seen.

    `folder` takes the columns that do not fit in memory.
    """
    sizes = [(len(shape), sum(shape)) for shape in shapes]
    layouts = sets.choose(rows, sizes, width_of(rows, crypto))
    nonce = secrets.token_bytes(32)
    progress.start("hint", len(channels) * N)
    for channel in channels:  # 1
        await channel.send(Commit(commitment(digest, nonce)))
    heard = [await channel.recv(Nonce) for channel in channels]  # 2
    for nonce_there in heard:
        check_told(nonce_there.seen, ledger.next)
    ledger.burn(max(ledger.next, *(h.seen for h in heard)))
    joined = np.frombuffer(b"".join(h.nonce for h in heard), dtype=np.uint8).reshape(-1, 32)
    seeds = [seeds_of(digest, nonce, joined, place) for place in range(len(channels))]
    chosen = sets.SETS.index(layouts[0].set)
    for place, channel in enumerate(channels):  # 3
        await channel.send(
            Agreed(nonce, joined, place, chosen, layouts[0].payload, layouts[0].cut, ledger.next)
        )
    public = await in_thread(PublicMatrix, seeds[0][0], rows, layouts[0].set)
    keys = []
    for place, (channel, layout) in enumerate(zip(channels, layouts, strict=True)):
        key = LabelKeys(seeds[place][1], layout, folder)
        await receive_columns(channel, key, progress, place)
        keys.append(key)
    return public, keys


async def set_up_as_feature_owner(
    channel: Channel, matrix: BinMatrix, digest: bytes, crypto: Crypto, ledger: Ledger, progress: Progress
) -> FeatureSetup:
    """Check what the label owner chose, make the hint and the key, send the columns. `matrix.bins` is in one piece."""
    commit = await channel.recv(Commit)  # 1
    nonce = secrets.token_bytes(32)
    await channel.send(Nonce(nonce, ledger.next))  # 2
    agreed = await channel.recv(Agreed)  # 3
    if not compare_digest(commit.digest, commitment(digest, agreed.nonce)):
        raise PeerError("bad_message", why="the nonce is not the one that was committed to")
    if agreed.place >= len(agreed.others) or agreed.others[agreed.place].tobytes() != nonce:
        raise PeerError("bad_message", why="the own nonce is not among those of all parties")
    if agreed.first < ledger.next:
        raise PeerError("secret_reused", partner=channel.partner)
    check_told(agreed.first, ledger.next)
    if (
        agreed.set >= len(sets.SETS)
        or agreed.cut > sets.CUT_MAX
        or not 0 < agreed.payload <= width_of(matrix.rows, crypto)
    ):
        raise PeerError("bad_message", why="the sums would carry more bits than the job file allows")
    layout = sets.Layout(
        sets.SETS[agreed.set],
        agreed.payload,
        agreed.cut,
        matrix.rows,
        len(matrix.counts),
        matrix.total,
    )
    if not layout.fits:
        raise PeerError("bad_message", why="the parameter set does not carry so many rows")
    shared, own = seeds_of(digest, agreed.nonce, agreed.others, agreed.place)
    progress.start("hint", N)
    public = await in_thread(PublicMatrix, shared, matrix.rows, layout.set)
    key = OuterKey(own, matrix.total)
    await send_columns(channel, matrix, public, key, progress)
    ledger.burn(agreed.first)
    return FeatureSetup(public, key, layout, agreed.place)


async def receive_columns(channel: Channel, key: LabelKeys, progress: Progress, place: int) -> None:
    bins = key.layout.bins
    for chunk in range(key.chunks):
        width, start = min(N, bins - chunk * N), 0
        while start < N:
            part = await channel.recv(Columns)  # 4
            stop = start + len(part.words)
            if (
                (part.chunk, part.start) != (chunk, start)
                or not start < stop <= N
                or part.words.shape[1] != width
            ):
                raise PeerError("bad_message", why="key columns have another shape than agreed")
            key.keep(chunk, start, part.words)
            start = stop
            progress.at(place * N + (chunk * N + start) // key.chunks)
    p0 = (await channel.recv(Columns)).words
    if p0.shape != (key.chunks, N):
        raise PeerError("bad_message", why="key columns have another shape than agreed")
    key.seal(p0)


async def send_columns(
    channel: Channel, matrix: BinMatrix, public: PublicMatrix, key: OuterKey, progress: Progress
) -> None:
    """Chunk by chunk, so that no more than N rows of H are ever held."""
    for chunk in range(key.chunks):
        first, stop = chunk * N, min(matrix.total, (chunk + 1) * N)
        hint = await in_thread(hint_rows, public, matrix.bins, matrix.counts, first, stop)
        for start in range(0, N, COLUMNS_AT_ONCE):
            part = await in_thread(key.columns, hint, chunk, start, start + COLUMNS_AT_ONCE)
            await channel.send(Columns(chunk, start, part))  # 4
            progress.at((chunk * N + start + COLUMNS_AT_ONCE) // key.chunks)
    await channel.send(Columns(0, 0, await in_thread(key.p0)))


def width_of(rows: int, crypto: Crypto) -> int:
    return sets.width(rows, crypto.gradient_bits, crypto.hessian_bits)


def commitment(digest: bytes, nonce: bytes) -> bytes:
    return hashlib.sha256(b"isthmus/hint/commit/v1" + digest + nonce).digest()


def seeds_of(digest: bytes, nonce: bytes, others: NDArray[np.uint8], place: int) -> tuple[bytes, bytes]:
    """The seed of A, shared by all parties of the job, and that of one feature owner's outer layer."""
    shared = hashlib.sha256(b"isthmus/hint/seed/v1" + digest + nonce + others.tobytes()).digest()
    return shared, hashlib.sha256(b"isthmus/hint/outer/v1" + shared + bytes([place])).digest()
