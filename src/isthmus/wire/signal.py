"""Waiting for a condition that others bring about, with or without an end by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from isthmus.base.clock import Clock


class Signal:
    """`notify` makes every waiter look again at its condition."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def until(
        self, ready: Callable[[], object], clock: Clock | None = None, timeout_s: float | None = None
    ) -> bool:
        """Wait until `ready()` holds; False when `timeout_s` of the clock went by first."""
        if ready():
            return True
        if timeout_s is not None and timeout_s <= 0:
            return False
        timer = None
        if clock is not None and timeout_s is not None:
            timer = asyncio.ensure_future(clock.sleep(timeout_s))
            timer.add_done_callback(lambda _: self.notify())
        try:
            while not ready():
                if timer is not None and timer.done():
                    return False
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiters.discard(waiter)
            return True
        finally:
            if timer is not None:
                timer.cancel()
