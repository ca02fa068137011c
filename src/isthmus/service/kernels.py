"""Kernels that were compiled when an image was made, brought to where they may be read.

The compiler opens its cache for writing even if it only reads, and an image is read-only: so the files are copied, once a start.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path


def bring(environment: Mapping[str, str]) -> bool:
    """Copies the folder ISTHMUS_KERNELS to NUMBA_CACHE_DIR if nothing is there yet. Says whether it did."""
    shipped, cache = environment.get("ISTHMUS_KERNELS"), environment.get("NUMBA_CACHE_DIR")
    if not shipped or not cache or not Path(shipped).is_dir() or Path(cache).exists():
        return False
    Path(cache).mkdir(mode=0o700, parents=True)
    shutil.copytree(shipped, cache, dirs_exist_ok=True, copy_function=shutil.copyfile)
    return True
