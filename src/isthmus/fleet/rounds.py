"""A round as a phase machine. Its state is a row; what is to be done next follows from the state alone.

    COLLECTING --enough reports, or the deadline with min_cohort--> LOOKING --both helpers have looked--> FORMING
        |                                                                                                    |
        | deadline, too few                                                    batches of good reports fixed |
        v                                                                                                    v
    ABORTED <--too few good ones | no helper by answer_by | no batch left-- ANSWERING --all batches answered--> OPENED

`step` takes an event and returns the next state; `due` says what has to be done in a state. A leader that was killed reads the
row and does what is due: looking has no effect at a helper, and a batch that was answered is answered again with the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final, Literal

COLLECTING: Final = "collecting"
LOOKING: Final = "looking"
FORMING: Final = "forming"
ANSWERING: Final = "answering"
OPENED: Final = "opened"
ABORTED: Final = "aborted"

ENDED: Final = frozenset({OPENED, ABORTED})
HELPERS: Final = (0, 1)


@dataclass(frozen=True)
class BatchState:
    """One sum of a round. `refused`: the code with which a helper refused it for good, or an empty text."""

    id: bytes
    reports: int
    answered: tuple[bool, ...] = (False, False)
    refused: str = ""


@dataclass(frozen=True)
class RoundState:
    """`target` reports are waited for, `least` are needed. Times are Unix milliseconds. `reason` says why a round was given up:
    too_few, too_few_good, helper_away, helper_refused, stopped, budget."""

    phase: str
    target: int
    least: int
    deadline_ms: int
    answer_ms: int
    taken: int = 0
    answer_by_ms: int = 0
    looked: tuple[bool, ...] = (False, False)
    batches: tuple[BatchState, ...] = ()
    reason: str = ""

    @property
    def counted(self) -> int:
        """Reports in the batches that both helpers have answered."""
        return sum(batch.reports for batch in self.batches if all(batch.answered))


# ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Took:
    """`reports` more were taken for good."""

    reports: int


@dataclass(frozen=True)
class Tick:
    """Time went by."""


@dataclass(frozen=True)
class Looked:
    """A helper has said which reports it would not count."""

    helper: int


@dataclass(frozen=True)
class Formed:
    """The batches are fixed, each of at least `least` reports; none, if there are too few."""

    batches: tuple[BatchState, ...]


@dataclass(frozen=True)
class Answered:
    helper: int
    batch: bytes


@dataclass(frozen=True)
class Refusal:
    """A helper will never answer this batch."""

    batch: bytes
    code: str


@dataclass(frozen=True)
class Cancelled:
    reason: Literal["stopped", "budget"]


Event = Took | Tick | Looked | Formed | Answered | Refusal | Cancelled


# ── what is due ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Look:
    """Ask a helper to look at all reports."""

    helper: int


@dataclass(frozen=True)
class Form:
    """Fix the batches from the reports that both helpers found good."""


@dataclass(frozen=True)
class Ask:
    """Ask a helper for the sum of its masks of a batch."""

    helper: int
    batch: bytes


@dataclass(frozen=True)
class Open:
    """Take the masks off, join the batches, make the next model."""


Effect = Look | Form | Ask | Open


def due(state: RoundState) -> tuple[Effect, ...]:
    """All that has to be done in this state; any of it may be done twice."""
    if state.phase == LOOKING:
        return tuple(Look(helper) for helper in HELPERS if not state.looked[helper])
    if state.phase == FORMING:
        return (Form(),)
    if state.phase == ANSWERING:
        open_batches = [batch for batch in state.batches if not batch.refused]
        asks = tuple(Ask(h, batch.id) for batch in open_batches for h in HELPERS if not batch.answered[h])
        return asks or (Open(),)
    return ()


def step(state: RoundState, event: Event, now_ms: int) -> RoundState:
    """The state after an event; an event that no longer fits leaves it as it is."""
    if state.phase in ENDED:
        return state
    if isinstance(event, Cancelled):
        return _abort(state, event.reason)
    if state.phase == COLLECTING:
        return _collect(state, event, now_ms)
    if state.phase == ANSWERING:
        state = _answer(state, event)
    elif state.phase == LOOKING and isinstance(event, Looked):
        state = replace(state, looked=_marked(state.looked, event.helper))
        if all(state.looked):
            state = replace(state, phase=FORMING)
    elif state.phase == FORMING and isinstance(event, Formed):
        if not event.batches:
            return _abort(state, "too_few_good")
        state = replace(state, phase=ANSWERING, batches=event.batches)
    waits = state.phase in (LOOKING, ANSWERING) and due(state) != (Open(),)
    if isinstance(event, Tick) and waits and now_ms >= state.answer_by_ms:
        return _abort(state, "helper_away")
    return state


def opened(state: RoundState) -> RoundState:
    """After `Open` was done."""
    return replace(state, phase=OPENED)


def _collect(state: RoundState, event: Event, now_ms: int) -> RoundState:
    if isinstance(event, Took):
        state = replace(state, taken=state.taken + event.reports)
    over = now_ms >= state.deadline_ms
    if state.taken >= state.target or (over and state.taken >= state.least):
        return replace(state, phase=LOOKING, answer_by_ms=now_ms + state.answer_ms)
    return _abort(state, "too_few") if over else state


def _answer(state: RoundState, event: Event) -> RoundState:
    if not isinstance(event, (Answered, Refusal)):
        return state
    batches = tuple(_changed(batch, event) if batch.id == event.batch else batch for batch in state.batches)
    state = replace(state, batches=batches)
    return _abort(state, "helper_refused") if all(batch.refused for batch in batches) else state


def _changed(batch: BatchState, event: Answered | Refusal) -> BatchState:
    if isinstance(event, Refusal):
        return replace(batch, refused=event.code)
    return replace(batch, answered=_marked(batch.answered, event.helper))


def _abort(state: RoundState, reason: str) -> RoundState:
    return replace(state, phase=ABORTED, reason=reason)


def _marked(marks: tuple[bool, ...], at: int) -> tuple[bool, ...]:
    return tuple(mark or i == at for i, mark in enumerate(marks))


def form(
    ids: list[bytes], buckets: int, least: int, label: bytes
) -> tuple[tuple[bytes, tuple[bytes, ...]], ...]:
    """Batches of at least `least` reports, at most `buckets` of them: (batch id, report ids), the same for the same reports."""
    if len(ids) < least:
        return ()
    count = max(1, min(buckets, len(ids) // least))
    # By digest, so that neither a device nor the order of arrival chooses its companions.
    ordered = sorted(ids, key=lambda each: hashlib.sha256(label + each).digest())
    parts = [tuple(sorted(ordered[i::count])) for i in range(count)]
    return tuple((hashlib.sha256(label + b"batch" + b"".join(part)).digest()[:16], part) for part in parts)
