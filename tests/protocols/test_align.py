"""Private set intersection: right, equal for secrets of equal size, and closed to bad points."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.base.errors import IsthmusError, PeerError, PolicyError
from isthmus.base.progress import Progress, Step
from isthmus.crypto.curve import Scalar, blind_ids, random_scalar
from isthmus.protocols import align
from isthmus.protocols.align import (
    Blinded,
    Reblinded,
    SetSize,
    Shared,
    align_as_feature_owner,
    align_as_label_owner,
)
from isthmus.wire.channel import Channel
from isthmus.wire.message import Message
from tests.worlds import WORLDS, Role, metered_pair, run_pair, run_star

DIGEST = bytes(range(32))
VECTOR = Path(__file__).parent.parent / "vectors" / "align.json"
Learns = Literal["both", "receiver"]


def names(*numbers: int) -> list[bytes]:
    return [f"138{n:08d}".encode() for n in numbers]


def label_owner(ids: list[bytes], min_rows: int = 1, learns: Learns = "both") -> Role:
    return lambda c: align_as_label_owner([c], ids, DIGEST, min_rows, Progress(), learns)


def feature_owner(ids: list[bytes], min_rows: int = 1, learns: Learns = "both") -> Role:
    return lambda c: align_as_feature_owner(c, ids, DIGEST, min_rows, Progress(), learns)


@pytest.mark.parametrize("world", WORLDS)
def test_both_sides_get_the_shared_rows_in_one_order(world: str) -> None:
    mine, yours = names(*range(60)), names(*range(90, 30, -1))
    first, second = run_pair(world, label_owner(mine), feature_owner(yours))
    here = [mine[i] for i in first[0]]
    assert here == [yours[i] for i in second[0]]
    assert sorted(here) == sorted(set(mine) & set(yours))
    assert here != sorted(here)
    assert (first[1], second[1]) == ([60], 60)


@settings(max_examples=15, deadline=None)
@given(st.sets(st.binary(min_size=1, max_size=20), min_size=1, max_size=30), st.data())
def test_the_result_is_the_set_intersection(pool: set[bytes], data: st.DataObject) -> None:
    some = st.lists(st.sampled_from(sorted(pool)), min_size=1, unique=True)
    mine, yours = data.draw(some), data.draw(some)
    first, second = run_pair("memory", label_owner(mine, 0), feature_owner(yours, 0))
    assert {mine[i] for i in first[0]} == set(mine) & set(yours)
    assert [mine[i] for i in first[0]] == [yours[i] for i in second[0]]


def test_more_ids_than_fit_one_message_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align, "CHUNK_POINTS", 8)
    mine, yours = names(*range(50)), names(*range(25, 70))
    first, second = run_pair("memory", label_owner(mine), feature_owner(yours))
    assert [mine[i] for i in first[0]] == [yours[i] for i in second[0]]
    assert len(first[0]) == 25


def test_with_three_feature_owners_each_learns_only_what_all_share() -> None:
    mine = names(*range(40))
    theirs = [names(*range(30)), names(*range(10, 40)), names(*range(5, 25), 99)]
    results = run_star(
        lambda cs: align_as_label_owner(cs, mine, DIGEST, 1, Progress()),
        [feature_owner(ids) for ids in theirs],
    )
    here = [mine[i] for i in results[0][0]]
    assert sorted(here) == names(*range(10, 25))
    for ids, result in zip(theirs, results[1:], strict=True):
        assert [ids[i] for i in result[0]] == here


def test_where_the_receiver_alone_learns_the_sender_gets_no_rows() -> None:
    mine, yours = names(1, 2, 3), names(2, 3, 4, 5)
    (first, second), meters = metered_pair(
        label_owner(mine, 1, "receiver"), feature_owner(yours, 1, "receiver")
    )
    assert sorted(mine[i] for i in first[0]) == names(2, 3)
    assert second == (None, 3)
    other, _ = metered_pair(label_owner(names(7, 8, 9), 0, "receiver"), feature_owner(yours, 0, "receiver"))
    assert len(other[0][0]) == 0
    assert meters[0].sent["Shared"].size_bytes == 2 + 4 + 1 + 1


def test_a_side_that_expects_another_rule_on_who_learns_stops() -> None:
    _, second = run_pair("memory", label_owner(names(1, 2), 1, "receiver"), feature_owner(names(1, 2)))
    assert isinstance(second, PeerError)


def test_secrets_of_equal_size_give_equal_messages_and_byte_counts() -> None:
    def counts(mine: list[bytes], yours: list[bytes]) -> Any:
        _, meters = metered_pair(label_owner(mine, 0), feature_owner(yours, 0))
        return [(m.sent, m.received, m.rounds) for m in meters]

    assert counts(names(*range(9)), names(*range(7))) == counts(
        names(*range(100, 109)), names(*range(100, 107))
    )
    assert counts(names(*range(9)), names(*range(7))) == counts(names(*range(9)), names(*range(50, 57)))


@pytest.mark.parametrize(("shared", "allowed"), [(99, False), (100, True)])
def test_an_intersection_under_the_floor_is_refused_at_both_sides(shared: int, allowed: bool) -> None:
    mine, yours = names(*range(120)), names(*range(120 - shared, 250))
    first, second = run_pair("memory", label_owner(mine, 100), feature_owner(yours, 100))
    if allowed:
        assert len(first[0]) == len(second[0]) == 100
    else:
        assert isinstance(first, PolicyError)
        assert isinstance(second, PeerError)
        assert second.fields["code"] == "overlap_too_small"


def test_a_feature_owner_keeps_the_floor_by_itself() -> None:
    yours = names(*range(200))
    _, second = run_pair("memory", label_owner(names(*range(50)), 1), feature_owner(yours, 100))
    assert isinstance(second, PolicyError)
    assert second.code == "overlap_too_small"


def test_no_id_and_no_digest_of_one_crosses() -> None:
    seen: list[bytes] = []

    class Tapped(Channel):
        async def send(self, message: Message) -> None:
            seen.append(message.encode())
            await super().send(message)

    async def tapped(channel: Channel) -> Any:
        return await align_as_label_owner([Tapped(channel._line)], names(1, 2, 3), DIGEST, 1, Progress())

    run_pair("memory", tapped, feature_owner(names(2, 3, 4)))
    body = b"".join(seen)
    for name in names(1, 2, 3):
        for known in (
            name,
            *(getattr(hashlib, h)(name).digest() for h in ("md5", "sha1", "sha256", "sha512")),
        ):
            assert known not in body
    points = blind_ids(names(1, 2, 3), DIGEST, random_scalar())
    assert not any(p.tobytes() in body for p in points)


def point(fill: int = 0) -> np.ndarray:
    return np.full((1, 32), fill, dtype=np.uint8)


GOOD = blind_ids(names(1), DIGEST, random_scalar())
TO_FEATURE_OWNER: dict[str, list[Message]] = {
    "an empty set": [SetSize(0)],
    "a set beyond all bounds": [SetSize(2**60)],
    "the identity": [SetSize(1), Blinded(point(0))],
    "a point that is not canonical": [SetSize(1), Blinded(point(255))],
    "more points than announced": [SetSize(1), Blinded(np.concatenate([GOOD, GOOD]))],
    "no points": [SetSize(1), Blinded(np.zeros((0, 32), dtype=np.uint8))],
    "another message": [SetSize(1), Reblinded(GOOD)],
    "a result of the wrong length": [SetSize(1), Blinded(GOOD), Shared(np.zeros(9, dtype=np.uint8), True)],
}


@pytest.mark.parametrize("case", TO_FEATURE_OWNER)
def test_a_feature_owner_refuses_a_bad_message(case: str) -> None:
    async def attacker(channel: Channel) -> None:
        for message in TO_FEATURE_OWNER[case]:
            await channel.send(message)
        await channel.recv(SetSize)
        await channel.recv(Reblinded)
        await channel.recv(Blinded)
        await asyncio.sleep(0)

    _, result = run_pair("memory", attacker, feature_owner(names(1, 2, 3)))
    assert isinstance(result, PeerError), result


TO_LABEL_OWNER: dict[str, list[Message]] = {
    "the identity back": [Reblinded(np.zeros((2, 32), dtype=np.uint8)), Blinded(point(0))],
    "one point for two ids": [Reblinded(np.concatenate([GOOD, GOOD]))],
    "more points back than were sent": [Reblinded(np.concatenate([GOOD, GOOD, GOOD]))],
    "a point that is not canonical": [Reblinded(np.concatenate([GOOD, point(1)])), Blinded(point(255))],
}


@pytest.mark.parametrize("case", TO_LABEL_OWNER)
def test_a_label_owner_refuses_a_bad_message(case: str) -> None:
    async def attacker(channel: Channel) -> None:
        await channel.send(SetSize(1))
        await channel.recv(SetSize)
        await channel.recv(Blinded)
        for message in TO_LABEL_OWNER[case]:
            await channel.send(message)
        await channel.recv(Shared)

    result, _ = run_pair("memory", label_owner(names(1, 2), 0), attacker)
    assert isinstance(result, PeerError), result


def test_an_id_that_comes_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = run_pair("memory", label_owner(names(1, 2), 0), feature_owner(names(2, 2), 0))
    assert isinstance(first, PeerError)


def test_progress_runs_to_its_end_and_never_back() -> None:
    steps: list[Step] = []
    role: Role = lambda c: align_as_label_owner([c], names(*range(30)), DIGEST, 1, Progress(steps.append))  # noqa: E731
    run_pair("memory", role, feature_owner(names(*range(20))))
    done = [s.done for s in steps]
    assert done == sorted(done)
    assert steps[-1].done == steps[-1].total


def test_the_transcript_is_the_one_checked_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """With fixed secrets and no shuffle, the bytes of every message are those of the vector: the format is stable."""
    scalars = iter([Scalar(bytes([3]) + bytes(31)), Scalar(bytes([5]) + bytes(31))])
    monkeypatch.setattr(align, "_drawn", lambda record, name, count: (next(scalars), np.arange(count)))
    sent: list[str] = []

    class Tapped(Channel):
        async def send(self, message: Message) -> None:
            sent.append(f"{type(message).__name__} {message.encode().hex()}")
            await super().send(message)

    async def one(channel: Channel) -> Any:
        return await align_as_label_owner([Tapped(channel._line)], names(1, 2), DIGEST, 1, Progress())

    async def two(channel: Channel) -> Any:
        return await align_as_feature_owner(Tapped(channel._line), names(2, 3), DIGEST, 1, Progress())

    results = run_pair("memory", one, two)
    assert not any(isinstance(r, IsthmusError) for r in results)
    assert sorted(sent) == json.loads(VECTOR.read_text())["messages"]
