"""Who is asked to take part: answers check-ins from memory. What must last stands in rows; a desk is made from them anew."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from isthmus.base.errors import PeerError, PolicyError
from isthmus.fleet.rollout import share_of
from isthmus.protocols.device_round import OUTCOMES, Answer, CheckIn, Manifest, Offer, Round, Signed, meets

KEPT_LEAST = 0.2
"""However many devices fall out, at most five are asked for each report that is waited for."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often devices come: at least `least_s` apart, and all together no more than `per_s` a second."""

    least_s: float = 60.0
    per_s: float = 200.0
    most_s: float = 6 * 3600.0


@dataclass(slots=True)
class OpenRound:
    """A round that takes reports. `kept`: the share of asked devices that will report, so that target / kept are asked.
    `patience_ms`: after so long without a report a device counts as gone, and another is asked. `share`: of devices that are
    asked at all."""

    manifest: Manifest
    round: Round
    deadline_ms: int
    target: int
    kept: float
    patience_ms: int
    share: float
    ends_ms: int = 0
    """When helpers have answered at the latest: tickets must last until then."""
    taken: int = 0
    done: set[bytes] = field(default_factory=set)
    asked: dict[bytes, int] = field(default_factory=dict)
    order: deque[tuple[int, bytes]] = field(default_factory=deque)
    seen: dict[str, set[bytes]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[bytes, int]:
        return self.round.task, self.round.number

    @property
    def full(self) -> bool:
        """Whether as many devices are at it as should be."""
        return len(self.asked) * max(self.kept, KEPT_LEAST) >= self.target - self.taken

    def note(self, what: str, device: bytes) -> None:
        """Counts a device once for each thing that becomes of it."""
        seen = self.seen.setdefault(what, set())
        if device not in seen:
            seen.add(device)
            self.counts[what] = self.counts.get(what, 0) + 1

    def lapse(self, now_ms: int) -> None:
        while self.order and self.order[0][0] <= now_ms - self.patience_ms:
            asked_ms, device = self.order.popleft()
            if self.asked.get(device) == asked_ms:
                del self.asked[device]
                self.note("gone", device)


@dataclass(slots=True)
class Part:
    """How often a device took part in a task, and when last."""

    times: int = 0
    last_ms: int = -(2**62)


class Desk:
    """The check-ins of one population."""

    def __init__(self, pace: Pace | None = None, chance: Callable[[], float] = random.random) -> None:
        self._pace = pace or Pace()
        self._chance = chance
        self._rounds: dict[tuple[bytes, int], OpenRound] = {}
        self._parts: dict[bytes, dict[bytes, Part]] = {}
        self.devices = 0
        self.stopped = False

    def know(self, task: bytes, parts: Iterable[tuple[bytes, int, int]]) -> None:
        """Who took part in a task before: device, times, when last."""
        self._parts[task] = {device: Part(times, last_ms) for device, times, last_ms in parts}

    def open(self, opened: OpenRound) -> None:
        self._rounds[opened.key] = opened

    def close(self, key: tuple[bytes, int]) -> dict[str, int]:
        """What became of devices since the last `drain`."""
        gone = self._rounds.pop(key, None)
        return gone.counts if gone else {}

    def drain(self) -> dict[tuple[bytes, int], dict[str, int]]:
        """What became of devices since the last time, by round."""
        found = {key: each.counts for key, each in self._rounds.items() if each.counts}
        for key in found:
            self._rounds[key].counts = {}
        return found

    def round(self, key: tuple[bytes, int]) -> OpenRound | None:
        return self._rounds.get(key)

    def check(self, key: tuple[bytes, int], device: bytes) -> None:
        """Raises PolicyError `device_rounds_spent` for a device whose report would be one too many."""
        opened = self._rounds.get(key)
        part = self._parts.get(key[0], {}).get(device)
        if opened is not None and part is not None and part.times >= opened.manifest.per_device_max:
            raise PolicyError("device_rounds_spent")

    def took(self, key: tuple[bytes, int], device: bytes, now_ms: int) -> None:
        """A report of a device was taken."""
        part = self._parts.setdefault(key[0], {}).setdefault(device, Part())
        part.times, part.last_ms = part.times + 1, now_ms
        if (opened := self._rounds.get(key)) is not None:
            opened.asked.pop(device, None)
            opened.done.add(device)
            opened.taken += 1
            opened.note("uploaded", device)

    def check_in(
        self, device: bytes, said: CheckIn, release: Signed | None, now_ms: int, ticket_ms: int = 2**62
    ) -> Answer:
        """`ticket_ms`: when its ticket ends. Raises PeerError `bad_message` for an outcome that there is not."""
        if said.outcome is not None:
            if said.outcome.what not in OUTCOMES:
                raise PeerError("bad_message", why="outcome.what is not one of those there are")
            self._hear(device, said)
        if self.stopped:
            return Answer(None, round(self._pace.most_s * 1000), None, True)
        wait_ms = math.inf
        for opened in sorted(self._rounds.values(), key=lambda each: len(each.asked) + each.taken):
            offer, later_ms = self._offer(opened, device, said, now_ms, ticket_ms)
            if offer is not None:
                return Answer(offer, self._retry_ms(), release, False)
            wait_ms = min(wait_ms, later_ms)
        return Answer(None, self._retry_ms(0.0 if math.isinf(wait_ms) else wait_ms), release, False)

    def _hear(self, device: bytes, said: CheckIn) -> None:
        assert said.outcome is not None
        opened = self._rounds.get((said.outcome.task, said.outcome.round))
        if (
            opened is not None
            and said.outcome.what != "uploaded"
            and opened.asked.pop(device, None) is not None
        ):
            opened.note(said.outcome.what, device)
            opened.done.add(device)

    def _offer(
        self, opened: OpenRound, device: bytes, said: CheckIn, now_ms: int, ticket_ms: int
    ) -> tuple[Offer | None, float]:
        """An offer, or how many milliseconds to come back after at the earliest (infinite: no matter)."""
        manifest = opened.manifest
        opened.note("checked_in", device)
        if device in opened.done:
            return None, math.inf
        if (why := self._unfit(opened, device, said)) is not None:
            opened.note(why, device)
            return None, math.inf
        if ticket_ms <= opened.ends_ms:
            # A helper would not count it any more, and refuse the batch that holds it.
            opened.note("ticket_ends", device)
            return None, math.inf
        part = self._parts.get(opened.round.task, {}).get(device)
        if part is not None and part.times >= manifest.per_device_max:
            opened.note("quota", device)
            return None, math.inf
        gap_ms = part.last_ms + manifest.min_gap_s * 1000 - now_ms if part is not None else 0
        if gap_ms > 0:
            opened.note("too_soon", device)
            return None, float(gap_ms)
        opened.note("eligible", device)
        opened.lapse(now_ms)
        if now_ms >= opened.deadline_ms:
            return None, math.inf
        if device not in opened.asked:
            if opened.full:
                opened.note("not_needed", device)
                return None, math.inf
            opened.order.append((now_ms, device))
            opened.asked[device] = now_ms
            opened.note("offered", device)
        return Offer(opened.round, opened.deadline_ms), math.inf

    @staticmethod
    def _unfit(opened: OpenRound, device: bytes, said: CheckIn) -> str | None:
        manifest, have, want = opened.manifest, said.conditions, opened.manifest.eligible
        if not meets(said.app_version, manifest.app_version):
            return "version"
        if opened.share < 1 and share_of(device, opened.round.task + b"share") >= opened.share:
            return "not_sampled"
        ready = (
            (have.charging or not want.charging)
            and (have.unmetered or not want.unmetered)
            and (have.idle or not want.idle)
            and have.free_mb >= want.free_mb
            and have.battery_c <= want.battery_max_c
        )
        return None if ready else "not_eligible"

    def _retry_ms(self, least_ms: float = 0.0) -> int:
        """Spread evenly over a window that is wide enough for all devices."""
        window_s = max(self._pace.least_s, self.devices / self._pace.per_s)
        wait_ms = least_ms + 1000 * window_s * (0.5 + self._chance())
        return max(1, min(round(self._pace.most_s * 1000), round(wait_ms)))
