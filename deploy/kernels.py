"""Compiles every kernel into NUMBA_CACHE_DIR and lets every user read what came out. Runs while an image is built."""

from __future__ import annotations

import os
from pathlib import Path

from isthmus.crypto.lattice import vectors
from isthmus.learn import tree


def main() -> None:
    vectors.warm()
    tree.warm()
    cache = Path(os.environ["NUMBA_CACHE_DIR"])
    for path in (cache, *cache.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main()
