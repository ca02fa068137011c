"""A leader or a helper, whose every write that lasts is a point at which the process may be killed.

`python fleet_process.py leader|helper HOME PORT`; what is to happen is told as in process.py.
"""

from __future__ import annotations

import asyncio
import faulthandler
import sys
from pathlib import Path

from isthmus.base import files
from isthmus.base.clock import SystemClock
from isthmus.cli.ending import end_with_input
from isthmus.crypto.seal import PartyKey
from isthmus.fleet.desk import Pace
from isthmus.fleet.helper import HelperFolder, serve_helper
from isthmus.fleet.helper_line import HelperLine
from isthmus.fleet.leader import Leader
from isthmus.privacy.noise import discrete_gaussian
from isthmus.wire.link import server_context
from tests.crash.process import Fate


async def lead(home: Path, port: int) -> None:
    key = PartyKey.from_bytes((home / "party.key").read_bytes())
    leader = Leader(home, key, lambda card: HelperLine(card, key), pace=Pace(0.1, 1e6, 1.0), tick_s=0.05)
    await leader.start()
    await leader.server.listen(
        "127.0.0.1", port, server_context(str(home / "tls.pem"), str(home / "tls.key"))
    )
    await leader.failed()


def main() -> None:
    faulthandler.enable()
    role, home, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    vars(files)["committed"] = Fate(home, role).at
    end_with_input()
    if role == "leader":
        asyncio.run(lead(home, port))
    else:
        serve_helper(HelperFolder(home), discrete_gaussian, SystemClock(), lambda port: None)


if __name__ == "__main__":
    main()
