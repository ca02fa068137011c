"""Private set intersection: which rows do the parties share?

    label owner (ids X, secret a)                               feature owner (ids Y, secret b)
      1  SetSize  |X|                       <------------->       SetSize  |Y|
      2  Stands   points had of 4 and 5     -------------->       (none, unless the alignment is taken up again)
      3  Blinded  { H(x)^a }  shuffled      -------------->
      4                                     <--------------       Reblinded { H(x)^ab }  same order
      5                                     <--------------       Blinded  { H(y)^b }  shuffled
      6  Took     after each message of 5   -------------->       (so that no more than a block is under way)
      7  Shared   one bit per point of 5    -------------->       (only where both learn the result)

H hashes an id, under the digest of the job, to a uniform point of ristretto255; a and b are fresh for every run. Row
order: the shared ids sorted, then permuted by the job's randomness, so that both sides derive the same order alone.
With several feature owners, 1-6 run with each; in 7 each is told of the rows that all share, and of no others.

The scalars, the order of the points and what came back are put by, so that a new process of either side goes on where the label
owner stands; at most a block of points is blinded again. The feature owner counts, lastingly, the points that it has answered
for, and refuses to go back further than a block: an alignment that is taken up again tries no other ids.

Leaks: both learn the size of the other's set. The label owner learns which of its ids each feature owner has. A feature
owner learns which of its ids all parties share where `both` learn; nothing more than |X| where the receiver alone learns.
The label owner learns each pairwise overlap; a feature owner does not learn its overlap with another feature owner.

Adversary: semi-honest. Points that are not canonical, or are the identity, are refused. A party can still take part with
ids that are not its own; floors and grants bound what that is worth.
Source: Meadows 1986; Huberman, Franklin, Hogg 1999; RFC 9496 for the group.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import PeerError, PolicyError
from isthmus.base.progress import Progress
from isthmus.base.randomness import Rng
from isthmus.base.record import BEGUN, Forgetful, Record
from isthmus.base.workers import in_thread, together
from isthmus.crypto.curve import Scalar, blind_ids, blind_points, scalar_of
from isthmus.wire.channel import Channel
from isthmus.wire.message import Array, Flag, Message, Number

CHUNK_POINTS = 4096
BLOCK_CHUNKS = 4
"""Messages of points under way at once: what is done again, at most, after a crash."""
SET_MAX_ROWS = 100_000_000
Points = NDArray[np.uint8]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SetSize(Message):
    KIND: ClassVar[int] = 0x0101
    rows: Annotated[int, Number("Q")]


@dataclass(frozen=True)
class Stands(Message):
    """Points of 4 and of 5 that the label owner holds already."""

    KIND: ClassVar[int] = 0x0105
    answered: Annotated[int, Number("Q")]
    met: Annotated[int, Number("Q")]


@dataclass(frozen=True)
class Took(Message):
    KIND: ClassVar[int] = 0x0106


@dataclass(frozen=True)
class Blinded(Message):
    KIND: ClassVar[int] = 0x0102
    points: Annotated[Points, Array("u1", None, 32)]


@dataclass(frozen=True)
class Reblinded(Message):
    KIND: ClassVar[int] = 0x0103
    points: Annotated[Points, Array("u1", None, 32)]


@dataclass(frozen=True)
class Shared(Message):
    KIND: ClassVar[int] = 0x0104
    bits: Annotated[NDArray[np.uint8], Array("u1", None)]
    learns: Annotated[bool, Flag()]


async def align_as_label_owner(
    channels: Sequence[Channel],
    ids: list[bytes],
    digest: bytes,
    min_rows: int,
    progress: Progress,
    learns: Literal["both", "receiver"] = "both",
    record: Record | None = None,
) -> tuple[Rows, list[int]]:
    """Own rows of the shared ids in the common order, `(rows,)`, and the size of each feature owner's set.

    Raises PolicyError(overlap_too_small) where all parties share fewer than `min_rows` ids.
    """
    progress.start("align", 3 * len(ids) * len(channels))
    record = record or Forgetful()
    found = [
        await _meet(channel, ids, digest, progress, turn, record) for turn, channel in enumerate(channels)
    ]
    shared = set(found[0])
    for partner in found[1:]:
        shared &= partner.keys()
    if len(shared) < min_rows:
        raise PolicyError("overlap_too_small", floor=min_rows)
    for channel, partner in zip(channels, found, strict=True):  # 7
        bits = np.zeros(partner.points, dtype=np.uint8)
        if learns == "both":
            bits[[partner[row] for row in shared]] = 1
        await channel.send(Shared(np.packbits(bits), learns == "both"))
    return in_order(np.array(sorted(shared), dtype=np.int64), ids, digest), [
        partner.points for partner in found
    ]


async def align_as_feature_owner(
    channel: Channel,
    ids: list[bytes],
    digest: bytes,
    min_rows: int,
    progress: Progress,
    learns: Literal["both", "receiver"] = "both",
    record: Record | None = None,
) -> tuple[Rows | None, int]:
    """Own rows of the shared ids in the common order, `(rows,)`, and the size of the label owner's set; no rows where the
    receiver alone learns the result."""
    progress.start("align", 2 * len(ids))
    record = record or Forgetful()
    secret, order = _drawn(record, "blinding", len(ids))
    theirs = await _exchange_sizes(channel, len(ids))  # 1
    stands = await channel.recv(Stands)  # 2
    answered = record.count("answered points")
    if not answered - BLOCK_CHUNKS * CHUNK_POINTS <= stands.answered <= theirs or stands.met > len(ids):
        raise PeerError("bad_message", why="the alignment is taken up at a place where it does not stand")
    done = stands.answered
    while done < theirs:  # 3, 4
        points = (await channel.recv(Blinded)).points
        done += _grown(len(points), theirs - done)
        blinded = await in_thread(blind_points, points, secret)
        await in_thread(record.raise_to, "answered points", done)
        await channel.send(Reblinded(blinded))
        progress.at(min(len(ids), done * len(ids) // theirs))
    room, parts = asyncio.Semaphore(BLOCK_CHUNKS), _chunks(order[stands.met :])

    async def tell() -> None:
        done = stands.met
        for part in parts:
            await room.acquire()
            await channel.send(
                Blinded(await in_thread(blind_ids, [ids[i] for i in part], digest, secret))
            )  # 5
            done += len(part)
            progress.at(len(ids) + done)

    async def listen() -> None:
        for _ in parts:
            await channel.recv(Took)  # 6
            room.release()

    await together(tell(), listen())
    answer = await channel.recv(Shared)  # 7
    if answer.learns != (learns == "both") or len(answer.bits) != (len(ids) + 7) // 8:
        raise PeerError("bad_message", why="the result of the alignment has another form than agreed")
    if learns == "receiver":
        return None, theirs
    rows = np.sort(order[np.unpackbits(answer.bits, count=len(ids)).astype(bool)])
    if len(rows) < min_rows:
        raise PolicyError("overlap_too_small", floor=min_rows)
    return in_order(rows, ids, digest), theirs


class _Found(dict[int, int]):
    """Own row -> position in the partner's sequence of points."""

    points: int = 0


async def _meet(
    channel: Channel, ids: list[bytes], digest: bytes, progress: Progress, turn: int, record: Record
) -> _Found:
    secret, order = _drawn(record, f"blinding {turn}", len(ids))
    theirs = await _exchange_sizes(channel, len(ids))  # 1
    begun = 3 * len(ids) * turn
    own: dict[bytes, int] = {}
    had = 0
    for body in record.found(f"own {turn}"):
        size = len(body) // 32
        own.update(zip(_cut(body), order[had : had + size].tolist(), strict=True))
        had += size
    found = _Found()
    found.points, met = theirs, 0
    for part in record.found(f"met {turn}"):
        rows = np.frombuffer(part, dtype="<i8")
        met += int(rows[0])
        found.update((row, at) for row, at in rows[1:].reshape(-1, 2).tolist())
    await channel.send(Stands(had, met))  # 2
    room = asyncio.Semaphore(BLOCK_CHUNKS)

    async def ask() -> None:
        for part in _chunks(order[had:]):  # 3
            await room.acquire()
            await channel.send(Blinded(await in_thread(blind_ids, [ids[i] for i in part], digest, secret)))

    async def collect() -> None:
        done = had
        while done < len(ids):  # 4
            points = (await channel.recv(Reblinded)).points
            size = _grown(len(points), len(ids) - done)
            own.update(zip(_split(points), order[done : done + size].tolist(), strict=True))
            done += size
            await in_thread(record.keep, BEGUN, **{f"own {turn}": points.tobytes()})
            room.release()
            progress.at(begun + 2 * done)

    await together(ask(), collect())
    if len(own) != len(ids):
        raise PeerError("bad_message", why="two ids came back as one point")
    while met < theirs:  # 5
        points = (await channel.recv(Blinded)).points
        size = _grown(len(points), theirs - met)
        pairs: list[int] = [size]
        for at, point in enumerate(_split(await in_thread(blind_points, points, secret)), start=met):
            row = own.get(point)
            if row is not None:
                if row in found:
                    raise PeerError("bad_message", why="an id came twice")
                found[row] = at
                pairs += (row, at)
        met += size
        await in_thread(record.keep, BEGUN, **{f"met {turn}": np.array(pairs, dtype="<i8").tobytes()})
        await channel.send(Took())  # 6
        progress.at(begun + 2 * len(ids) + len(ids) * met // theirs)
    return found


def _drawn(record: Record, name: str, count: int) -> tuple[Scalar, Rows]:
    """The blinding scalar and the order of the points of this run: drawn once, and the same when it is taken up again."""
    known = record.found(name)
    if not known:
        known = [os.urandom(96)]
        record.keep(BEGUN, **{name: known[0]})
    return scalar_of(known[0][:64]), Rng(known[0][64:]).permutation("align/shuffle", count)


async def _exchange_sizes(channel: Channel, own: int) -> int:
    await channel.send(SetSize(own))
    theirs = (await channel.recv(SetSize)).rows
    if not 0 < theirs <= SET_MAX_ROWS:
        raise PeerError("bad_message", why="the size of the set is out of range")
    return theirs


def _grown(size: int, room: int) -> int:
    if not 0 < size <= min(room, CHUNK_POINTS):
        raise PeerError("bad_message", why="more or fewer points came than announced")
    return size


def _chunks(order: Rows) -> list[Rows]:
    return [order[i : i + CHUNK_POINTS] for i in range(0, len(order), CHUNK_POINTS)]


def _split(points: Points) -> list[bytes]:
    return _cut(points.tobytes())


def _cut(body: bytes) -> list[bytes]:
    return [body[i : i + 32] for i in range(0, len(body), 32)]


def in_order(rows: Rows, ids: list[bytes], digest: bytes) -> Rows:
    """The one order of the shared rows: sorted by id, then permuted by the job's randomness."""
    by_id = rows[np.argsort(np.array([ids[r] for r in rows], dtype=object), kind="stable")]
    return by_id[Rng(digest).permutation("align/order", len(rows))]
