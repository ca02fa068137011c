"""Shares of a secret: enough of them give it, fewer say nothing, and false ones are noticed."""

from __future__ import annotations

import itertools

import pytest

from isthmus.base.errors import PeerError
from isthmus.crypto.sharing import POINT_MAX, PRIME, SHARE_BYTES, combine, evaluate, recover, split
from tests.sums import secret

SECRET = secret("shared")


def shared(threshold: int, points: list[int]) -> dict[int, bytes]:
    return dict(zip(points, split(SECRET, threshold, points), strict=True))


def test_the_field_is_that_of_a_prime() -> None:
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        powers = [pow(base, odd * 2**step, PRIME) for step in range(twos)]
        assert powers[0] == 1 or PRIME - 1 in powers


@pytest.mark.parametrize("points", [[1, 2, 3, 4, 5], [9, 65535, 4, 1, 300]])
def test_any_threshold_of_the_shares_gives_the_secret(points: list[int]) -> None:
    shares = shared(3, points)
    for chosen in itertools.combinations(points, 3):
        assert combine({point: shares[point] for point in chosen}) == SECRET


@pytest.mark.parametrize("body", [bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])
def test_every_secret_of_32_bytes_can_be_shared(body: bytes) -> None:
    shares = split(body, 2, [3, 8])
    assert combine({3: shares[0], 8: shares[1]}) == body


def test_one_share_too_few_fits_every_other_secret_as_well() -> None:
    first, second, third = split(SECRET, 3, [1, 2, 3])
    other = secret("another")
    # A polynomial of the same degree through the two known shares and any constant term exists; take its value at 3.
    values = [int.from_bytes(b, "little") for b in (other, first, second)]
    at = [0, 1, 2]
    value = 0
    for i in range(3):
        above = below = 1
        for j in range(3):
            if i != j:
                above, below = above * (3 - at[j]), below * (at[i] - at[j])
        value += values[i] * above * pow(below, -1, PRIME)
    forged = (value % PRIME).to_bytes(SHARE_BYTES, "little")
    assert combine({1: first, 2: second, 3: forged}) == other
    assert combine({1: first, 2: second, 3: third}) == SECRET


def test_a_secret_is_never_shared_the_same_way_twice() -> None:
    assert not set(split(SECRET, 2, [1, 2, 3])) & set(split(SECRET, 2, [1, 2, 3]))


def test_shares_are_values_of_the_polynomial_that_is_written_down() -> None:
    assert evaluate([5, 7, 11], [2]) == [(5 + 14 + 44).to_bytes(SHARE_BYTES, "little")]


@pytest.mark.parametrize("threshold", [-1, 0, 1, 4])
def test_a_threshold_that_shares_nothing_is_refused(threshold: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        split(SECRET, threshold, [1, 2, 3])


@pytest.mark.parametrize("points", [[0, 1], [1, 1], [-1, 2], [1, POINT_MAX + 1]])
def test_points_that_give_the_secret_away_or_stand_twice_are_refused(points: list[int]) -> None:
    with pytest.raises(ValueError, match="points"):
        split(SECRET, 2, points)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_secret_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        split(bytes(size), 2, [1, 2])


@pytest.mark.parametrize(
    "share", [b"", bytes(32), bytes(34), PRIME.to_bytes(SHARE_BYTES, "little"), b"\xff" * SHARE_BYTES]
)
def test_a_share_that_is_no_number_of_the_field_is_refused(share: bytes) -> None:
    first, _ = split(SECRET, 2, [1, 2])
    with pytest.raises(PeerError, match="bad_message"):
        combine({1: first, 2: share})


@pytest.mark.parametrize("point", [0, -1, POINT_MAX + 1])
def test_a_share_for_no_point_is_refused(point: int) -> None:
    first, second = split(SECRET, 2, [1, 2])
    with pytest.raises(PeerError, match="bad_message"):
        combine({1: first, point: second})


def test_shares_whose_secret_is_too_large_are_refused() -> None:
    shares = evaluate([2**256, 5], [1, 2])
    with pytest.raises(PeerError, match="bad_message"):
        combine({1: shares[0], 2: shares[1]})


@pytest.mark.parametrize("liar", [1, 2, 3, 4, 5])
def test_one_false_share_among_more_than_the_threshold_does_no_harm(liar: int) -> None:
    shares = shared(4, [1, 2, 3, 4, 5])
    shares[liar] = shares[liar][:-2] + b"\x07\x00"
    assert recover(shares, 4, SECRET.__eq__) == SECRET


def test_false_shares_never_pass_for_the_secret() -> None:
    shares = shared(4, [1, 2, 3, 4])
    shares[2] = shares[3]
    assert recover(shares, 4, SECRET.__eq__) is None
    del shares[2]
    assert recover(shares, 4, lambda found: True) is None
