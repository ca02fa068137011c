"""How a process that serves ends."""

from __future__ import annotations

import os
import signal
import threading


def end_with_input() -> None:
    """From now on this process gets SIGTERM when its standard input closes."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
