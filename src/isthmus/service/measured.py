"""What was measured of the line to each partner: the last time and the one before, in a file of the node's folder.

A plan counts with the last measurement and with nothing newer, so it stays what it is until somebody measures again.
Only the doctor writes: the bytes and seconds of a job say more of how fast both sides compute than of the line.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from isthmus.base.clock import Clock
from isthmus.base.errors import LocalError
from isthmus.base.files import write_file
from isthmus.jobs.engine import Pace
from isthmus.wire.link import Probe

_KEPT = 2


@dataclass(frozen=True, slots=True)
class Measurement:
    """One look at a line, up being away from this node. Rates in bytes a second; None on the side that listens."""

    at: datetime
    round_trip_s: float
    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None

    @property
    def rated(self) -> bool:
        return self.up_bytes_per_s is not None and self.down_bytes_per_s is not None

    @property
    def pace(self) -> Pace:
        """For a plan: rates that were not measured are assumed."""
        if self.up_bytes_per_s is None or self.down_bytes_per_s is None:
            return Pace(round_trip_s=self.round_trip_s)
        return Pace(self.up_bytes_per_s, self.down_bytes_per_s, self.round_trip_s, measured=True)


class Measurements:
    """The measurements of one node; it alone writes `file`. Raises LocalError `database_damaged` for another file."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._kept: dict[str, list[Measurement]] = {}
        if file.exists():
            try:
                document = json.loads(file.read_text(encoding="utf-8"))
                self._kept = {partner: [_read(entry) for entry in of] for partner, of in document.items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                raise LocalError("database_damaged", path=str(file)) from None

    def keep(self, partner: str, probe: Probe) -> None:
        """Keeps what a probe found; one that found no round trip is no measurement, nor is one without sense: a dialer tells
        it, and what is kept must be read again."""
        if probe.round_trip_s is None or not 0 < probe.round_trip_s < math.inf:
            return
        now = self._clock.now()
        new = Measurement(now, probe.round_trip_s, probe.up_bytes_per_s, probe.down_bytes_per_s)
        self._kept[partner] = [new, *self._kept.get(partner, [])][:_KEPT]
        document = {
            name: [asdict(one) | {"at": one.at.isoformat()} for one in of] for name, of in self._kept.items()
        }
        write_file(self._file, json.dumps(document, indent=1).encode())

    def keep_told(self, partner: str, round_trip_s: float, up: float, down: float) -> None:
        """Keeps what the partner measured, who dials; its way up is this node's way down. Figures without sense are dropped."""
        if all(0 < figure < math.inf for figure in (round_trip_s, up, down)):
            self.keep(partner, Probe(round_trip_s, None, down, up, None, None))

    def last(self, partner: str) -> Measurement | None:
        """The newest measurement of a line."""
        return next(iter(self._kept.get(partner, [])), None)

    def before(self, partner: str) -> Measurement | None:
        """The measurement that the newest one took the place of."""
        return next(iter(self._kept.get(partner, [])[1:]), None)


def _read(entry: dict[str, Any]) -> Measurement:
    for name in ("round_trip_s", "up_bytes_per_s", "down_bytes_per_s"):
        value = entry[name]
        if not (value is None and name != "round_trip_s") and not 0 < float(value) < math.inf:
            raise ValueError(name)
    at = datetime.fromisoformat(entry["at"])
    return Measurement(at, entry["round_trip_s"], entry["up_bytes_per_s"], entry["down_bytes_per_s"])
