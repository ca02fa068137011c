"""How a process that carries large messages treats its memory."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from typing import Final

KEPT_BYTES: Final = 64 * 2**20
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3

ENVIRONMENT: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(KEPT_BYTES // 2),
    "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES),
    "MALLOC_TOP_PAD_": str(KEPT_BYTES // 4),
}
"""The settings of `settle` for a process that is about to be started."""


def settle() -> None:
    """Call once all is imported and set up. Freed memory is kept for the next message, up to 64 MiB, instead of being
    given back and cleared by the system page by page; and what stands now is not searched for garbage any more.
    """
    with suppress(OSError, AttributeError):  # only glibc knows mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES // 2)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_TOP_PAD, KEPT_BYTES // 4)
    gc.collect()
    gc.freeze()
