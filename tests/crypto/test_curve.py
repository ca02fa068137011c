"""ristretto255 against RFC 9496, and the points that no honest partner sends (T6)."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import rbcl
from numpy.typing import NDArray

from isthmus.base.errors import PeerError
from isthmus.crypto.curve import Scalar, blind_ids, blind_points, hash_to_point, random_scalar

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "ristretto255.json").read_text())
MULTIPLES = [bytes.fromhex(text) for text in VECTORS["multiples_of_the_generator"]]
BAD = [(why, text) for why, texts in VECTORS["bad_encodings"].items() for text in texts]
UNIFORM = [(case["bytes"], case["point"]) for case in VECTORS["points_of_uniform_bytes"]]
GENERATOR = MULTIPLES[1]


def small(value: int) -> Scalar:
    return Scalar(value.to_bytes(32, "little"))


def points_of(*rows: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)


def refusal(points: NDArray[np.uint8]) -> str:
    with pytest.raises(PeerError) as caught:
        blind_points(points, random_scalar())
    assert caught.value.code == "bad_message"
    return str(caught.value.fields["why"])


def test_multiples_of_the_generator_are_those_of_the_rfc() -> None:
    assert len(MULTIPLES) == 16
    for factor in range(1, 16):
        assert small(factor).times(GENERATOR) == MULTIPLES[factor]


def test_blinded_points_are_the_multiples_of_the_rfc() -> None:
    blinded = blind_points(points_of(MULTIPLES[1], MULTIPLES[2], MULTIPLES[5]), small(3))
    assert [row.tobytes() for row in blinded] == [MULTIPLES[3], MULTIPLES[6], MULTIPLES[15]]


@pytest.mark.parametrize(("uniform", "point"), UNIFORM)
def test_uniform_bytes_map_to_the_point_of_the_rfc(
    uniform: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Digest:
        def digest(self) -> bytes:
            return bytes.fromhex(uniform)

    monkeypatch.setattr("isthmus.crypto.curve.hashlib.sha512", lambda name: Digest())
    assert hash_to_point(b"domain", b"id").hex() == point


@pytest.mark.parametrize(("why", "encoding"), BAD)
def test_a_bad_encoding_of_the_rfc_is_refused(why: str, encoding: str) -> None:
    assert "canonical" in refusal(points_of(GENERATOR, bytes.fromhex(encoding)))


def test_the_identity_is_refused() -> None:
    assert "identity" in refusal(points_of(GENERATOR, MULTIPLES[0]))


def test_points_that_are_all_equal_are_refused() -> None:
    assert "equal" in refusal(points_of(GENERATOR, GENERATOR))


@pytest.mark.parametrize("width", [31, 33])
def test_points_of_another_width_are_refused(width: int) -> None:
    assert "32 bytes" in refusal(np.ones((2, width), dtype=np.uint8))


def test_one_point_alone_and_no_point_are_accepted() -> None:
    assert blind_points(points_of(GENERATOR), small(2)).tobytes() == MULTIPLES[2]
    assert blind_points(np.empty((0, 32), dtype=np.uint8), small(2)).shape == (0, 32)
    assert blind_ids([], b"domain", small(2)).shape == (0, 32)


def test_both_orders_of_blinding_give_the_same_points() -> None:
    ids = [f"{number}".encode() for number in range(40)]
    mine, theirs = random_scalar(), random_scalar()
    one = blind_points(blind_ids(ids, b"job", mine), theirs)
    other = blind_points(blind_ids(ids, b"job", theirs), mine)
    assert np.array_equal(one, other)
    assert len(np.unique(one, axis=0)) == 40


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_does_not_change_points_or_their_order(threads: int) -> None:
    ids = [f"{number}".encode() for number in range(7)]
    scalar = random_scalar()
    expected = b"".join(scalar.times(hash_to_point(b"job", identifier)) for identifier in ids)
    assert blind_ids(ids, b"job", scalar, threads=threads).tobytes() == expected


def test_domain_and_id_cannot_be_shifted_into_each_other() -> None:
    names = [(b"ab", b"c"), (b"a", b"bc"), (b"", b"abc"), (b"abc", b"")]
    assert len({hash_to_point(*name) for name in names}) == 4


def test_a_point_of_an_id_is_on_the_group_and_stays_the_same() -> None:
    point = hash_to_point(b"job", b"13800138000")
    assert rbcl.crypto_core_ristretto255_is_valid_point(point)
    assert point == hash_to_point(b"job", b"13800138000")


def test_the_inverse_scalar_takes_the_blinding_off() -> None:
    scalar = random_scalar()
    assert scalar.inverse().times(scalar.times(GENERATOR)) == GENERATOR


@pytest.mark.parametrize(
    "data",
    [
        bytes(32),
        bytes(31),
        bytes(33),
        (2**252 + 27742317777372353535851937790883648493).to_bytes(32, "little"),
    ],
)
def test_a_scalar_that_is_zero_too_large_or_of_another_length_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        Scalar(data)


def test_a_scalar_has_no_readable_form_no_equality_and_no_serialiser() -> None:
    scalar = small(7)
    assert "7" not in f"{scalar!r} {scalar!s}"
    with pytest.raises(TypeError):
        assert scalar == scalar
    with pytest.raises(TypeError):
        pickle.dumps(scalar)
