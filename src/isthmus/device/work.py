"""One piece of work of a device: check in, fetch, train or measure, seal, upload once. Whatever stops it, the next call goes on.

    nothing ── check in ──> working ── report sealed ──> sealed ── receipt ──> sent
                              │                            │
                              └── too few examples, late, refused, closed ──> over

Each arrow is one transaction, before anything leaves. Nobody but the leader hears of the device; the leader hears what is in
protocols/device_round.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from isthmus.base.clock import Clock
from isthmus.base.errors import LineError, LocalError, PeerError, PolicyError
from isthmus.base.typed_json import read, write
from isthmus.crypto.seal import PartyKey
from isthmus.device.config import Config
from isthmus.device.examples import Examples, make_examples
from isthmus.device.line import Line
from isthmus.device.papers import ROOM, check_round, read_manifest, spent
from isthmus.device.store import SEALED, SENT, DeviceStore, RoundRow
from isthmus.learn.head import Course, Head, Settings, control_after
from isthmus.learn.personal import alone, ranking, with_personal
from isthmus.privacy.clip import AdaptiveClip, clip
from isthmus.protocols.device_round import (
    EVALUATE,
    METRIC_SCALE,
    TRAIN,
    Answer,
    CheckIn,
    Conditions,
    Eligible,
    Enrol,
    Manifest,
    Offer,
    Outcome,
    Receipt,
    Refused,
    Release,
    Signed,
    encodings,
    read_body,
    read_paper,
    scorers_of,
    sign_of,
    terms_of,
    vector_bytes,
    vector_of,
)
from isthmus.protocols.secure_sum import Report, Ticket, seal

_log = logging.getLogger(__name__)

Vector = NDArray[np.float32]

AGAIN_S: Final = 3600
_SOON_S: Final = 60
_RENEW_MS: Final = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Work:
    """What came of a call of `work`, and after how many seconds another one is worth while.

    `what`: sent, nothing (to do), paused (it goes on with the next call), waiting (for the line), not_now (conditions, or too
    early), too_few_examples, refused (by this device), late, stopped (by the fleet's owner), left, failed.
    """

    what: str
    again_after_s: int


@dataclass(frozen=True)
class Told:
    """What a person can read about one report: of which task, how much, how well hidden."""

    task: str
    purpose: str
    leader: str
    helpers: tuple[str, ...]
    round: int
    kind: str
    bytes: int
    sealed_ms: int
    floor: int
    times: int
    times_most: int
    spent: float | None
    epsilon: float | None


class _Over(Exception):
    """The round goes on without this device; `what` is one of the OUTCOMES."""

    def __init__(self, what: str, told: bool = True) -> None:
        super().__init__(what)
        self.what = what
        self.told = told


class _Pause(Exception):
    """Somebody asked to stop."""


class Worker:
    """`login` gives a ticket for this device's key; it is asked again when the one there is runs out."""

    def __init__(
        self,
        store: DeviceStore,
        config: Config,
        key: PartyKey,
        login: Callable[[bytes], Ticket],
        clock: Clock,
    ) -> None:
        self._store = store
        self._config = config
        self._key = key
        self._login = login
        self._clock = clock

    @property
    def _now_ms(self) -> int:
        return round(self._clock.now().timestamp() * 1000)

    # --- enrolment ---

    def enrol(self, line: Line) -> None:
        """Raises PolicyError `not_enrolled`; LineError."""
        ticket = self._login(self._key.public)
        said = Enrol(self._config.population, ticket.signature, ticket.expires_ms, self._config.app_version)
        reply = line.post("enrol", said)
        if isinstance(reply, Refused):
            raise PolicyError("not_enrolled", leader=self._config.leader.name, why=reply.code)
        self._store.put(ticket=write(ticket))

    @property
    def _ticket(self) -> Ticket | None:
        body = self._store.get("ticket")
        return read(Ticket, body) if body else None

    # --- one call ---

    def run(self, conditions: Conditions, stop: Callable[[], bool]) -> Work:
        """Raises IsthmusError; what was done until then is kept."""
        with Line(self._config.leader, self._key) as line:
            ticket = self._ticket
            if ticket is None or ticket.expires_ms < self._now_ms + _RENEW_MS:
                self.enrol(line)
            if self._store.active() is None:
                done = self._check_in(line, conditions)
                if done is not None:
                    return done
            return self._go_on(line, conditions, stop)

    def _go_on(self, line: Line, conditions: Conditions, stop: Callable[[], bool]) -> Work:
        """Takes the round that is under way to its end."""
        row = self._store.active()
        if row is None:
            return Work("nothing", self._wait_s())
        offer = read(Offer, row.offer.encode())
        try:
            if row.state != SEALED:
                self._make(line, row, offer, conditions, stop)
                row = self._store.active() or row
            self._upload(line, row, offer)
        except _Pause:
            return Work("paused", _SOON_S)
        except _Over as ended:
            said = Outcome(row.task, row.number, ended.what)
            self._store.over(row, write(said) if ended.told else None)
            return Work(ended.what, self._wait_s())
        except PeerError as error:
            _log.warning("a round is refused: %s", error)
            self._store.over(row, write(Outcome(row.task, row.number, "refused")))
            return Work("refused", self._wait_s())
        return Work("sent", self._wait_s())

    def _wait_s(self) -> int:
        at_ms = int(self._store.get("retry_at_ms") or b"0")
        return max(1, -(-(at_ms - self._now_ms) // 1000)) if at_ms > self._now_ms else _SOON_S

    # --- 2: check in ---

    def _check_in(self, line: Line, conditions: Conditions) -> Work | None:
        """Hears what there is to do; None if there is a round to work on."""
        if (wait_ms := int(self._store.get("retry_at_ms") or b"0") - self._now_ms) > 0:
            return Work("not_now", -(-wait_ms // 1000))
        answer = self._ask(line, conditions)
        if isinstance(answer, Refused):
            _log.warning("the leader does not take a check-in: %s", answer.code)
            wait_s = _SOON_S if answer.retry else AGAIN_S
            self._store.put(retry_at_ms=b"%d" % (self._now_ms + 1000 * wait_s))
            return Work("waiting" if answer.retry else "failed", wait_s)
        retry_ms = min(max(answer.retry_after_ms, 1000), 86_400_000)
        self._store.put(
            outcome=None,
            retry_at_ms=b"%d" % (self._now_ms + retry_ms),
            stopped=b"1" if answer.stopped else None,
        )
        if answer.release is not None:
            try:
                self._adopt(line, answer.release)
            except PeerError as error:
                _log.warning("a release is refused: %s", error)
        if answer.stopped:
            return Work("stopped", retry_ms // 1000)
        if answer.offer is None:
            return Work("nothing", retry_ms // 1000)
        return self._begin(answer.offer)

    def _ask(self, line: Line, conditions: Conditions) -> Answer | Refused:
        outcome = self._store.get("outcome")
        release = in_use(self._store)
        said = CheckIn(
            self._config.population,
            self._config.app_version,
            conditions,
            read(Outcome, outcome) if outcome else None,
            release.number if release else 0,
        )
        reply = line.post("check-in", said)
        if isinstance(reply, Refused) and reply.code == "unknown_device":
            self.enrol(line)
            reply = line.post("check-in", said)
        return reply if isinstance(reply, Refused) else read_body(Answer, reply)

    def _begin(self, offer: Offer) -> Work | None:
        """Puts on record that this round has shown this, before anything is done about it."""
        shown = offer.round.shown
        known = self._store.round(offer.round.task, offer.round.number)
        if known is None:
            self._store.begin(offer.round.task, offer.round.number, shown, write(offer).decode())
            return None
        what = "uploaded" if known.state == SENT else "failed"
        if known.shown != shown:
            _log.warning("a round shows a second model")
            what = "refused"
        self._store.put(outcome=write(Outcome(known.task, known.number, what)))
        return Work("refused" if what == "refused" else "nothing", self._wait_s())

    # --- 3: fetch, train, measure ---

    def _make(
        self, line: Line, row: RoundRow, offer: Offer, conditions: Conditions, stop: Callable[[], bool]
    ) -> None:
        """From an offer to a sealed report."""
        if offer.deadline_ms <= self._now_ms:
            raise _Over("late")
        manifest, head = self._manifest(line, row.task)
        check_round(manifest, offer, self._now_ms)
        self._store.put(eligible=write(manifest.eligible), keep_days=b"%d" % manifest.example.keep_days)
        if not eligible(manifest.eligible, conditions):
            if row.examples is not None:
                raise _Pause
            raise _Over("not_eligible")
        times, last_ms = self._store.part_in(row.task)
        if times >= manifest.per_device_max or self._now_ms < last_ms + manifest.min_gap_s * 1000 * (
            times > 0
        ):
            raise _Over("refused")
        cost = spent(manifest, times + 1)
        if self._config.epsilon_most is not None:
            before = sum(read(Told, body.encode()).spent or 0.0 for body in self._store.told_before(row.task))
            if cost is None or before + cost > self._config.epsilon_most * ROOM:
                raise _Over("refused")
        examples = self._examples(manifest, row)
        models = [self._model(line, name, manifest.parameters) for name in offer.round.models]
        if offer.round.kind == TRAIN:
            values, weight, control = self._train(line, manifest, head, row, offer, examples, models[0], stop)
        else:
            values, weight, control = _measure(manifest, head, examples, models), 1, None
        ticket = self._ticket
        assert ticket is not None
        terms = terms_of(manifest, offer.round)
        report = seal(terms, values, weight, self._key, ticket).encode()
        now_ms = self._now_ms
        told = Told(
            manifest.name, manifest.purpose, manifest.leader_name, tuple(h.name for h in manifest.helpers),
            row.number, offer.round.kind, len(report), now_ms, manifest.reports_min, times + 1,
            manifest.per_device_max, cost, manifest.privacy.epsilon,
        )  # fmt: skip
        self._store.keep_report(row, report, control, now_ms, write(told).decode())

    def _manifest(self, line: Line, digest: bytes, now_ms: int | None = None) -> tuple[Manifest, Head]:
        """The task, from the store or the leader, checked as if it came for the first time."""
        body = self._store.blob(digest)
        if body is None:
            body = _there(line.task(digest))
        signed = read_body(Signed, body)
        found = read_manifest(self._config, signed, digest, self._now_ms if now_ms is None else now_ms)
        self._keep(digest, body)
        return found

    def _examples(self, manifest: Manifest, row: RoundRow) -> Examples:
        """The examples of this round: those that the training began with, whatever was observed since."""
        if row.examples is not None:
            return Examples.from_bytes(row.examples)
        self._store.age(self._now_ms - manifest.example.keep_days * 86_400_000)
        examples = make_examples(self._store.items(), manifest.example)
        if len(examples) < manifest.example.min_per_device or not (~examples.held).any():
            raise _Over("too_few_examples")
        if read(Offer, row.offer.encode()).round.kind == EVALUATE and not examples.held.any():
            raise _Over("too_few_examples")
        self._store.keep_course(row, examples.to_bytes(), None)
        return examples

    def _model(self, line: Line, name: bytes, size: int) -> Vector:
        """A model by its digest, told as the difference from one that is here if there is one."""
        body = self._store.blob(name)
        if body is None:
            bases = self._store.bases(4 * size)
            kept = self._store.blob(bases[0]) if bases else None
            body = _there(line.blob(name, (bases[0], kept) if kept else None))
        vector = vector_of(body)
        if vector.size != size:
            raise PeerError("bad_message", why="a model has another size than its task")
        self._keep(name, body)
        return vector

    def _keep(self, name: bytes, body: bytes) -> None:
        release, active = in_use(self._store), self._store.active()
        pinned = {release.model, release.task} if release else set()
        if active is not None:
            shown = read(Offer, active.offer.encode()).round
            pinned |= {shown.task, *shown.models} | ({shown.control} if shown.control else set())
        self._store.keep_blob(name, body, frozenset(pinned))

    def _train(
        self, line: Line, manifest: Manifest, head: Head, row: RoundRow, offer: Offer, examples: Examples,
        model: Vector, stop: Callable[[], bool],
    ) -> tuple[NDArray[np.int64], int, bytes | None]:  # fmt: skip
        """Integers times weight, the weight, and the device's own next control variate."""
        local = manifest.local
        x, y, weight = examples.part(held=False)
        settings = Settings(
            local.epochs, local.batch, local.learning_rate, "adagrad" if local.optimiser == "adagrad" else "sgd",
            local.proximal,
        )  # fmt: skip
        server = own = np.zeros(head.size)
        if offer.round.control is not None:
            server = self._model(line, offer.round.control, head.size).astype(np.float64)
            kept = self._store.control(row.task)
            own = vector_of(kept).astype(np.float64) if kept else own
        per_epoch = -(-len(y) // local.batch)

        def after(course: Course) -> bool:
            pause = stop()
            if pause or course.steps % per_epoch == 0:
                self._store.keep_course(row, None, course.to_bytes())
            return pause

        course = head.train(
            model, x, y, weight, settings, row.seed, server - own if local.corrected else None,
            Course.from_bytes(row.course) if row.course else None, after,
        )  # fmt: skip
        if not course.finished:
            raise _Pause
        if not np.isfinite(course.flat).all():
            raise _Over("failed")
        changes, control = [course.flat - model], None
        bound = offer.round.clip or local.clip_norm
        if local.corrected:
            next_own = control_after(
                own, server, model.astype(np.float64), course.flat, course.steps, settings
            )
            next_own = own + clip(next_own - own, bound)[0]
            changes.append(next_own - own)
            control = vector_bytes(next_own.astype(np.float32))
        parts = [
            encoding.encode(clip(change, bound)[0]).values
            for encoding, change in zip(encodings(manifest, offer.round), changes, strict=True)
        ]
        values = np.concatenate(parts)
        if sign := sign_of(manifest):
            values = AdaptiveClip(bound, sign).with_sign(values, clip(changes[0], bound)[1])
        times = (
            1
            if local.corrected
            else min(manifest.sums.weight_max, max(1, len(examples) // manifest.example.min_per_device))
        )
        return values * times, times, control

    # --- 4: upload ---

    def _upload(self, line: Line, row: RoundRow, offer: Offer) -> None:
        """Sends the report that is on record; the same bytes as ever."""
        assert row.report is not None
        reply = line.post("reports", row.report)
        if isinstance(reply, Refused):
            if reply.retry:
                raise LineError("unreachable", partner=self._config.leader.name, why=reply.code)
            _log.warning("a report was not taken: %s", reply.code)
            raise _Over("late" if reply.code == "round_closed" else "failed")
        receipt = read_paper(Receipt, read_body(Signed, reply), self._config.leader.key)
        if receipt.report != Report.decode(row.report).id or (receipt.task, receipt.round) != (
            row.task,
            row.number,
        ):
            raise LineError(
                "unreachable", partner=self._config.leader.name, why="a receipt for something else"
            )
        said = Outcome(row.task, row.number, "uploaded")
        self._store.sent(row, write(receipt).decode(), write(said))

    # --- the model in use ---

    def _adopt(self, line: Line, signed: Signed) -> None:
        """Takes a newer release, once its model is here. Raises PeerError."""
        release = read_paper(Release, signed, self._config.leader.key)
        have = in_use(self._store)
        if release.population != self._config.population:
            raise PeerError("bad_message", why="a release is for another population")
        if have is not None and release.number <= have.number:
            return
        manifest, head = self._manifest(line, release.task, now_ms=0)
        self._model(line, release.model, head.size)
        self._store.put(release=write(signed), personal=None)
        self.refresh_personal(manifest, head)

    def refresh_personal(self, manifest: Manifest | None = None, head: Head | None = None) -> None:
        """Fits the personal head to the model in use, from what is observed now."""
        release = in_use(self._store)
        if release is None:
            return
        if manifest is None or head is None:
            manifest, head = task_of(self._store, self._config, release)
        model = self._store.blob(release.model)
        if not manifest.personal_head or model is None:
            return
        examples = make_examples(self._store.items(), manifest.example)
        if len(examples) >= manifest.example.min_per_device:
            fitted = with_personal(head, vector_of(model), examples.x, examples.y, examples.weight)
            self._store.put(personal=release.model + vector_bytes(fitted))


def eligible(want: Eligible, have: Conditions) -> bool:
    """Whether a task may be worked on now."""
    return (
        (have.charging or not want.charging)
        and (have.unmetered or not want.unmetered)
        and (have.idle or not want.idle)
        and have.free_mb >= want.free_mb
        and have.battery_c <= want.battery_max_c
    )


def in_use(store: DeviceStore) -> Release | None:
    """The release that this device has adopted; it was checked then."""
    body = store.get("release")
    return read(Release, read(Signed, body).paper.encode()) if body else None


def task_of(store: DeviceStore, config: Config, release: Release) -> tuple[Manifest, Head]:
    """The task of a release that was adopted. Raises LocalError `database_damaged`."""
    body = store.blob(release.task)
    if body is None:
        raise LocalError("database_damaged", path="the device's store")
    return read_manifest(config, read_body(Signed, body), release.task, 0)


def _measure(manifest: Manifest, head: Head, examples: Examples, models: list[Vector]) -> NDArray[np.int64]:
    """The figures of every scorer on the examples that are never trained on."""
    own, (x, y, _) = examples.part(held=False), examples.part(held=True)
    current, candidate = models
    lone, lone_model = alone(head.inputs, head.outputs, manifest.loss, *own)
    scores = {
        "local_only": lone.forward(lone_model, x),
        "current": head.forward(current, x),
        "candidate": head.forward(candidate, x),
        "personal": head.forward(with_personal(head, candidate, *own), x) if manifest.personal_head else None,
    }
    figures: list[float] = []
    for scorer in scorers_of(manifest):
        found = scores[scorer]
        assert found is not None
        figures.extend(ranking(manifest.metrics, found, y))
    words: NDArray[np.int64] = np.rint(np.array(figures) * METRIC_SCALE).astype(np.int64)
    return words


def _there(reply: bytes | Refused) -> bytes:
    if isinstance(reply, Refused):
        raise PeerError("bad_message", why=f"what a round needs is not there: {reply.code[:40]}")
    return reply
