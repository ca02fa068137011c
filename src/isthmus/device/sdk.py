"""What an app calls. Only `enrol` may raise; everything else answers that it could not, and logs a code, never a value.

device = enrol(config, FileKeyStore(folder / "device.key"), login, folder)
device.observe("photo-17", {"embedding": vector}, "dwell", seconds=6.2, position=3)
if device.ready(conditions).now:
    device.work(stop=lambda: job.cancelled)
order = device.predict([{"embedding": each} for each in vectors])
"""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Concatenate, Final, Literal, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import IsthmusError, LineError
from isthmus.base.typed_json import read, write
from isthmus.crypto.seal import PartyKey
from isthmus.device.config import Config
from isthmus.device.examples import Features, fits, pack_features
from isthmus.device.keys import KeyStore, key_from
from isthmus.device.line import Line
from isthmus.device.store import DeviceStore
from isthmus.device.words import Sent
from isthmus.device.work import AGAIN_S, Told, Work, Worker, eligible, in_use, task_of
from isthmus.learn.head import Head
from isthmus.protocols.device_round import Conditions, Eligible, Manifest, Refused, vector_of
from isthmus.protocols.secure_sum import Ticket

_log = logging.getLogger(__name__)

Scope = Literal["events", "personal", "all"]
Login = Callable[[bytes], Ticket]
"""The app's own sign-in: from a device's public key to a ticket for it."""

KEEP_DAYS: Final = 90
_STRICT: Final = Eligible(charging=True, unmetered=True, idle=True, free_mb=50, battery_max_c=40.0)
_NAME: Final = re.compile(r"[a-z0-9_]{1,64}")
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ready:
    """Whether work may start now; if not, after how many seconds to ask again."""

    now: bool
    again_after_s: int


@dataclass(frozen=True, slots=True)
class Latest:
    """The shared model in use: task, number of the release, and the flat vector."""

    task: str
    number: int
    model: NDArray[np.float32]


def _quiet(
    otherwise: Callable[[], _T],
) -> Callable[[Callable[Concatenate[Device, _P], _T]], Callable[Concatenate[Device, _P], _T]]:
    """Whatever goes wrong inside is logged by its code, and the app gets `otherwise`."""

    def around(call: Callable[Concatenate[Device, _P], _T]) -> Callable[Concatenate[Device, _P], _T]:
        @functools.wraps(call)
        def quiet(device: Device, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
            try:
                return call(device, *args, **kwargs)
            except IsthmusError as error:
                _log.warning("%s: %s", call.__name__, error.code)
            except Exception as error:  # noqa: BLE001 - a top loop: what the app hands in may raise anything
                _log.error("%s: %s", call.__name__, type(error).__name__)
            return otherwise()

        return quiet

    return around


def _none() -> Latest | None:
    return None


def enrol(
    config: Config, keystore: KeyStore, login: Login, folder: Path, clock: Clock | None = None
) -> Device:
    """Opens the private storage in `folder`; the first time it also signs in. Safe at every start of the app.

    Raises ConfigError, LocalError; LineError when the first sign-in finds no line, PolicyError `not_enrolled` when the fleet
    does not take it. A device that has enrolled once opens without a line. Once somebody has left the fleet, a call of this is
    what brings the device back, with another key.
    """
    store = DeviceStore(folder)
    key = key_from(keystore)
    worker = Worker(store, config, key, login, clock or SystemClock())
    device = Device(store, config, key, keystore, worker, folder, clock or SystemClock())
    if store.get("ticket") is None and store.get("leaving") is None:
        with Line(config.leader, key) as line:
            worker.enrol(line)
    return device


class Device:
    """Made by `enrol`. Calls may come from several threads."""

    def __init__(
        self, store: DeviceStore, config: Config, key: PartyKey, keystore: KeyStore, worker: Worker, folder: Path,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._store = store
        self._config = config
        self._key = key
        self._keystore = keystore
        self._worker = worker
        self._folder = folder
        self._clock = clock
        self._left = False

    def close(self) -> None:
        self._store.close()

    @property
    def public(self) -> bytes:
        """The key that this device is known by."""
        return self._key.public

    # --- behaviour ---

    @_quiet(lambda: False)
    def observe(
        self,
        item: str,
        features: Features | None,
        event: str,
        *,
        seconds: float | None = None,
        position: int | None = None,
    ) -> bool:
        """Keeps one event on this device; True if it is kept. `features`: lists of numbers by name, or one list; None for an
        item that was seen with them before. `seconds` for what lasts, `position` where the item stood (0 is the first)."""
        packed: tuple[str | None, bytes] | None = (None, b"") if features is None else pack_features(features)
        told = (
            packed is not None
            and bool(_NAME.fullmatch(event))
            and 0 < len(item) <= 1024
            and (seconds is None or (isfinite(seconds) and seconds >= 0))
            and (position is None or 0 <= position < 2**31)
        )
        if packed is None or not told or self._left or self._store.get("leaving"):
            return False
        kept = self._store.observe(item, *packed, (event, seconds, position), self._now_ms)
        if kept and os.urandom(1)[0] == 0:
            self._age()
        return kept

    def _age(self) -> None:
        days = int(self._store.get("keep_days") or b"%d" % KEEP_DAYS)
        self._store.age(self._now_ms - days * 86_400_000)

    # --- work ---

    @_quiet(lambda: Ready(False, AGAIN_S))
    def ready(self, conditions: Conditions) -> Ready:
        """Whether `work` may start now. The conditions are those of the newest task, or strict ones before there is any."""
        self._store.put(conditions=write(conditions))
        body = self._store.get("eligible")
        if not eligible(read(Eligible, body) if body else _STRICT, conditions):
            return Ready(False, AGAIN_S)
        wait_ms = int(self._store.get("retry_at_ms") or b"0") - self._now_ms
        if wait_ms > 0 and self._store.active() is None:
            return Ready(False, -(-wait_ms // 1000))
        return Ready(True, 0)

    @_quiet(lambda: Work("failed", AGAIN_S))
    def work(self, stop: Callable[[], bool] = lambda: False) -> Work:
        """One piece of work, under the conditions last told to `ready`; `stop` is asked after every mini-batch.

        Killed at any point it goes on where it was with the next call, and never sends two reports for one round.
        """
        told = self._store.get("conditions")
        conditions = read(Conditions, told) if told else Conditions(False, False, False, 0, 0.0)
        with _Alone(self._folder) as alone:
            if not alone:
                return Work("not_now", 60)
            if self._left:
                return Work("left", 86_400)
            try:
                if self._store.get("leaving"):
                    return self._leave()
                self._age()
                done = self._worker.run(conditions, stop)
                if done.what in ("sent", "nothing", "too_few_examples"):
                    self._worker.refresh_personal()
                return done
            except LineError as error:
                _log.info("work: %s", error.code)
                return Work("waiting", AGAIN_S // 4)

    # --- what the app and the person get ---

    @_quiet(lambda: _none())
    def latest(self) -> Latest | None:
        """The newest shared model that was released to this device; no network."""
        found = self._model()
        if found is None:
            return None
        manifest, _, shared, _, number = found
        return Latest(manifest.name, number, shared)

    def predict(self, features: Sequence[Features]) -> list[float]:
        """How much this person will like each item, 0 to 1 (plain values without a closing layer); no network, ever.

        One half for all where there is no model yet, and for an item whose features do not fit it.
        """
        return self._predict(features) or [0.5] * len(features)

    @_quiet(lambda: list[float]())
    def _predict(self, features: Sequence[Features]) -> list[float]:
        found = self._model()
        if found is None:
            return []
        manifest, head, shared, personal, _ = found
        rows = np.zeros((len(features), head.inputs), dtype=np.float32)
        fit = np.zeros(len(features), dtype=bool)
        for i, each in enumerate(features):
            packed = pack_features(each)
            if packed is not None and fits(packed[0], manifest.example.features):
                rows[i], fit[i] = np.frombuffer(packed[1], dtype="<f4"), True
        model = (shared if personal is None else personal).astype(np.float64)
        scores = head.forward(model, rows.astype(np.float64))[:, -1]
        return [float(value) for value in np.where(fit, scores, 0.5)]

    def _model(
        self,
    ) -> tuple[Manifest, Head, NDArray[np.float32], NDArray[np.float32] | None, int] | None:
        release = in_use(self._store)
        body = self._store.blob(release.model) if release else None
        if release is None or body is None:
            return None
        manifest, head = task_of(self._store, self._config, release)
        personal = self._store.get("personal") or b""
        own = vector_of(personal[32:]) if personal[:32] == release.model and manifest.personal_head else None
        return manifest, head, vector_of(body), own, release.number

    @_quiet(lambda: list[Sent]())
    def receipts(self) -> list[Sent]:
        """What left this device, newest first; `words` says it in a person's language."""
        return [Sent(read(Told, body.encode()), taken) for body, taken in self._store.receipts()]

    @_quiet(lambda: False)
    def forget(self, scope: Scope) -> bool:
        """Erases events and what was learned from them here; the personal head, until it is fitted again; or all.

        All also leaves the fleet and revokes the key. True once it is done: without a line everything is erased but the key, and
        the next `work` says goodbye.
        """
        if scope == "events":
            self._drop_round()
            self._store.forget("personal", tables=("event", "item", "control"))
        elif scope == "personal":
            self._store.forget("personal")
        elif scope == "all":
            self._store.put(leaving=b"1")
            self._store.forget(
                "ticket", "outcome", "release", "personal", "conditions", "eligible", "keep_days", "stopped", "retry_at_ms",
                tables=("event", "item", "blob", "round", "control", "sent"),
            )  # fmt: skip
            try:
                return self._leave().what == "left"
            except LineError:
                return False
        else:
            return False
        return True

    def _drop_round(self) -> None:
        """A round that still holds examples is given up; a sealed report stays what it is."""
        row = self._store.active()
        if row is not None and row.report is None:
            self._store.over(row, None)

    def _leave(self) -> Work:
        """Tells the leader, then erases the key. A leader that never knew the device, or revoked it, is as good."""
        with Line(self._config.leader, self._key) as line:
            reply = line.post("forget", b"")
        if isinstance(reply, Refused) and reply.code not in ("unknown_device", "device_revoked"):
            return Work("waiting", AGAIN_S)
        self._keystore.erase()
        self._store.forget("leaving")
        self._left = True
        return Work("left", 86_400)

    @property
    def _now_ms(self) -> int:
        return round(self._clock.now().timestamp() * 1000)


class _Alone:
    """One process of the app works at a time; False for the others."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "work.lock"
        self._handle = -1

    def __enter__(self) -> bool:
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __exit__(self, *ended: object) -> None:
        os.close(self._handle)
