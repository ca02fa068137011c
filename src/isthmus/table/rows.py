"""Row numbers for refusals: the first twenty and the count, never a value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LISTED = 20


def first_rows(bad: NDArray[np.bool_], source_rows: NDArray[np.int64]) -> dict[str, Any]:
    """Fields `count` and `rows` of an error about the rows where `bad` holds."""
    places = np.flatnonzero(bad)
    return {"count": len(places), "rows": [int(row) for row in source_rows[places[:LISTED]]]}
