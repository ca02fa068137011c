"""The envelope: fixed bytes for fixed keys, and no byte of it can be changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.base.errors import PeerError
from isthmus.crypto.seal import Dialing, answer
from isthmus.wire.envelope import (
    BODY_MAX_BYTES,
    ENVELOPE_MAX_BYTES,
    HEADER_BYTES,
    MESSAGE_ENDS,
    OVERHEAD_BYTES,
    STREAM_ENDS,
    Header,
    Kind,
    read_header,
)
from isthmus.wire.lane import first_link, next_link
from isthmus.wire.session import Session
from tests.wire.pair import JOB, KEY_A, KEY_B

VECTORS = Path(__file__).parents[1] / "vectors" / "envelope.json"


def sessions() -> tuple[Session, Session, bytes, bytes]:
    """(dialer B, listener A, hello, reply), always the same ones."""
    dialing = Dialing(
        KEY_B,
        KEY_A.public,
        b"B" * 16,
        1_700_000_000_000,
        20_000,
        ephemeral=X25519PrivateKey.from_private_bytes(b"x" * 32),
    )
    reply, theirs = answer(
        KEY_A,
        KEY_B.public,
        dialing.hello,
        b"A" * 16,
        1_700_000_000_500,
        ephemeral=X25519PrivateKey.from_private_bytes(b"y" * 32),
    )
    ours = dialing.finish(reply)
    return (
        Session(KEY_B, KEY_A.public, ours, "a"),
        Session(KEY_A, KEY_B.public, theirs, "b"),
        dialing.hello,
        reply,
    )


def transcript() -> dict[str, str]:
    """A handshake, two frames of a channel and the answer to the first, in hexadecimal."""
    b, a, hello, reply = sessions()
    link = first_link(JOB, 3, KEY_B.fingerprint, KEY_A.fingerprint)
    where: dict[str, Any] = {"job": JOB, "channel": 3}
    _, first = b.seal(Kind.PUSH, b"hello", **where, number=1, ends=MESSAGE_ENDS, previous=link)
    link = next_link(link, 1, MESSAGE_ENDS, hashlib.sha256(b"hello").digest())
    _, acked = a.seal(Kind.ACK, **where, answers=1, ack=1)
    _, last = b.seal(Kind.PUSH, b"", **where, number=2, ends=STREAM_ENDS, previous=link)
    return {
        "public_a": KEY_A.public.hex(),
        "public_b": KEY_B.public.hex(),
        "fingerprint_a": KEY_A.fingerprint.hex(),
        "hello": hello.hex(),
        "reply": reply.hex(),
        "session": b.id.hex(),
        "push_1": first.hex(),
        "ack_1": acked.hex(),
        "push_2": last.hex(),
        "chain_after_2": next_link(link, 2, STREAM_ENDS, hashlib.sha256(b"").digest()).hex(),
    }


def test_fixed_keys_give_the_bytes_on_record() -> None:
    assert transcript() == json.loads(VECTORS.read_text())


def test_the_envelope_on_record_opens() -> None:
    _, a, _, _ = sessions()
    header, body, digest = a.open(bytes.fromhex(json.loads(VECTORS.read_text())["push_1"]))
    assert (header.kind, header.number, header.channel, header.job) == (Kind.PUSH, 1, 3, JOB)
    assert (body, digest) == (b"hello", hashlib.sha256(b"hello").digest())


@pytest.mark.trust("P1", "M15")
def test_no_byte_of_an_envelope_can_be_changed_added_or_left_out() -> None:
    b, a, _, _ = sessions()
    _, envelope = b.seal(Kind.PUSH, b"a short body", job=JOB, number=1, ends=MESSAGE_ENDS)
    for at in range(len(envelope)):
        for bit in (1, 128):
            changed = bytearray(envelope)
            changed[at] ^= bit
            with pytest.raises(PeerError) as caught:
                a.open(bytes(changed))
            assert caught.value.code == "bad_message"
    for size in range(len(envelope)):
        with pytest.raises(PeerError):
            a.open(envelope[:size])
    with pytest.raises(PeerError):
        a.open(envelope + b"\0")
    assert a.open(envelope)[1] == b"a short body"


@pytest.mark.trust("M14")
def test_an_envelope_reflected_to_its_sender_does_not_open() -> None:
    b, a, _, _ = sessions()
    _, envelope = b.seal(Kind.PUSH, b"x", job=JOB)
    with pytest.raises(PeerError):
        b.open(envelope)
    assert a.open(envelope)[1] == b"x"


@pytest.mark.trust("T22")
def test_parts_of_two_envelopes_do_not_fit_together() -> None:
    b, a, _, _ = sessions()
    _, one = b.seal(Kind.PUSH, b"body one", job=JOB, number=1)
    _, two = b.seal(Kind.PUSH, b"body two", job=JOB, number=2)
    cuts = (HEADER_BYTES, HEADER_BYTES + 80)
    for mixed in (
        one[: cuts[0]] + two[cuts[0] :],
        one[: cuts[1]] + two[cuts[1] :],
        one[: cuts[0]] + two[cuts[0] : cuts[1]] + one[cuts[1] :],
    ):
        with pytest.raises(PeerError):
            a.open(mixed)


@pytest.mark.trust("M13")
def test_the_counter_rises_with_every_envelope() -> None:
    b, a, _, _ = sessions()
    counters = [read_header(b.seal(Kind.PING)[1]).counter for _ in range(5)]
    assert counters == [1, 2, 3, 4, 5]
    assert read_header(a.seal(Kind.PONG)[1]).counter == 1


def test_the_longest_envelope_is_exactly_a_mebibyte() -> None:
    b, a, _, _ = sessions()
    _, envelope = b.seal(Kind.PUSH, bytes(BODY_MAX_BYTES), job=JOB)
    assert len(envelope) == ENVELOPE_MAX_BYTES == BODY_MAX_BYTES + OVERHEAD_BYTES == 2**20
    assert len(a.open(envelope)[1]) == BODY_MAX_BYTES
    _, longer = b.seal(Kind.PUSH, bytes(BODY_MAX_BYTES + 1), job=JOB)
    with pytest.raises(PeerError):
        a.open(longer)


@pytest.mark.trust("T23")
def test_the_body_does_not_show_in_the_envelope() -> None:
    b, _, _, _ = sessions()
    canary = b"canary-canary-canary"
    _, envelope = b.seal(Kind.PUSH, canary * 10, job=JOB)
    assert canary not in envelope
    assert hashlib.sha256(canary * 10).digest() not in envelope


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
@pytest.mark.trust("P1")
def test_random_bytes_raise_nothing_but_a_peer_error(noise: bytes) -> None:
    _, a, _, _ = sessions()
    front = Header(Kind.PUSH, a.id, 1, KEY_B.fingerprint, KEY_A.fingerprint).pack()
    for body in (noise, front + noise, front[: len(noise)] + noise):
        with contextlib.suppress(PeerError):
            a.open(body)


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(Kind),
    counter=st.integers(0, 2**64 - 1),
    channel=st.integers(0, 2**16 - 1),
    number=st.integers(0, 2**64 - 1),
    ends=st.integers(0, 3),
    ack=st.integers(0, 2**64 - 1),
    size=st.integers(0, 100),
)
def test_a_header_comes_back_as_it_was(
    kind: Kind, counter: int, channel: int, number: int, ends: int, ack: int, size: int
) -> None:
    header = Header(
        kind, b"s" * 16, counter, b"f" * 16, b"t" * 16, JOB, channel, number, ends, b"p" * 32, ack, 9, 8, size
    )
    packed = header.pack()
    assert read_header(packed, OVERHEAD_BYTES + size) == header
    assert replace(header).pack() == packed
    with pytest.raises(PeerError):
        read_header(packed, OVERHEAD_BYTES + size + 1)
