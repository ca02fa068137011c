"""The phases of a round: whatever happens, it ends by its time, and what is due is due until it is done."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from isthmus.base.typed_json import read, write
from isthmus.fleet.rounds import (
    ABORTED,
    ANSWERING,
    COLLECTING,
    ENDED,
    FORMING,
    LOOKING,
    OPENED,
    Answered,
    Ask,
    BatchState,
    Cancelled,
    Form,
    Formed,
    Look,
    Looked,
    Open,
    Refusal,
    RoundState,
    Tick,
    Took,
    due,
    form,
    opened,
    step,
)

START = RoundState(COLLECTING, target=30, least=20, deadline_ms=1000, answer_ms=500)
BATCHES = (BatchState(b"a" * 16, 20), BatchState(b"b" * 16, 21))


def looking(reports: int = 41) -> RoundState:
    return step(replace(START, target=reports), Took(reports), 10)


def answering() -> RoundState:
    state = step(step(looking(), Looked(0), 20), Looked(1), 30)
    return step(state, Formed(BATCHES), 40)


def test_enough_reports_close_a_round_before_its_deadline() -> None:
    state = step(START, Took(29), 10)
    assert state.phase == COLLECTING
    assert due(state) == ()
    state = step(state, Took(1), 20)
    assert (state.phase, state.answer_by_ms) == (LOOKING, 520)
    assert due(state) == (Look(0), Look(1))


@pytest.mark.parametrize(("reports", "phase", "reason"), [(20, LOOKING, ""), (19, ABORTED, "too_few")])
def test_at_the_deadline_the_least_number_decides(reports: int, phase: str, reason: str) -> None:
    state = step(step(START, Took(reports), 10), Tick(), 1000)
    assert (state.phase, state.reason) == (phase, reason)


def test_both_helpers_look_before_batches_are_formed() -> None:
    state = step(looking(), Looked(1), 20)
    assert due(state) == (Look(0),)
    state = step(state, Looked(0), 30)
    assert (state.phase, due(state)) == (FORMING, (Form(),))


def test_every_batch_is_asked_of_every_helper_until_both_have_answered() -> None:
    state = answering()
    assert due(state) == (Ask(0, b"a" * 16), Ask(1, b"a" * 16), Ask(0, b"b" * 16), Ask(1, b"b" * 16))
    for helper, batch in ((0, b"a" * 16), (1, b"b" * 16), (1, b"a" * 16)):
        state = step(state, Answered(helper, batch), 50)
    assert due(state) == (Ask(0, b"b" * 16),)
    state = step(state, Answered(0, b"b" * 16), 60)
    assert due(state) == (Open(),)
    assert state.counted == 41
    assert opened(state).phase == OPENED


def test_a_refused_batch_is_left_out_and_the_others_are_opened() -> None:
    state = step(answering(), Refusal(b"b" * 16, "cohort_too_small"), 50)
    assert due(state) == (Ask(0, b"a" * 16), Ask(1, b"a" * 16))
    state = step(step(state, Answered(0, b"a" * 16), 60), Answered(1, b"a" * 16), 70)
    assert due(state) == (Open(),)
    assert state.counted == 20
    both = step(step(answering(), Refusal(b"a" * 16, "x"), 50), Refusal(b"b" * 16, "x"), 60)
    assert (both.phase, both.reason) == (ABORTED, "helper_refused")


def test_a_helper_that_is_away_is_waited_for_until_its_time_is_up() -> None:
    state = answering()
    assert step(state, Tick(), state.answer_by_ms - 1).phase == ANSWERING
    late = step(state, Tick(), state.answer_by_ms)
    assert (late.phase, late.reason) == (ABORTED, "helper_away")
    for helper, batch in ((0, b"a" * 16), (0, b"b" * 16), (1, b"a" * 16), (1, b"b" * 16)):
        state = step(state, Answered(helper, batch), 50)
    assert step(state, Tick(), state.answer_by_ms + 10**9).phase == ANSWERING, "all answers are here"


def test_too_few_good_reports_end_a_round() -> None:
    state = step(step(looking(), Looked(0), 20), Looked(1), 20)
    ended = step(state, Formed(()), 30)
    assert (ended.phase, ended.reason, due(ended)) == (ABORTED, "too_few_good", ())


def test_a_round_that_ended_stays_as_it_is() -> None:
    ended = step(START, Cancelled("stopped"), 10)
    assert (ended.phase, ended.reason) == (ABORTED, "stopped")
    for event in (Took(100), Tick(), Looked(0), Formed(BATCHES), Answered(0, b"a" * 16)):
        assert step(ended, event, 10**12) == ended


def test_a_state_is_a_row_and_back() -> None:
    state = step(answering(), Answered(1, b"a" * 16), 50)
    assert read(RoundState, write(state)) == state


@pytest.mark.trust("G7")
@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_a_round_ends_by_its_time(seed: int) -> None:
    """Events in any order, repeated, early and late; only what is due is done, and perhaps never."""
    chance = random.Random(seed)
    state, now_ms = START, 0
    helpers_alive = chance.random() < 0.7
    while state.phase not in ENDED and now_ms < 3000:
        now_ms += chance.randrange(40)
        events: list[object] = [
            Took(chance.randrange(4)),
            Tick(),
            Looked(chance.randrange(2)),
            Formed(BATCHES),
        ]
        if helpers_alive:
            for effect in due(state):
                events += [Looked(effect.helper)] if isinstance(effect, Look) else []
                events += [Answered(effect.helper, effect.batch)] if isinstance(effect, Ask) else []
                events += [Formed(BATCHES)] if isinstance(effect, Form) else []
        state = step(state, chance.choice(events), now_ms)  # type: ignore[arg-type]
        if due(state) == (Open(),):
            state = opened(state)
        state = step(state, Tick(), now_ms)
    assert state.phase in ENDED
    assert now_ms <= START.deadline_ms + START.answer_ms + 2 * 40, "each time noticed at the next tick"
    assert (state.phase == OPENED) == (state.counted > 0 and state.reason == "")


def test_batches_are_the_same_for_the_same_reports_and_never_below_the_floor() -> None:
    ids = [bytes([i]) * 16 for i in range(65)]
    made = form(ids, 4, 20, b"round")
    assert made == form(ids[::-1], 4, 20, b"round")
    assert [len(part) for _, part in made] == [22, 22, 21], "three, not four: none may be below 20"
    assert sorted(id for _, part in made for id in part) == sorted(ids)
    assert len({batch for batch, _ in made}) == 3
    assert form(ids[:19], 4, 20, b"round") == ()
    assert form(ids, 4, 20, b"other round") != made
