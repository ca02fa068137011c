"""Heavy work off the event loop: a thread each, so that the line stays alive while the numbers are crunched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a thread and wait for it."""
    return await asyncio.to_thread(work, *args, **kwargs)
