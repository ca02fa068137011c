"""Sealing to one reader: the vector of RFC 9180 (appendix A.1.1), purposes, bad bytes."""

from __future__ import annotations

import pytest

from isthmus.base.errors import PeerError
from isthmus.crypto.hpke import OVERHEAD_BYTES, SealingKey, seal_to
from tests.crypto import rfc9180

READER = bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
SENDER = bytes.fromhex("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736")
INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
BODY = b"Beauty is truth, truth beauty"


def test_the_hand_that_makes_vectors_agrees_with_the_rfc() -> None:
    sealed = rfc9180.seal(SENDER, SealingKey.from_bytes(READER).public, BODY, INFO, b"Count-0")
    assert sealed.hex() == (
        "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
    )


def test_the_product_opens_what_that_hand_seals() -> None:
    key = SealingKey.from_bytes(READER)
    assert key.open(rfc9180.seal(SENDER, key.public, BODY, INFO), INFO) == BODY


def test_what_is_sealed_opens_for_its_reader_and_purpose_alone() -> None:
    key, other = SealingKey.generate(), SealingKey.generate()
    sealed = seal_to(key.public, BODY, INFO)
    assert len(sealed) == len(BODY) + OVERHEAD_BYTES
    assert SealingKey.from_bytes(key.to_bytes()).open(sealed, INFO) == BODY
    assert seal_to(key.public, BODY, INFO) != sealed
    for reader, info in ((other, INFO), (key, INFO + b"x"), (key, b"")):
        with pytest.raises(PeerError, match="bad_ciphertext"):
            reader.open(sealed, info)


@pytest.mark.parametrize("at", [0, 31, 32, 60, -1])
def test_a_changed_byte_does_not_open(at: int) -> None:
    key = SealingKey.from_bytes(READER)
    sealed = bytearray(seal_to(key.public, BODY, INFO))
    sealed[at] ^= 1
    with pytest.raises(PeerError, match="bad_ciphertext"):
        key.open(bytes(sealed), INFO)


@pytest.mark.parametrize("sealed", [b"", bytes(31), bytes(32), bytes(80)])
def test_bytes_that_are_nothing_do_not_open(sealed: bytes) -> None:
    with pytest.raises(PeerError, match="bad_ciphertext"):
        SealingKey.from_bytes(READER).open(sealed, INFO)


@pytest.mark.parametrize("public", [bytes(32), (1).to_bytes(32, "little"), b"", bytes(31)])
def test_nothing_is_sealed_to_a_key_of_low_order_or_another_length(public: bytes) -> None:
    with pytest.raises(PeerError, match="bad_key"):
        seal_to(public, BODY, INFO)


def test_a_key_shows_nothing_of_its_secret() -> None:
    assert READER.hex()[:8] not in repr(SealingKey.from_bytes(READER))
