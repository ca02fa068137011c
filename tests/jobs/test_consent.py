"""Consent to one run of one job file by one party."""

import pytest

from isthmus.base.errors import PeerError
from isthmus.crypto.seal import PartyKey
from isthmus.jobs.consent import run_digest, sign, verify_consent

DIGEST, OTHER = bytes(range(32)), bytes(32)


def test_a_consent_holds_for_its_party_run_and_file_only() -> None:
    key, stranger = PartyKey.generate(), PartyKey.generate()
    signature = sign(DIGEST, 1, "bank", key)
    verify_consent(DIGEST, 1, "bank", key.public, signature)
    for digest, number, party, public in (
        (OTHER, 1, "bank", key.public),
        (DIGEST, 2, "bank", key.public),
        (DIGEST, 1, "data-co", key.public),
        (DIGEST, 1, "bank", stranger.public),
    ):
        with pytest.raises(PeerError) as caught:
            verify_consent(digest, number, party, public, signature)
        assert caught.value.code == "bad_signature"


def test_a_signature_over_the_bare_hash_is_no_consent() -> None:
    key = PartyKey.generate()
    for text in (DIGEST, run_digest(DIGEST, 1)):
        with pytest.raises(PeerError):
            verify_consent(DIGEST, 1, "bank", key.public, key.sign(text))
    with pytest.raises(PeerError):
        verify_consent(DIGEST, 1, "bank", key.public, b"")


def test_every_run_has_channels_of_its_own() -> None:
    assert len({run_digest(d, n) for d in (DIGEST, OTHER) for n in (1, 2)}) == 4
