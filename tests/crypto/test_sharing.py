"""Secrets in shares: enough give it back, fewer say nothing."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import PeerError
from isthmus.crypto.sharing import PRIME, SHARE_BYTES, combine, split


def test_the_field_is_one() -> None:
    """Fermat for many bases, and no smaller candidate between 2^256 and it passes."""
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7, 11, 13, 17))
    assert all(pow(3, n - 1, n) != 1 for n in range(2**256 + 1, PRIME, 2))


@given(st.binary(min_size=32, max_size=32), st.integers(1, 6), st.integers(0, 3))
def test_any_that_are_enough_give_the_secret_back(secret: bytes, threshold: int, more: int) -> None:
    shares = split(secret, threshold, threshold + more)
    for chosen in itertools.combinations(range(threshold + more), threshold):
        assert combine({holder: shares[holder] for holder in chosen}) == secret
    assert combine(dict(enumerate(shares))) == secret


def test_the_greatest_secret_comes_back() -> None:
    assert combine(dict(enumerate(split(b"\xff" * 32, 3, 5)))) == b"\xff" * 32


def test_one_share_too_few_fits_every_secret() -> None:
    """For any secret there is a last share that makes it: the ones before say nothing."""
    shares = split(os.urandom(32), 3, 3)
    two = {holder: int.from_bytes(shares[holder], "little") for holder in (0, 1)}
    for wanted in (0, 1, 2**256 - 1):
        # The parabola through (0, wanted), (1, y1), (2, y2), at 3: Lagrange by hand.
        third = (wanted - 3 * two[0] + 3 * two[1]) % PRIME
        made = {0: shares[0], 1: shares[1], 2: third.to_bytes(SHARE_BYTES, "little")}
        assert combine(made) == wanted.to_bytes(32, "little")


def test_shares_are_fresh() -> None:
    assert not set(split(bytes(32), 2, 9)) & set(split(bytes(32), 2, 9))


@pytest.mark.parametrize(("threshold", "holders"), [(0, 3), (4, 3), (-1, 3)])
def test_a_threshold_that_cannot_be_is_refused(threshold: int, holders: int) -> None:
    with pytest.raises(ValueError, match="as many holders"):
        split(bytes(32), threshold, holders)


@pytest.mark.parametrize(
    "shares",
    [
        {},
        {0: bytes(32)},
        {0: bytes(34)},
        {0: b"\xff" * 33},
        {-1: bytes(33)},
        {0: PRIME.to_bytes(33, "little")},
    ],
)
def test_shares_that_cannot_be_are_refused(shares: dict[int, bytes]) -> None:
    with pytest.raises(PeerError, match="bad_message"):
        combine(shares)
