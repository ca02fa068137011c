"""Records of runs that last, for roles that are played without a node."""

from __future__ import annotations

from pathlib import Path

from isthmus.crypto.onetime import Recorded
from isthmus.store.checkpoints import Checkpoints

KEY = bytes(range(32))


def lasting_ledger(path: Path) -> Recorded:
    return Recorded(Checkpoints(path, KEY))
