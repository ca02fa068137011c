"""What an alignment shows of sizes, held against the bounds of a grant, while it passes from the link to the worker.

Only numbers are compared: how many ids the label owner brings, and how many rows are shared. Which ones they are is not kept,
so two runs with as many but other ids are not told apart: how many runs there may be is what bounds those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from isthmus.base.errors import IsthmusError, LineError, PolicyError
from isthmus.jobs.grant_terms import Terms
from isthmus.protocols.align import SetSize, Shared
from isthmus.store.agreements import GrantRun
from isthmus.wire.channel import Line
from isthmus.wire.message import kind_of


class SizeGuard:
    """A line to the worker of the holder. `keep` is told what is known of ids and shared rows; `stop` ends the job."""

    def __init__(
        self,
        line: Line,
        partner: str,
        terms: Terms,
        earlier: Sequence[GrantRun],
        keep: Callable[[int, int], None],
        stop: Callable[[IsthmusError], None],
    ) -> None:
        self._line = line
        self._partner = partner
        self._terms = terms
        self._earlier = earlier
        self._keep = keep
        self._stop = stop

    async def put(self, body: bytes) -> None:
        await self._line.put(body)

    async def get(self) -> bytes:
        """Raises LineError `closed` once a bound is passed; `stop` has the reason."""
        body = await self._line.get()
        error = self._judge(body)
        if error is not None:
            self._stop(error)
            raise LineError("closed")
        return body

    async def close(self) -> None:
        await self._line.close()

    def _judge(self, body: bytes) -> PolicyError | None:
        kind = kind_of(body)
        if kind == SetSize.KIND:
            rows = SetSize.decode(body).rows
            if rows > self._terms.partner_rows_max:
                most = self._terms.partner_rows_max
                return PolicyError("set_too_large", partner=self._partner, rows=rows, allowed=most)
            near = self._near(rows, [run.rows for run in self._earlier])
            if near is None:
                self._keep(rows, 0)
            return near
        if kind == Shared.KIND:
            shared = int(np.unpackbits(Shared.decode(body).bits).sum())
            self._keep(0, shared)  # also where it is refused: the label owner knows them by now
            return self._near(shared, [run.shared for run in self._earlier])
        return None

    def _near(self, size: int, earlier: Sequence[int]) -> PolicyError | None:
        floor = self._terms.min_change
        if any(known and 0 < abs(size - known) < floor for known in earlier):
            return PolicyError("change_too_small", partner=self._partner, floor=floor)
        return None
