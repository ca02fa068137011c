"""One phone of the album demo: a process of its own that keeps an album, works when it may, and says what it did.

    python -m isthmus.cli.demo_phone FOLDER

FOLDER holds app.json (what is built into the app) and album.json. On standard output it writes a line of JSON for its key, once,
which it wants a ticket for on standard input, and then one for every piece of work. It ends when standard input closes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus.device import Conditions, Config, Device, FileKeyStore, Ticket, enrol

READY = Conditions(charging=True, unmetered=True, idle=True, free_mb=1000, battery_c=25.0)
MOST_S = 1.0


def main() -> None:
    folder = Path(sys.argv[1])
    config = Config.from_json((folder / "app.json").read_bytes())
    device = enrol(config, FileKeyStore(folder / "device.key"), _sign_in, folder / "store")
    told = json.loads((folder / "album.json").read_bytes())
    if not (folder / "observed").exists():
        for photo, features, event, seconds, position in told["seen"]:
            device.observe(photo, {"embedding": features}, event, seconds=seconds, position=position)
        (folder / "observed").touch(mode=0o600)
    over = threading.Event()
    threading.Thread(target=_end_with_input, args=(over,), daemon=True).start()
    dies = _dies_at(folder, told["dies_at"])
    while not over.is_set():
        again_after_s = MOST_S
        if device.ready(READY).now:
            done = device.work(dies)
            again_after_s = min(done.again_after_s, MOST_S)
            _say(_state(device, done.what))
        over.wait(again_after_s)
    _say(_state(device, "ended"))
    device.close()


def _sign_in(public: bytes) -> Ticket:
    """Asks the app's back end, which stands at the other end of standard input and output."""
    _say({"device": public.hex()})
    answer = json.loads(sys.stdin.buffer.readline())
    return Ticket(answer["expires_ms"], bytes.fromhex(answer["ticket"]))


def _state(device: Device, what: str) -> dict[str, Any]:
    latest, sent = device.latest(), device.receipts()
    return {
        "work": what,
        "release": latest.number if latest else 0,
        "rounds": [each.told.round for each in sent if each.taken],
        "bytes": sum(each.told.bytes for each in sent),
        "words": sent[0].words() if sent else "",
        "words_zh": sent[0].words("zh") if sent else "",
    }


def _dies_at(folder: Path, mini_batch: int) -> Callable[[], bool]:
    """As if the power went, once, after so many mini-batches; 0 is never."""
    left = [mini_batch]

    def stop() -> bool:
        left[0] -= 1
        if left[0] == 0 and not (folder / "died").exists():
            (folder / "died").touch(mode=0o600)
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    return stop


def _end_with_input(over: threading.Event) -> None:
    while sys.stdin.buffer.readline():
        time.sleep(0)
    over.set()


def _say(said: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
