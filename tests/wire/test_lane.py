"""Outbox and inbox by themselves: order, windows, chain, nothing twice."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.base.errors import PeerError
from isthmus.wire.envelope import BODY_MAX_BYTES, MESSAGE_ENDS, STREAM_ENDS, Header, Kind
from isthmus.wire.lane import WINDOW, Frame, Inbox, Lane, Outbox, first_link
from tests.wire.pair import JOB, KEY_A, KEY_B

LINK = first_link(JOB, 0, KEY_A.fingerprint, KEY_B.fingerprint)


def header(frame: Frame) -> Header:
    plain = Header(Kind.PUSH, bytes(16), 0, KEY_A.fingerprint, KEY_B.fingerprint, JOB)
    return replace(plain, number=frame.number, ends=frame.ends, previous=frame.previous)


def offer(inbox: Inbox, frame: Frame) -> None:
    inbox.offer(header(frame), bytes(frame.body), frame.digest)


def sent(outbox: Outbox, number: int) -> Frame:
    frame = outbox.frame(number)
    assert frame is not None
    return frame


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 30))
@pytest.mark.trust("P3", "M12")
def test_frames_lost_doubled_and_out_of_order_come_out_once_each_and_in_order(seed: int, count: int) -> None:
    dice = random.Random(seed)
    outbox, inbox = Outbox(LINK), Inbox(LINK)
    for power in range(count):
        outbox.add((1 << power).to_bytes(8, "little"))
    outbox.add_end()
    under_way: list[Frame] = []
    total = taken = 0
    while not outbox.empty:
        reachable = [n for n in range(outbox.acked + 1, outbox.acked + WINDOW + 1) if n <= outbox.newest]
        act = dice.random()
        if act < 0.4:
            under_way.append(sent(outbox, dice.choice(reachable)))
        elif act < 0.8 and under_way:
            frame = dice.choice(under_way)
            if dice.random() < 0.7:
                under_way.remove(frame)
            if inbox.fits(frame.number):
                offer(inbox, frame)
        elif act < 0.9:
            outbox.acknowledge(inbox.accepted)
        elif (body := inbox.take()) is not None:
            assert int.from_bytes(body, "little") == 1 << taken
            total += int.from_bytes(body, "little")
            taken += 1
    while (body := inbox.take()) is not None:
        total += int.from_bytes(body, "little")
    assert total == 2**count - 1
    assert inbox.ended


@pytest.mark.trust("P4")
def test_a_number_that_comes_again_with_another_body_is_noticed() -> None:
    honest, changed, inbox = Outbox(LINK), Outbox(LINK), Inbox(LINK)
    for body in (b"one", b"two", b"three"):
        honest.add(body)
        changed.add(body + b"!")
    offer(inbox, sent(honest, 1))
    with pytest.raises(PeerError) as caught:
        offer(inbox, sent(changed, 1))
    assert caught.value.code == "step_changed"
    offer(inbox, sent(honest, 3))
    for number in (2, 3):
        with pytest.raises(PeerError) as caught:
            offer(inbox, sent(changed, number))
        assert caught.value.code == "step_changed"
    assert inbox.accepted == 1


def test_a_frame_that_does_not_continue_the_chain_is_noticed() -> None:
    outbox, inbox = Outbox(LINK), Inbox(LINK)
    outbox.add(b"one")
    frame = sent(outbox, 1)
    with pytest.raises(PeerError) as caught:
        inbox.offer(replace(header(frame), previous=bytes(32)), b"one", frame.digest)
    assert caught.value.code == "step_changed"


@pytest.mark.parametrize(
    ("number", "ends", "body"),
    [
        (0, MESSAGE_ENDS, b"x"),
        (1, MESSAGE_ENDS | STREAM_ENDS, b""),
        (1, STREAM_ENDS, b"x"),
        (1, 0, b"short"),
        (1, 0, b""),
    ],
)
def test_what_is_not_a_frame_is_refused(number: int, ends: int, body: bytes) -> None:
    inbox = Inbox(LINK)
    plain = Header(Kind.PUSH, bytes(16), 0, KEY_A.fingerprint, KEY_B.fingerprint, JOB)
    with pytest.raises(PeerError) as caught:
        inbox.offer(
            replace(plain, number=number, ends=ends, previous=LINK), body, hashlib.sha256(body).digest()
        )
    assert caught.value.code == "bad_message"


def test_nothing_follows_the_end_and_no_message_is_cut_by_it() -> None:
    outbox, inbox = Outbox(LINK), Inbox(LINK)
    outbox.add_end()
    outbox.add(b"late")
    offer(inbox, sent(outbox, 1))
    with pytest.raises(PeerError):
        offer(inbox, sent(outbox, 2))
    outbox, inbox = Outbox(LINK), Inbox(LINK)
    outbox.add(bytes(BODY_MAX_BYTES + 1))
    outbox.add_end()
    first, end = sent(outbox, 1), sent(outbox, 3)
    offer(inbox, first)
    second = sent(outbox, 2)
    cut = Frame(2, STREAM_ENDS, memoryview(b""), hashlib.sha256(b"").digest(), second.previous)
    with pytest.raises(PeerError):
        offer(inbox, cut)
    assert end.number == 3


def test_messages_are_cut_into_full_frames_and_put_together_again() -> None:
    outbox, inbox = Outbox(LINK), Inbox(LINK)
    sizes = [0, 1, BODY_MAX_BYTES, BODY_MAX_BYTES + 1, 3 * BODY_MAX_BYTES - 1]
    for size in sizes:
        outbox.add(bytes([size % 251]) * size)
    assert outbox.newest == 1 + 1 + 1 + 2 + 3
    bodies = []
    for number in range(1, outbox.newest + 1):
        offer(inbox, sent(outbox, number))
        outbox.acknowledge(inbox.accepted)
        if (body := inbox.take()) is not None:
            bodies.append(body)
    assert bodies == [bytes([size % 251]) * size for size in sizes]


def test_an_acknowledgement_of_what_was_never_sent_is_refused() -> None:
    outbox = Outbox(LINK)
    outbox.add(b"one")
    with pytest.raises(PeerError):
        outbox.acknowledge(1)
    sent(outbox, 1)
    assert outbox.acknowledge(1)
    assert not outbox.acknowledge(1)
    assert not outbox.acknowledge(0)


def test_a_frame_beyond_the_window_waits_at_the_sender() -> None:
    outbox, inbox = Outbox(LINK), Inbox(LINK)
    for _ in range(WINDOW + 2):
        outbox.add(b"x")
    assert outbox.frame(WINDOW) is not None
    assert outbox.frame(WINDOW + 1) is None
    assert inbox.fits(WINDOW)
    assert not inbox.fits(WINDOW + 1)
    assert not outbox.has_room


def test_one_question_is_under_way_while_nothing_is_known_to_wait() -> None:
    inbox = Inbox(LINK)
    assert inbox.wanted() == 1
    inbox.pulling.add(1)
    assert inbox.wanted() is None
    inbox.known = 3
    assert inbox.wanted() == 2
    inbox.pulling.add(2)
    assert inbox.wanted() == 3
    inbox.pulling.add(3)
    assert inbox.wanted() is None


def test_a_failed_channel_keeps_its_first_error() -> None:
    lane = Lane(JOB, 0, KEY_A.fingerprint, KEY_B.fingerprint)
    lane.fail(PeerError("step_changed"))
    lane.fail(PeerError("wrong_channel"))
    with pytest.raises(PeerError) as caught:
        lane.check()
    assert caught.value.code == "step_changed"
    assert caught.value is not lane.error
