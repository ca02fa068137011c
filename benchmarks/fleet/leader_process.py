"""A leader with its real listener in a process of its own: leader_process.py FOLDER

Reads `start.json` in the folder (keys of leader, authority and devices, the task file), prints a JSON line with its port,
then answers each line on standard input with a JSON line of what it has used and done. Both helpers live in this process
as well; they work once the round is full, and what they use is in the figures only after that.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from isthmus.base.document import read_document
from isthmus.crypto.hpke import SealingKey
from isthmus.crypto.seal import PartyKey
from isthmus.fleet.desk import Pace
from isthmus.fleet.leader import Leader
from isthmus.fleet.manifest import document_of, make_manifest, make_task
from isthmus.fleet.simulated_sum import Record
from isthmus.fleet.task import parse_task
from isthmus.privacy.noise import discrete_gaussian
from isthmus.protocols.secure_sum import Allowance, Batch, Helper, HelperKey, Looked, answer, look
from isthmus.store.fleet import Device, FleetRows, Population
from isthmus.wire import heap
from isthmus.wire.link import make_certificate, server_context


class Line:
    """A helper in this process."""

    def __init__(self, helper: Helper) -> None:
        self.helper = helper
        self._record = Record()

    async def look(self, batch: Batch) -> Looked:
        return await asyncio.to_thread(look, self.helper, batch, self._record, now_ms())

    async def answer(self, batch: Batch) -> bytes:
        return await asyncio.to_thread(answer, self.helper, batch, self._record, now_ms(), discrete_gaussian)

    async def close(self) -> None:
        pass


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def tell(**figures: Any) -> None:
    print(json.dumps(figures), flush=True)


async def lead(folder: Path) -> None:
    heap.settle()
    start = json.loads((folder / "start.json").read_text("utf-8"))
    key, authority = (PartyKey.from_bytes(bytes.fromhex(start[name])) for name in ("leader", "authority"))
    allowance = Allowance(key.public, authority.public, 20, 1000)
    task = parse_task(read_document(start["task"].encode(), "task.yaml"))
    helpers = {
        name: Helper(PartyKey.generate(), SealingKey.generate(), (allowance,))
        for name in task.parties.helpers
    }
    cards = [HelperKey(name, each.signing.public, each.sealing.public) for name, each in helpers.items()]
    rows = FleetRows(folder)
    rows.add_population(Population("phones", authority.public, 100.0, 0.001, False, 0))
    for name in helpers:
        rows.add_helper(name, name, 0)
    for device in start["devices"]:
        rows.enrol(Device("phones", bytes.fromhex(device), b"", 4 * 10**12, "8.2", False), now_ms())
    manifest = make_manifest(task, key.public, authority.public, cards)
    row, blobs = make_task(task, document_of(task), manifest, key, None, len(start["devices"]), now_ms())
    rows.add_task(row, blobs, None)
    certificate, tls_key = make_certificate("leader", ["127.0.0.1"])
    (folder / "tls.pem").write_bytes(certificate)
    (folder / "tls.key").write_bytes(tls_key)
    leader = Leader(folder, key, lambda name: Line(helpers[name]), pace=Pace(0.01, 1e9, 1.0))
    await leader.start()
    port = await leader.server.listen(
        "127.0.0.1", 0, server_context(str(folder / "tls.pem"), str(folder / "tls.key"))
    )
    tell(port=port, manifest=manifest.digest.hex())
    while await asyncio.to_thread(sys.stdin.readline):
        used = resource.getrusage(resource.RUSAGE_SELF)
        last = rows.rounds(manifest.digest)
        tell(
            cpu_s=used.ru_utime + used.ru_stime,
            peak_mb=used.ru_maxrss / 1024,
            check_ins=leader.server.counts.check_ins,
            reports=leader.server.counts.reports,
            refused=leader.server.counts.refused,
            phases=[each.phase for each in last],
        )
    await leader.close()


if __name__ == "__main__":
    asyncio.run(lead(Path(sys.argv[1])))
