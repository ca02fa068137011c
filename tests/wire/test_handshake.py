"""The signed handshake: pinned keys on both sides, nobody in the middle, no weak keys, no silent downgrade."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from isthmus.base.errors import IsthmusError, LineError, LocalError, PeerError
from isthmus.crypto.seal import (
    GREETING_BYTES,
    Dialing,
    PartyKey,
    SessionKeys,
    answer,
    fingerprint,
    seal,
    unseal,
    verify,
)
from tests.wire.pair import KEY_A, KEY_B, KEY_C

SHARE = slice(40, 72)
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def dial(own: PartyKey = KEY_B, to: PartyKey = KEY_A) -> Dialing:
    return Dialing(own, to.public, b"b" * 16, 1000, 20_000, partner="a")


def listen(hello: bytes, own: PartyKey = KEY_A, known: PartyKey = KEY_B) -> tuple[bytes, SessionKeys]:
    return answer(own, known.public, hello, b"a" * 16, 2000, partner="b")


def code_of(act: Callable[..., object], *given: object) -> str:
    with pytest.raises(IsthmusError) as caught:
        act(*given)
    assert isinstance(caught.value, (PeerError, LineError))
    return caught.value.code


def test_both_sides_end_with_the_same_session_and_opposite_keys() -> None:
    dialing = dial()
    reply, theirs = listen(dialing.hello)
    ours = dialing.finish(reply)
    assert len(dialing.hello) == len(reply) == GREETING_BYTES
    assert ours.id == theirs.id
    assert ours.theirs.boot == b"a" * 16
    assert (theirs.theirs.boot, theirs.theirs.poll_ms, theirs.theirs.time_ms) == (b"b" * 16, 20_000, 1000)
    envelope = seal(ours.sending, KEY_B, 1, b"header", b"body", hashlib.sha256(b"body").digest())
    assert unseal(theirs.receiving, KEY_B.public, 1, envelope, 6, "b")[0] == b"body"
    assert code_of(lambda: unseal(theirs.sending, KEY_B.public, 1, envelope, 6, "b")) == "bad_message"
    assert code_of(lambda: unseal(theirs.receiving, KEY_B.public, 2, envelope, 6, "b")) == "bad_message"
    assert code_of(lambda: unseal(theirs.receiving, KEY_C.public, 1, envelope, 6, "b")) == "bad_signature"


def test_two_handshakes_never_share_keys() -> None:
    sessions = set()
    for _ in range(3):
        dialing = dial()
        sessions.add(dialing.finish(listen(dialing.hello)[0]).id)
    assert len(sessions) == 3


@pytest.mark.trust("T22")
def test_a_changed_byte_of_either_greeting_is_refused() -> None:
    hello = dial().hello
    for at in range(len(hello)):
        changed = hello[:at] + bytes([hello[at] ^ 1]) + hello[at + 1 :]
        assert code_of(listen, changed) in (
            "bad_message",
            "bad_signature",
            "wrong_channel",
            "version_gap",
        )
    dialing = dial()
    reply, _ = listen(dialing.hello)
    for at in range(len(reply)):
        changed = reply[:at] + bytes([reply[at] ^ 1]) + reply[at + 1 :]
        code_of(dialing.finish, changed)
    assert dialing.finish(reply).id


@pytest.mark.trust("T22")
def test_somebody_in_the_middle_who_puts_in_a_key_of_its_own_is_refused() -> None:
    dialing, middle = dial(), dial(KEY_C)
    hello = bytearray(dialing.hello)
    hello[SHARE] = middle.hello[SHARE]
    assert code_of(lambda: listen(bytes(hello))) == "bad_signature"
    reply, _ = listen(dialing.hello)
    changed = bytearray(reply)
    changed[SHARE] = middle.hello[SHARE]
    assert code_of(lambda: dialing.finish(bytes(changed))) == "bad_signature"


def test_an_answer_by_another_party_or_to_another_greeting_is_refused() -> None:
    dialing = dial()
    assert code_of(lambda: dialing.finish(listen(dial(KEY_B, KEY_C).hello, KEY_C)[0])) == "wrong_channel"
    assert code_of(lambda: dialing.finish(listen(dial(KEY_C).hello, KEY_A, KEY_C)[0])) == "wrong_channel"
    assert code_of(lambda: dialing.finish(listen(dial().hello)[0])) == "bad_signature"
    assert code_of(lambda: dialing.finish(dialing.hello)) == "wrong_channel"


def test_a_greeting_meant_for_somebody_else_is_refused() -> None:
    assert code_of(lambda: listen(dial(KEY_B, KEY_C).hello)) == "wrong_channel"
    assert code_of(lambda: listen(dial(KEY_C, KEY_A).hello)) == "wrong_channel"


def test_a_session_key_of_low_order_is_refused_even_when_signed() -> None:
    for share in LOW_ORDER:
        hello = bytearray(dial().hello)
        hello[SHARE] = share
        body = bytes(hello[:-64])
        signed = body + KEY_B.sign(b"isthmus/link/hello/v1" + body)
        assert code_of(listen, signed) == "bad_key"


@pytest.mark.trust("P9")
def test_another_version_or_suite_is_named_before_anything_else() -> None:
    newer = Dialing(KEY_B, KEY_A.public, bytes(16), 0, 0, version=2)
    with pytest.raises(LineError) as caught:
        listen(newer.hello)
    assert caught.value.code == "version_gap"
    assert (caught.value.fields["theirs"], caught.value.fields["ours"]) == (2, 1)
    other = bytearray(dial().hello)
    other[6] = 2
    assert code_of(lambda: listen(bytes(other))) == "version_gap"


def test_a_handshake_is_finished_once() -> None:
    dialing = dial()
    reply, _ = listen(dialing.hello)
    dialing.finish(reply)
    with pytest.raises(LocalError) as caught:
        dialing.finish(reply)
    assert caught.value.code == "secret_spent"


def test_a_party_key_comes_back_from_its_bytes_and_does_not_show_them() -> None:
    key = PartyKey.generate()
    same = PartyKey.from_bytes(key.to_bytes())
    assert same.public == key.public
    assert same.fingerprint == fingerprint(key.public)
    assert key.to_bytes().hex() not in repr(key)
    assert repr(key.to_bytes()) not in repr(key)
    verify(key.public, same.sign(b"text"), b"text")
    assert code_of(lambda: verify(key.public, same.sign(b"text"), b"other")) == "bad_signature"
    assert code_of(lambda: verify(b"short", bytes(64), b"other")) == "bad_signature"


def test_session_keys_do_not_show_themselves() -> None:
    _, keys = listen(dial().hello)
    assert "ChaCha" not in repr(keys)
