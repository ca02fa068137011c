"""Consent: a party signs the hash of the job file, for one run, with its party key. Nothing runs without every signature."""

from __future__ import annotations

import hashlib

from isthmus.crypto.seal import PartyKey, Publics, verify

_CONSENT = b"isthmus/job-consent/v1\0"
_RUN = b"isthmus/job-run/v1\0"


def run_digest(job_digest: bytes, number: int) -> bytes:
    """32 bytes that name one run of a job file; the channels of that run are opened under it."""
    return hashlib.sha256(_RUN + job_digest + number.to_bytes(4, "big")).digest()


def sign(job_digest: bytes, number: int, party: str, key: PartyKey) -> bytes:
    """The consent of `party`, 64 bytes."""
    return key.sign(_text(job_digest, number, party))


def verify_consent(job_digest: bytes, number: int, party: str, public_key: Publics, signature: bytes) -> None:
    """Raises PeerError `bad_signature` unless `party` has signed this run of this job file, with one of these keys."""
    verify(public_key, signature, _text(job_digest, number, party), party)


def _text(job_digest: bytes, number: int, party: str) -> bytes:
    return _CONSENT + run_digest(job_digest, number) + party.encode()
