"""The data sets that lie beside the repository, not in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"


def shared_data(*parts: str) -> Path:
    """A path under ../shared/data. Absent, the test is skipped on a laptop and fails where CI=true."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        reason = f"needs ../shared/data/{'/'.join(parts)}, which is not there"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path
