"""Sums over many devices of which nobody sees a part: masks that two helpers take off, one message a device (mode A).

    device                        leader                                helpers 1 and 2
      |<- terms ---------------------|                                      |
      |   r1, r2 = masks of two fresh seeds                                 |
      |-- Report: x + r1 + r2, ----->|                                      |     1
      |   both seeds, each sealed    |-- Batch: who, own sealed seeds ----->|     2   look: which entries must be left out
      |   to one helper              |<- Looked ----------------------------|
      |                              |-- Batch, without them at both ------>|     3   answer: burned and kept, then said
      |                              |<- Answer: sum of its masks ----------|     4   (+ noise of its own)
      |                              |   sum of x (+ both noises)

x is a vector of integers modulo 2^(8 * width) and comes out exactly. Every device, the leader and both helpers hold the same
Terms, and their digest stands in every mask, seal and signature: whoever was shown another model, round, floor or helper
makes a report that is left out, or whose mask does not come off.

Leaks: the leader learns the sum over each batch that both helpers answer, and which device took part with which weight. A
helper learns the second, and nothing about any x. Leader and one helper together learn no more than the leader: what is left
of a report is x + r of the other helper, uniform. Leader and both helpers together learn every x.
Adversary: a leader that does whatever it likes, together with either helper, against the devices. It can leave devices out
and add devices that it owns, as many as the enrolment authority gives it tickets for; sums that open are over unions of whole
batches at both helpers, each with at least `reports_min` devices that the authority enrolled. A helper or device that lies
can spoil a sum but not read one.
A helper is asked again as often as one likes: the second answer to a batch is the first one, byte for byte, noise included.

Source: additive sharing between servers of which one must be honest, with seeds for shares, as in Prio (Corrigan-Gibbs, Boneh,
NSDI 2017) without its proofs; discrete Gaussian noise as in Kairouz, Liu, Steinke (ICML 2021), whole at each helper.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import PeerError, PolicyError
from isthmus.crypto.hpke import OVERHEAD_BYTES, SealingKey, seal_to
from isthmus.crypto.masks import SEED_BYTES, mask
from isthmus.crypto.seal import SIGNATURE_BYTES, PartyKey, verify
from isthmus.crypto.words import Ring, Words
from isthmus.wire.message import MESSAGE_MAX_BYTES, Array, Blob, Message, Number, Raw, bad

REPORTS_FLOOR: Final = 20
"""No terms with a smaller cohort exist."""
LENGTH_MAX: Final = 2**22
NOISE_STD_MAX: Final = 2.0**40
ID_BYTES: Final = 16
SEALED_BYTES: Final = SEED_BYTES + OVERHEAD_BYTES
NAME_BYTES: Final = 64
_VECTOR_MAX_BYTES: Final = MESSAGE_MAX_BYTES - 4096

_TERMS_LABEL = b"isthmus/secure-sum/terms/v1\0"
_TICKET_LABEL = b"isthmus/secure-sum/ticket/v1\0"
_MASK_LABEL = b"isthmus/secure-sum/mask/v1\0"
_SEED_LABEL = b"isthmus/secure-sum/seed/v1\0"
_REPORT_LABEL = b"isthmus/secure-sum/report/v1\0"
_BATCH_LABEL = b"isthmus/secure-sum/batch/v1\0"
_ANSWER_LABEL = b"isthmus/secure-sum/answer/v1\0"

_TERMS = struct.Struct("<32s32sI32sIBIIId32s32s")
_HELPER = struct.Struct(f"<{NAME_BYTES}s32s32s")
TERMS_BYTES: Final = _TERMS.size + 2 * _HELPER.size

Noise = Callable[[float, int], NDArray[np.int64]]
"""(standard deviation, length) -> fresh integers; privacy/noise.py draws them."""


@dataclass(frozen=True, slots=True)
class HelperKey:
    """Who a helper is: its name, the key that it signs with (Ed25519) and the one that seeds are sealed to (X25519)."""

    name: str
    signing: bytes
    sealing: bytes


@dataclass(frozen=True)
class Terms:
    """What everyone agrees on before anything is sealed. PeerError `bad_message` for terms that cannot be."""

    population: bytes  # 32 bytes: which devices the tickets are for
    task: bytes  # SHA-256 of the signed manifest
    round: int
    model: bytes  # SHA-256 of the model that was shown
    length: int  # words
    width_bytes: int
    reports_min: int
    weight_max: int
    per_device_max: int  # times that a device may take part in the task
    noise_std: float  # of each helper, in units of the words; 0 is none
    leader: bytes  # Ed25519
    authority: bytes  # Ed25519, of whoever enrols devices
    helpers: tuple[HelperKey, HelperKey]

    def __post_init__(self) -> None:
        words = (self.population, self.task, self.model, self.leader, self.authority)
        keys = [key for helper in self.helpers for key in (helper.signing, helper.sealing)]
        names = [helper.name.encode() for helper in self.helpers]
        counts = (self.weight_max, self.per_device_max)
        if any(len(word) != 32 for word in (*words, *keys)) or len({self.leader, *keys}) != 5:
            raise bad("digests and keys have 32 bytes, and no two of leader and helpers share one")
        if any(not 0 < len(n) <= NAME_BYTES or not n.decode().isprintable() for n in names):
            raise bad("a helper has no usable name")
        if not REPORTS_FLOOR <= self.reports_min < 2**32 or any(not 1 <= c < 2**32 for c in counts):
            raise bad(f"a sum is over at least {REPORTS_FLOOR} reports, and counts are at least 1")
        if not 0 <= self.round < 2**32 or not 1 <= self.length <= LENGTH_MAX:
            raise bad("a round or a length is out of bounds")
        if self.length * Ring(self.width_bytes).width_bytes > _VECTOR_MAX_BYTES:
            raise bad("vectors are longer than a message may be")
        if not math.isfinite(self.noise_std) or not 0 <= self.noise_std <= NOISE_STD_MAX:
            raise bad("a standard deviation is out of bounds")

    def encode(self) -> bytes:
        """TERMS_BYTES bytes."""
        own = _TERMS.pack(
            *(self.population, self.task, self.round, self.model, self.length, self.width_bytes),
            *(self.reports_min, self.weight_max, self.per_device_max, self.noise_std),
            *(self.leader, self.authority),
        )
        return own + b"".join(_HELPER.pack(h.name.encode(), h.signing, h.sealing) for h in self.helpers)

    @classmethod
    def decode(cls, body: bytes) -> Terms:
        if len(body) != TERMS_BYTES:
            raise bad("terms have another length")
        helpers = [_HELPER.unpack_from(body, _TERMS.size + place * _HELPER.size) for place in (0, 1)]
        try:
            first, second = (HelperKey(n.rstrip(b"\0").decode(), *keys) for n, *keys in helpers)
        except UnicodeDecodeError:
            raise bad("a helper has no usable name") from None
        terms = cls(*(*_TERMS.unpack_from(body), (first, second)))
        if terms.encode() != body:
            raise bad("terms have one spelling only")
        return terms

    @cached_property
    def digest(self) -> bytes:
        return hashlib.sha256(_TERMS_LABEL + self.encode()).digest()

    @property
    def ring(self) -> Ring:
        return Ring(self.width_bytes)


@dataclass(frozen=True, slots=True)
class Ticket:
    """The authority's word that it enrolled a device. It names the device's key, so it is of no use to another."""

    expires_ms: int
    signature: bytes


def ticket(authority: PartyKey, population: bytes, device: bytes, expires_ms: int) -> Ticket:
    """A ticket for the device with this public key."""
    return Ticket(expires_ms, authority.sign(_ticket_words(population, device, expires_ms)))


def _ticket_words(population: bytes, device: bytes, expires_ms: int) -> bytes:
    return _TICKET_LABEL + population + device + struct.pack("<Q", expires_ms)


# Messages


@dataclass(frozen=True)
class Report(Message):
    """One device's masked vector; `sealed` is (2, 80), a seed for each helper."""

    KIND: ClassVar[int] = 0x0B01
    id: Annotated[bytes, Raw(ID_BYTES)]
    task: Annotated[bytes, Raw(32)]
    round: Annotated[int, Number("I")]
    device: Annotated[bytes, Raw(32)]
    expires_ms: Annotated[int, Number("Q")]
    ticket: Annotated[bytes, Raw(SIGNATURE_BYTES)]
    weight: Annotated[int, Number("I")]
    sealed: Annotated[NDArray[np.uint8], Array("u1", 2, SEALED_BYTES)]
    signature: Annotated[bytes, Raw(SIGNATURE_BYTES)]
    masked: Annotated[bytes, Blob(_VECTOR_MAX_BYTES)]

    @cached_property
    def head(self) -> bytes:
        """An encoded Head: what is left to keep of the report once the vector is put elsewhere."""
        first, second = (row.tobytes() for row in self.sealed)
        vector = _sha(self.masked)
        return Head(
            *(self.id, self.device, self.expires_ms, self.ticket, self.weight, vector),
            *(first, second, self.signature),
        ).encode()

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the message."""
        return _sha(self.encode())


_HEAD = struct.Struct(f"<{ID_BYTES}s32sQ64sI32s{SEALED_BYTES}s{SEALED_BYTES}s64s")
_ENTRY = struct.Struct(f"<{ID_BYTES}s32sQ64sI32s{SEALED_BYTES}s32s64s")
REPORT_HEAD_MAX_BYTES: Final = 512
"""What a report has beyond its vector is shorter than this."""


@dataclass(frozen=True, slots=True)
class Head:
    """A report without its vector, of which `vector` is SHA-256; the seeds are sealed to the first and the second helper."""

    id: bytes
    device: bytes
    expires_ms: int
    ticket: bytes
    weight: int
    vector: bytes
    first: bytes
    second: bytes
    signature: bytes

    def encode(self) -> bytes:
        return _HEAD.pack(*(getattr(self, name) for name in self.__slots__))

    @classmethod
    def decode(cls, body: bytes) -> Head:
        if len(body) != _HEAD.size:
            raise bad("the head of a report has another length")
        return cls(*_HEAD.unpack(body))

    def entry(self, place: int) -> bytes:
        """As the helper in that place hears of it."""
        own, other = (self.first, self.second) if place == 0 else (self.second, self.first)
        return _ENTRY.pack(
            *(self.id, self.device, self.expires_ms, self.ticket, self.weight, self.vector),
            *(own, _sha(other), self.signature),
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """What a helper hears of a report: all but the vector and the other helper's seed, of which it gets SHA-256."""

    id: bytes
    device: bytes
    expires_ms: int
    ticket: bytes
    weight: int
    vector: bytes
    sealed: bytes
    other: bytes
    signature: bytes


@dataclass(frozen=True)
class Batch(Message):
    """The reports that the leader wants the sum of, as one helper hears of them; `entries` is (reports, _ENTRY.size)."""

    KIND: ClassVar[int] = 0x0B02
    terms: Annotated[bytes, Raw(TERMS_BYTES)]
    id: Annotated[bytes, Raw(ID_BYTES)]
    place: Annotated[int, Number("B")]
    entries: Annotated[NDArray[np.uint8], Array("u1", None, _ENTRY.size)]
    signature: Annotated[bytes, Raw(SIGNATURE_BYTES)]

    def rows(self) -> list[Entry]:
        return [Entry(*row) for row in _ENTRY.iter_unpack(self.entries.tobytes())]


class Fault(IntEnum):
    """Why a helper wants an entry left out."""

    SIGNATURE = 1  # the device did not sign this under these terms
    TICKET = 2  # the authority did not enrol the device, or not for so long
    WEIGHT = 3
    SEED = 4  # it does not open
    TWIN = 5  # the device or the report stands in the batch already
    SEEN = 6  # the report was in a batch that was answered
    QUOTA = 7  # the device has taken part as often as it may


@dataclass(frozen=True)
class Looked(Message):
    """The entries that must be left out: `(count, 16)` report ids and the Fault of each."""

    KIND: ClassVar[int] = 0x0B03
    reports: Annotated[NDArray[np.uint8], Array("u1", None, ID_BYTES)]
    faults: Annotated[NDArray[np.uint8], Array("u1", None)]

    def rows(self) -> dict[bytes, Fault]:
        if len(self.reports) != len(self.faults):
            raise bad("faults and reports differ in number")
        try:
            return {r.tobytes(): Fault(int(f)) for r, f in zip(self.reports, self.faults, strict=True)}
        except ValueError:
            raise bad("a fault has a number that does not exist") from None


@dataclass(frozen=True)
class Answer(Message):
    """The sum of one helper's masks over a batch, with its noise. `reports`: SHA-256 of the report ids in order."""

    KIND: ClassVar[int] = 0x0B04
    batch: Annotated[bytes, Raw(ID_BYTES)]
    place: Annotated[int, Number("B")]
    reports: Annotated[bytes, Raw(32)]
    sum: Annotated[bytes, Blob(_VECTOR_MAX_BYTES)]
    signature: Annotated[bytes, Raw(SIGNATURE_BYTES)]


def _sha(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _report_words(terms: Terms, id: bytes, weight: int, masked: bytes, sealed: Sequence[bytes]) -> bytes:
    """What a device signs; of vector and seeds it is the digests."""
    return b"".join((_REPORT_LABEL, terms.digest, id, struct.pack("<I", weight), masked, *sealed))


def _batch_words(batch: Batch) -> bytes:
    return _BATCH_LABEL + _sha(batch.encode()[:-SIGNATURE_BYTES])


def _answer_words(terms: Terms, batch: bytes, reports: bytes, sum_: bytes) -> bytes:
    return _ANSWER_LABEL + terms.digest + batch + reports + _sha(sum_)


def _seed_words(terms: Terms, report: bytes, place: int) -> bytes:
    return _SEED_LABEL + terms.digest + report + terms.helpers[place].signing


def _mask_of(terms: Terms, report: bytes, seed: bytes) -> Words:
    return mask(terms.ring, terms.length, seed, _MASK_LABEL + terms.digest + report)


# The device


def seal(terms: Terms, values: NDArray[np.int64], weight: int, device: PartyKey, ticket: Ticket) -> Report:
    """1: `values`, `(length,)` and already times `weight`, under two masks. The report is made once and resent as bytes.

    Raises ValueError for what the device itself should not have handed over.
    """
    seeds = [os.urandom(SEED_BYTES) for _ in terms.helpers]
    report = os.urandom(ID_BYTES)
    sealed = [
        seal_to(helper.sealing, seed, _seed_words(terms, report, place))
        for place, (helper, seed) in enumerate(zip(terms.helpers, seeds, strict=True))
    ]
    return _sign(terms, values, weight, device, ticket, report, seeds, sealed)


def _sign(
    terms: Terms,
    values: NDArray[np.int64],
    weight: int,
    device: PartyKey,
    ticket: Ticket,
    report: bytes,
    seeds: list[bytes],
    sealed: list[bytes],
) -> Report:
    if values.shape != (terms.length,) or values.dtype != np.int64 or not 1 <= weight <= terms.weight_max:
        raise ValueError("values or weight do not fit the terms")
    words = terms.ring.lift(values)
    for seed in seeds:
        terms.ring.add(words, _mask_of(terms, report, seed))
    masked = terms.ring.pack(words)
    signed = device.sign(_report_words(terms, report, weight, _sha(masked), [_sha(s) for s in sealed]))
    rows = np.frombuffer(b"".join(sealed), dtype=np.uint8).reshape(2, SEALED_BYTES)
    return Report(
        *(report, terms.task, terms.round, device.public, ticket.expires_ms, ticket.signature, weight),
        *(rows, signed, masked),
    )


# The leader


def check_ticket(authority: bytes, population: bytes, device: bytes, ticket: Ticket, now_ms: int) -> None:
    """Raises PeerError `bad_signature` for a ticket that the authority did not give this device, or that has expired."""
    if ticket.expires_ms <= now_ms:
        raise PeerError("bad_signature", partner="the enrolment authority")
    words = _ticket_words(population, device, ticket.expires_ms)
    verify(authority, ticket.signature, words, "the enrolment authority")


def check_report(terms: Terms, report: Report, now_ms: int) -> None:
    """What the leader sees of a report by itself; that its seeds open only the helpers can say. Raises PeerError."""
    if (report.task, report.round) != (terms.task, terms.round):
        raise bad("a report is for another round")
    if not 1 <= report.weight <= terms.weight_max:
        raise bad("a weight is out of bounds")
    if len(report.masked) != terms.length * terms.width_bytes:
        raise bad("a vector has another length than agreed")
    given = Ticket(report.expires_ms, report.ticket)
    check_ticket(terms.authority, terms.population, report.device, given, now_ms)
    sealed = [_sha(row.tobytes()) for row in report.sealed]
    words = _report_words(terms, report.id, report.weight, _sha(report.masked), sealed)
    verify(report.device, report.signature, words, "the device")


def batch_for(terms: Terms, place: int, id: bytes, heads: Iterable[bytes], leader: PartyKey) -> Batch:
    """2, 3: reports, by their heads, for the helper in that place. Both helpers get the same reports under the same id."""
    rows = b"".join(Head.decode(head).entry(place) for head in heads)
    entries = np.frombuffer(rows, dtype=np.uint8).reshape(-1, _ENTRY.size)
    made = Batch(terms.encode(), id, place, entries, bytes(SIGNATURE_BYTES))
    return replace(made, signature=leader.sign(_batch_words(made)))


def total(terms: Terms, masked: Iterable[bytes]) -> Words:
    """The sum of masked vectors. Raises PeerError for one of another length."""
    ring = terms.ring
    words = ring.zeros(terms.length)
    for body in masked:
        if len(body) != terms.length * terms.width_bytes:
            raise bad("a vector has another length than agreed")
        ring.add(words, ring.unpack(body))
    return words


def open_sum(
    terms: Terms, total: Words, batch: bytes, reports: Sequence[bytes], answers: Sequence[bytes]
) -> NDArray[np.int64]:
    """4: `total`, over the reports (their ids) of the batch, without the masks; `total` is used up. `answers` are encoded.

    Raises PeerError `helper_mismatch` where the helpers did not both answer for these reports, and `sum_check_failed` where an
    answer is not what its helper signed.
    """
    found = [Answer.decode(body) for body in answers]
    if sorted(answer.place for answer in found) != [0, 1]:
        raise PeerError("helper_mismatch", helper=" or ".join(h.name for h in terms.helpers))
    for answer in found:
        check_answer(terms, batch, reports, answer)
        terms.ring.subtract(total, terms.ring.unpack(answer.sum))
    return terms.ring.lower(total)


def check_answer(terms: Terms, batch: bytes, reports: Sequence[bytes], answer: Answer) -> None:
    """Raises as `open_sum` does."""
    if answer.place > 1:
        raise bad("there are two helpers")
    helper = terms.helpers[answer.place]
    try:
        words = _answer_words(terms, answer.batch, answer.reports, answer.sum)
        verify(helper.signing, answer.signature, words)
    except PeerError:
        raise PeerError("sum_check_failed", helper=helper.name) from None
    if answer.batch != batch or answer.reports != reports_digest(reports):
        raise PeerError("helper_mismatch", helper=helper.name)
    if len(answer.sum) != terms.length * terms.width_bytes:
        raise PeerError("sum_check_failed", helper=helper.name)


def reports_digest(ids: Iterable[bytes]) -> bytes:
    """SHA-256 of report ids in ascending order."""
    return _sha(b"".join(sorted(ids)))


# The helper


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whom a helper serves: the sums of one leader over devices that one authority enrolled, with at least `reports_min`
    devices each, and at most `plain_max` answers without noise in a task."""

    leader: bytes
    authority: bytes
    reports_min: int
    plain_max: int


@dataclass(frozen=True)
class Helper:
    """A helper's keys, and whom it serves."""

    signing: PartyKey
    sealing: SealingKey
    allowances: tuple[Allowance, ...]


class Page(Protocol):
    """What a helper has on record, as one transaction sees it."""

    def answered(self, batch: bytes) -> tuple[bytes, bytes] | None:
        """SHA-256 of what was asked under this batch id, and the answer to it."""

    def seen(self, reports: Sequence[bytes]) -> set[bytes]:
        """Those of the reports that an answered batch held."""

    def taken_part(self, task: bytes, devices: Sequence[bytes]) -> dict[bytes, int]:
        """How often each device has taken part in the task; those that never did may be left out."""

    def plain(self, task: bytes) -> int:
        """How many answers without noise the task got."""

    def burn(
        self,
        task: bytes,
        plain: bool,
        taken: Sequence[tuple[bytes, bytes]],
        batch: bytes,
        asked: bytes,
        answer: bytes,
    ) -> None:
        """Put on record that the reports of `taken` (report, device) are used up, and what was answered."""


class Ledger(Protocol):
    """The record of a helper; store/helper.py keeps it. It is in no backup: what was burned must stay burned."""

    def page(self) -> AbstractContextManager[Page]:
        """One transaction, the only one at its time. What was burned in it lasts when it ends; an error takes it back."""


def look(helper: Helper, batch: Batch, ledger: Ledger, now_ms: int) -> Looked:
    """2: what must be left out before `answer` answers. Nothing leaves but that. Raises as `answer` does for the whole batch."""
    terms, _ = _admit(helper, batch)
    with ledger.page() as page:
        faults, _ = _examine(helper, terms, batch, page, now_ms)
    ids = np.frombuffer(b"".join(faults), dtype=np.uint8).reshape(-1, ID_BYTES)
    return Looked(ids, np.array(list(faults.values()), dtype=np.uint8))


def answer(helper: Helper, batch: Batch, ledger: Ledger, now_ms: int, noise: Noise) -> bytes:
    """3: the encoded Answer, once it is on record with all that it used up; for a batch that was answered, that answer again.

    Raises PeerError `bad_signature` or `bad_batch`, and PolicyError `leader_unknown`, `cohort_too_small` or `noise_needed`;
    nothing is burned then.
    """
    terms, allowance = _admit(helper, batch)
    asked = _sha(batch.encode())
    with ledger.page() as page:
        if (before := page.answered(batch.id)) is not None:
            if before[0] != asked:
                raise PeerError("bad_batch", why="its id was used for other content")
            return before[1]
        faults, seeds = _examine(helper, terms, batch, page, now_ms)
        if faults:
            first = next(iter(faults.values()))
            raise PeerError("bad_batch", why=f"{len(faults)} entries do not count ({first.name.lower()})")
        devices = {entry.device for entry in seeds}
        floor = max(terms.reports_min, allowance.reports_min)
        if len(devices) < floor:
            raise PolicyError("cohort_too_small", count=len(devices), floor=floor)
        if terms.noise_std == 0 and page.plain(terms.task) >= allowance.plain_max:
            raise PolicyError("noise_needed")
        sum_ = _sum_of_masks(terms, seeds, noise)
        reports = reports_digest(entry.id for entry in seeds)
        signature = helper.signing.sign(_answer_words(terms, batch.id, reports, sum_))
        body = Answer(batch.id, batch.place, reports, sum_, signature).encode()
        taken = [(entry.id, entry.device) for entry in seeds]
        page.burn(terms.task, terms.noise_std == 0, taken, batch.id, asked, body)
    return body


def _admit(helper: Helper, batch: Batch) -> tuple[Terms, Allowance]:
    """The terms, once they name this helper, a leader that it serves, and that leader has signed."""
    terms = Terms.decode(batch.terms)
    if batch.place > 1:
        raise bad("there are two helpers")
    named = terms.helpers[batch.place]
    if (named.signing, named.sealing) != (helper.signing.public, helper.sealing.public):
        raise PeerError("bad_batch", why="it is for another helper, or for keys that this one had before")
    for allowance in helper.allowances:
        if (allowance.leader, allowance.authority) == (terms.leader, terms.authority):
            verify(terms.leader, batch.signature, _batch_words(batch), "the leader")
            return terms, allowance
    raise PolicyError("leader_unknown", leader=terms.leader.hex())


def _examine(
    helper: Helper, terms: Terms, batch: Batch, page: Page, now_ms: int
) -> tuple[dict[bytes, Fault], dict[Entry, bytes]]:
    """What is wrong with each report, by id, and the seeds of those with which nothing is."""
    rows = batch.rows()
    seen = page.seen([entry.id for entry in rows])
    taken = page.taken_part(terms.task, [entry.device for entry in rows])
    faults: dict[bytes, Fault] = {}
    seeds: dict[Entry, bytes] = {}
    known: set[bytes] = set()
    for entry in rows:
        if entry.id in known or entry.device in known:
            faults[entry.id] = Fault.TWIN
        elif entry.id in seen:
            faults[entry.id] = Fault.SEEN
        elif taken.get(entry.device, 0) >= terms.per_device_max:
            faults[entry.id] = Fault.QUOTA
        elif isinstance(found := _entry(helper, terms, batch.place, entry, now_ms), Fault):
            faults[entry.id] = found
        else:
            seeds[entry] = found
            known |= {entry.id, entry.device}
    return faults, seeds


def _entry(helper: Helper, terms: Terms, place: int, entry: Entry, now_ms: int) -> Fault | bytes:
    """The seed of one entry, or what is wrong with it."""
    if not 1 <= entry.weight <= terms.weight_max:
        return Fault.WEIGHT
    if entry.expires_ms <= now_ms:
        return Fault.TICKET
    words = _ticket_words(terms.population, entry.device, entry.expires_ms)
    sealed = [_sha(entry.sealed), entry.other]
    signed = _report_words(
        terms, entry.id, entry.weight, entry.vector, sealed if place == 0 else sealed[::-1]
    )
    fault = Fault.TICKET
    try:
        verify(terms.authority, entry.ticket, words)
        fault = Fault.SIGNATURE
        verify(entry.device, entry.signature, signed)
        fault = Fault.SEED
        seed = helper.sealing.open(entry.sealed, _seed_words(terms, entry.id, place))
    except PeerError:
        return fault
    return seed if len(seed) == SEED_BYTES else Fault.SEED


def _sum_of_masks(terms: Terms, seeds: dict[Entry, bytes], noise: Noise) -> bytes:
    ring = terms.ring
    words: Any = ring.zeros(terms.length)
    for entry, seed in seeds.items():
        ring.add(words, _mask_of(terms, entry.id, seed))
    if terms.noise_std > 0:
        # The leader takes this sum away from its own, so the noise has its sign turned; it is symmetric.
        ring.add(words, ring.lift(noise(terms.noise_std, terms.length)))
    return ring.pack(words)
