"""The variables of the environment that this project reads; another one of its prefix stops a process at its start.

A name that was mistyped, or a setting that somebody believes to be one, must not be passed over in silence: settings of a node
stand in its config alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isthmus.base.errors import ConfigError

PREFIX: Final = "ISTHMUS_"
KNOWN: Final = frozenset(
    {
        *("ISTHMUS_HOME", "ISTHMUS_KERNELS"),
        *(
            "ISTHMUS_DATA",
            "ISTHMUS_IMAGE",
            "ISTHMUS_MEMORY",
            "ISTHMUS_PORT",
            "ISTHMUS_SCRATCH",
        ),  # deploy/compose.yaml
        *("ISTHMUS_BUILD_IMAGES", "ISTHMUS_FAILED_PARTS", "ISTHMUS_POSTGRES"),  # ./run test
    }
)
PEERS: Final = "ISTHMUS_PEER_"
"""Other programs beside which benchmarks measure."""


def check(environment: Mapping[str, str]) -> None:
    """Raises ConfigError `unknown_field` for the first variable of our prefix that nothing reads."""
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name not in KNOWN and not name.startswith(PEERS):
            known = ", ".join(sorted(KNOWN))
            raise ConfigError("unknown_field", where="the environment", field=name[:80], known=known)
