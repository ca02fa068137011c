"""Where the CPU seconds of one party go: which functions of the product belong to which stage."""

from __future__ import annotations

import time
from argparse import Namespace

from boost.stopwatch import Stopwatch
from isthmus.crypto.lattice import hint
from isthmus.protocols import boost
from isthmus.wire.message import Message

OFFLINE = ((hint.LabelKeys, "prepare"), (hint.OuterKey, "open"))
STAGES = {
    "encrypt": ((hint, "encrypt"),),
    "add": ((hint, "add_words"),),
    "answer": ((hint, "answer"), (hint, "read_sums")),
    "own histogram": ((boost, "histogram"),),
    "gradients": ((boost, "gradients"), (boost, "quantise"), (boost, "loss"), (boost, "leaf_values")),
    "splits": ((boost, "best_split"), (boost, "goes_left")),
    "messages": ((Message, "encode"), (Message, "decode")),
}


class Watch:
    """Counts offline work always, the other stages where the case asks for a profile.

    Of a profile, `event loop` is what the main thread did beside the stages (the socket, the tree's bookkeeping), and `other`
    what the process did beside both.
    """

    def __init__(self, case: Namespace) -> None:
        self._stopwatch = Stopwatch()
        self._profile = case.profile
        self._main_s = 0.0
        for owner, name in OFFLINE:
            self._stopwatch.wrap(owner, name, "offline")
        for stage, places in STAGES.items() if case.profile else ():
            for owner, name in places:
                self._stopwatch.wrap(owner, name, stage)

    def start(self) -> None:
        self._stopwatch.clear()
        self._main_s = time.thread_time()

    def stop(self, spent_s: float) -> dict[str, float]:
        """CPU seconds by stage; `spent_s` are those of the whole process since `start`."""
        stages = dict(self._stopwatch.cpu_s)
        if self._profile:
            stages["rest"] = spent_s - sum(stages.values())
        return stages
