"""Where the CPU seconds of one party go: which functions of the product belong to which stage."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

from boost.stopwatch import Stopwatch
from isthmus.crypto.lattice.outer import LabelKeys, OuterKey
from isthmus.protocols import boost, hint
from isthmus.wire.message import Message

Places = tuple[tuple[Any, str], ...]
OFFLINE: Places = (
    (LabelKeys, "prepare"),
    (OuterKey, "open"),
    (hint.HintFeatureSide, "_agree"),
)
"""What could be done before a tree begins: hints made, opened, and some of them checked."""
STAGES: dict[str, Places] = {
    "encrypt": ((hint, "encrypt"), (hint, "transform")),
    "add": ((hint, "add_into_bins"),),
    "pack and unpack sums": (
        (hint.HintLabelSide, "_fit"),
        (hint, "_packed"),
        (hint, "_unpacked"),
    ),
    "own histogram": ((boost, "histogram"),),
    "gradients": ((boost, "gradients"), (boost, "quantise"), (boost, "loss"), (boost, "leaf_values")),
    "splits": ((boost, "best_splits"), (boost, "goes_left")),
    "messages": ((Message, "encode"), (Message, "decode")),
}


class Watch:
    """Counts offline work always, the other stages where the case asks for a profile.

    Of a profile, `event loop` is what the main thread did beside the stages (the socket, the tree's bookkeeping), and
    `other threads` what the process did beside both.
    """

    def __init__(self, case: Namespace) -> None:
        self._stopwatch = Stopwatch()
        self._profile = case.profile
        self._main_s = 0.0
        for stage, places in {"offline": OFFLINE, **(STAGES if case.profile else {})}.items():
            for owner, name in places:
                self._stopwatch.wrap(owner, name, stage)

    def start(self) -> None:
        self._stopwatch.clear()
        self._main_s = time.thread_time()

    def stop(self, spent_s: float) -> dict[str, float]:
        """CPU seconds by stage; `spent_s` are those of the whole process since `start`."""
        stages = dict(self._stopwatch.cpu_s)
        if self._profile:
            loop_s = time.thread_time() - self._main_s - self._stopwatch.main_s
            stages["other threads"] = spent_s - sum(stages.values()) - loop_s
            stages["event loop"] = loop_s
        return stages
