"""Rings of words and the masks over them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import ConfigError, PeerError
from isthmus.crypto.masks import mask
from isthmus.crypto.words import Ring, ring_for

WIDTHS = range(1, 9)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "secure_sum.json").read_text("utf-8"))


def edges(width: int) -> list[int]:
    top = 2 ** (8 * width - 1)
    return [0, 1, -1, 2, 127 % top, top - 1, -top, 1 - top]


@pytest.mark.parametrize("width", WIDTHS)
def test_numbers_come_back_from_words_and_from_bytes(width: int) -> None:
    ring, values = Ring(width), np.array(edges(width), dtype=np.int64)
    words = ring.lift(values)
    assert ring.lower(words).tolist() == values.tolist()
    packed = ring.pack(words)
    assert packed == b"".join((v % 2 ** (8 * width)).to_bytes(width, "little") for v in edges(width))
    assert ring.unpack(packed).tolist() == words.tolist()
    assert ring.unpack(b"").tolist() == []


@given(
    st.integers(1, 8), st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 9)), max_size=9)
)
def test_sums_are_those_of_the_integers_modulo_the_ring(width: int, terms: list[tuple[int, int]]) -> None:
    ring, size = Ring(width), 2 ** (8 * width)
    words, plain = ring.zeros(1), 0
    for value, way in terms:
        one = ring.lift(np.array([value], dtype=np.int64))
        (ring.subtract if way % 2 else ring.add)(words, one)
        plain += -value if way % 2 else value
    assert words.tolist() == [plain % size]
    assert ring.lower(words).tolist() == [(plain + size // 2) % size - size // 2]


@pytest.mark.parametrize("width", [0, 9, -1, 255])
def test_no_ring_is_wider_than_eight_bytes(width: int) -> None:
    with pytest.raises(PeerError, match="bad_message"):
        Ring(width)


def test_bytes_that_are_no_whole_number_of_words_are_refused() -> None:
    with pytest.raises(PeerError, match="bad_message"):
        Ring(3).unpack(bytes(7))


@pytest.mark.parametrize(
    ("bits", "reports", "weight", "noise", "width"),
    [(8, 20, 1, 0.0, 2), (8, 100, 1, 0.0, 2), (8, 128, 1, 0.0, 3), (8, 2000, 1, 0.0, 3), (16, 10**5, 1000, 0.0, 6),
     (8, 100, 1, 2000.0, 3)],
)  # fmt: skip
def test_the_ring_is_the_smallest_that_holds_the_sum(
    bits: int, reports: int, weight: int, noise: float, width: int
) -> None:
    ring = ring_for(bits, reports, weight, noise)
    assert ring.width_bytes == width
    most = reports * weight * 2 ** (bits - 1) + 30 * noise
    assert most < 2 ** (8 * width - 1) - 1


def test_a_sum_that_no_ring_holds_is_refused() -> None:
    with pytest.raises(ConfigError, match="out_of_bounds"):
        ring_for(16, 10**5, 2**31, 1e18)


@pytest.mark.parametrize("case", VECTORS["masks"], ids=lambda case: str(case["width_bytes"]))
def test_masks_are_those_on_record(case: dict[str, str]) -> None:
    ring = Ring(int(case["width_bytes"]))
    words = mask(ring, int(case["length"]), bytes.fromhex(case["seed"]), bytes.fromhex(case["info"]))
    assert ring.pack(words).hex() == case["words"]


def test_a_mask_follows_from_seed_and_purpose() -> None:
    seed, ring = hashlib.sha256(b"seed").digest(), Ring(4)
    one = mask(ring, 64, seed, b"one")
    assert one.tolist() == mask(ring, 64, seed, b"one").tolist()
    assert not (one == mask(ring, 64, seed, b"two")).any()
    assert not (one == mask(ring, 64, hashlib.sha256(seed).digest(), b"one")).any()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_byte_of_a_mask_is_uniform(width: int) -> None:
    ring = Ring(width)
    packed = ring.pack(mask(ring, 2**15, hashlib.sha256(b"uniform").digest(), b""))
    for at in range(width):
        counts = np.bincount(np.frombuffer(packed, dtype=np.uint8)[at::width], minlength=256)
        assert float(((counts - 128.0) ** 2 / 128.0).sum()) < 367  # chi-square, 255 degrees: p = 5e-6


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_a_seed_of_another_length_makes_no_mask(seed: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        mask(Ring(4), 1, seed, b"")
