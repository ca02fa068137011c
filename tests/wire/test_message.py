"""Messages: what is encoded comes back; whatever else comes is a PeerError."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from isthmus.base.errors import PeerError
from isthmus.crypto.sealed import SealedCiphertexts
from isthmus.wire import message
from isthmus.wire.message import (
    Abort,
    Array,
    Blob,
    Flag,
    Message,
    Number,
    Raw,
    Reader,
    RowSets,
    Sealed,
    Text,
    kind_of,
)
from isthmus.wire.peer import said


@dataclass(frozen=True)
class Everything(Message):
    KIND: ClassVar[int] = 0x7F01
    flag: Annotated[bool, Flag()]
    count: Annotated[int, Number("Q")]
    value: Annotated[float, Number("d")]
    name: Annotated[str, Text(40)]
    blob: Annotated[bytes, Blob(100)]
    tag: Annotated[bytes, Raw(8)]
    table: Annotated[NDArray[np.int32], Array("i4", None, 3)]
    sums: Annotated[SealedCiphertexts, Sealed(16)]


def example() -> Everything:
    rows = np.arange(24, dtype=np.uint8).reshape(3, 8)
    sums = SealedCiphertexts(rows, freshly_randomised=True)
    table = np.arange(6, dtype=np.int32).reshape(2, 3)
    return Everything(True, 7, 0.5, "名", b"xyz", b"12345678", table, sums)


texts = st.text(max_size=10).filter(str.isprintable)


@settings(max_examples=60, deadline=None)
@given(
    flag=st.booleans(),
    count=st.integers(0, 2**64 - 1),
    value=st.floats(allow_nan=False),
    name=texts,
    blob=st.binary(max_size=100),
    tag=st.binary(min_size=8, max_size=8),
    table=arrays.arrays(np.int32, st.tuples(st.integers(0, 5), st.just(3))),
    rows=arrays.arrays(np.uint8, st.tuples(st.integers(0, 4), st.integers(1, 16))),
)
def test_a_message_comes_back_as_it_was(
    flag: bool,
    count: int,
    value: float,
    name: str,
    blob: bytes,
    tag: bytes,
    table: NDArray[np.int32],
    rows: NDArray[np.uint8],
) -> None:
    sums = SealedCiphertexts(rows, freshly_randomised=True)
    sent = Everything(flag, count, value, name, blob, tag, table, sums)
    body = sent.encode()
    back = Everything.decode(body)
    assert kind_of(body) == Everything.KIND
    assert (back.flag, back.count, back.value, back.name, back.blob, back.tag) == (
        flag,
        count,
        value,
        name,
        blob,
        tag,
    )
    assert np.array_equal(back.table, table)
    assert np.array_equal(back.sums.rows, rows)
    assert back.encode() == body


def test_a_message_cut_anywhere_is_refused() -> None:
    body = example().encode()
    for size in range(len(body)):
        with pytest.raises(PeerError):
            Everything.decode(body[:size])
    with pytest.raises(PeerError):
        Everything.decode(body + b"\0")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_a_peer_error(noise: bytes) -> None:
    for body in (
        noise,
        Everything.KIND.to_bytes(2, "little") + noise,
        Abort.KIND.to_bytes(2, "little") + noise,
    ):
        for kind in (Everything, Abort):
            with contextlib.suppress(PeerError):
                kind.decode(body)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(example().encode()) - 1), bits=st.integers(1, 255))
def test_a_changed_byte_raises_nothing_but_a_peer_error(at: int, bits: int) -> None:
    body = bytearray(example().encode())
    body[at] ^= bits
    with contextlib.suppress(PeerError):
        Everything.decode(bytes(body))


def test_an_array_that_declares_more_than_is_there_is_refused_before_memory_is_taken() -> None:
    body = example().encode()
    shape = (2).to_bytes(4, "little") + (3).to_bytes(4, "little")
    at = body.index(shape)
    huge = (2**32 - 1).to_bytes(4, "little") + (3).to_bytes(4, "little")
    with pytest.raises(PeerError):
        Everything.decode(body[:at] + huge + body[at + 8 :])


def test_a_message_of_another_kind_is_refused() -> None:
    with pytest.raises(PeerError) as caught:
        Everything.decode(Abort("bug").encode())
    assert caught.value.code == "bad_message"


def test_a_raw_array_cannot_be_sent_where_ciphertexts_are_due() -> None:
    sent = example()
    with pytest.raises(TypeError):
        Everything(
            sent.flag,
            sent.count,
            sent.value,
            sent.name,
            sent.blob,
            sent.tag,
            sent.table,
            sent.sums.rows,  # type: ignore[arg-type]
        ).encode()


rows_of_a_set = st.sets(st.integers(0, 3000), max_size=400) | st.sets(st.integers(0, 2**24), max_size=5)


@settings(max_examples=80, deadline=None)
@given(st.lists(rows_of_a_set, max_size=4))
def test_sets_of_rows_come_back(sets: list[set[int]]) -> None:
    given_ = [np.array(sorted(rows), dtype=np.int64) for rows in sets]
    source = Reader(RowSets().write(given_))
    found = RowSets().read(source)
    source.end()
    assert [f.tolist() for f in found] == [g.tolist() for g in given_]


def test_sets_of_rows_take_a_byte_a_row_or_a_bit_of_all_rows_at_most() -> None:
    draw = np.random.default_rng(1)
    for share in (0.001, 0.1, 0.5, 1.0):
        rows = np.flatnonzero(draw.random(100_000) < share)
        size = len(RowSets().write([rows]))
        assert size <= min(len(rows) + 100_000 // 255, 100_000 // 8) + 16


@pytest.mark.parametrize("rows", [[3, 3], [5, 4], [-1]])
def test_rows_that_do_not_ascend_are_not_sent(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        RowSets().write([np.array(rows)])


@pytest.mark.parametrize(
    "body",
    [
        b"\x01\x00\x00\x00\x02\x01\x00\x00\x00\x01",  # a form that does not exist
        b"\x01\x00\x00\x00\x00\x02\x00\x00\x00\x05\x00",  # a row twice
        b"\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00",  # a row before the first
        b"\x01\x00\x00\x00\x00\x01\x00\x00\x00\xff",  # a gap without an end
        b"\x01\x00\x00\x00\x01\x09\x00\x00\x00\xff",  # shorter than it says
        b"\xff\xff\xff\xff",  # more sets than there are
    ],
)
def test_sets_of_rows_in_any_other_form_are_refused(body: bytes) -> None:
    with pytest.raises(PeerError):
        RowSets().read(Reader(body))


def test_sets_of_more_rows_than_any_may_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message, "ROWS_IN_SETS_MAX", 100)
    rows = np.arange(60)
    assert len(RowSets().read(Reader(RowSets().write([rows])))) == 1
    with pytest.raises(PeerError):
        RowSets().read(Reader(RowSets().write([rows, rows])))


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\0", "a\tb", "\u202eab", "\u2028", "\x7f", "\x9b31m"])
def test_a_text_that_would_steer_a_terminal_is_refused(text: str) -> None:
    with pytest.raises(PeerError, match="bad_message"):
        Abort.decode(Abort(text).encode())


@pytest.mark.parametrize("code", [b"\x1b[2J", b"a\nb", b"\x00", b"\x7f"])
def test_a_code_that_would_steer_a_terminal_becomes_one_that_says_so(code: bytes) -> None:
    assert str(said(code)).isprintable()
    assert said(code).code == "bad_message"


def test_a_text_may_be_in_any_script() -> None:
    assert Abort.decode(Abort("作业 job_1").encode()).code == "作业 job_1"
