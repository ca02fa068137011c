"""Sums without a helper (protocols/secagg_plus.py): CPU seconds and bytes of one round, all in one process, without a network.

    ./run bench secagg [--quick] [--devices N] [--length WORDS] [--width BYTES] [--drop SHARE]

The terms allow for a share of drop-outs, and so many devices vanish after they have shared: the dearest moment for the leader.
Prints one JSON line: `device_ms` are medians over the devices of CPU milliseconds by step, `leader_ms` is the sum over the round,
bytes are encoded messages of one device. The signed requests and TLS around them are not in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import cryptography
import numpy as np

from isthmus.crypto.seal import PartyKey
from isthmus.protocols.secagg_plus import Cohort, Device, Terms, keepers_for
from isthmus.protocols.secure_sum import ticket

NOW_MS = 1_800_000_000_000


class Meter:
    """CPU milliseconds by step, one figure a call."""

    def __init__(self) -> None:
        self.device: dict[str, list[float]] = defaultdict(list)
        self.leader: dict[str, list[float]] = defaultdict(list)

    @staticmethod
    def run(into: dict[str, list[float]], step: str, call: Callable[..., Any], *arguments: Any) -> Any:
        begin = time.process_time()
        found = call(*arguments)
        into[step].append(1000 * (time.process_time() - begin))
        return found


def measure(count: int, length: int, width: int, drop: float) -> dict[str, Any]:
    authority, leader = PartyKey.generate(), PartyKey.generate()
    population, task, model = (hashlib.sha256(word).digest() for word in (b"population", b"task", b"model"))
    degree, threshold = keepers_for(count, drop)
    terms = Terms(
        population=population,
        task=task,
        round=1,
        model=model,
        length=length,
        width_bytes=width,
        devices=count,
        degree=degree,
        threshold=threshold,
        reports_min=20,
        weight_max=1,
        leader=leader.public,
        authority=authority.public,
    )
    party = sorted((PartyKey.generate() for _ in range(count)), key=lambda key: key.public)
    devices = [
        Device(terms, key, ticket(authority, population, key.public, NOW_MS + 60_000)) for key in party
    ]
    values = np.random.default_rng(1).integers(-127, 128, (count, length), dtype=np.int64)
    staying = range(count - int(count * drop))
    cohort, meter = Cohort(terms), Meter()
    up: dict[str, int] = {}
    down: dict[str, int] = {}

    def device(step: str, n: int, *arguments: Any) -> Any:
        message = meter.run(meter.device, step, getattr(devices[n], step), *arguments)
        up[step] = max(up.get(step, 0), len(message.encode()))
        return message

    def hears(step: str, *arguments: Any) -> Any:
        return meter.run(meter.leader, step, getattr(cohort, step), *arguments)

    for n in range(count):
        hears("add_keys", device("keys", n), NOW_MS)
    roster = hears("roster")
    for n, key in enumerate(party):
        hears("add_shares", key.public, device("share", n, roster, NOW_MS))
    dealt = hears("deal")
    for n in staying:
        public = party[n].public
        hears("add_masked", public, device("mask", n, dealt[public], values[n], 1))
    survivors = hears("survivors")
    for n in staying:
        hears("add_agreed", party[n].public, device("agree", n, survivors))
    agreement = hears("agreement")
    for n in staying:
        hears("add_opening", party[n].public, device("open", n, agreement))
    opened = hears("open")
    if not np.array_equal(opened, values[: len(staying)].sum(axis=0)):
        raise SystemExit("the sum is wrong")
    for step, message in (("roster", roster), ("survivors", survivors), ("agreement", agreement)):
        down[step] = len(message.encode())
    down["dealt"] = max(len(message.encode()) for message in dealt.values())
    device_ms = {step: round(statistics.median(ms), 1) for step, ms in meter.device.items()}
    leader_ms = {step: round(sum(ms), 1) for step, ms in meter.leader.items()}
    return {
        "devices": count,
        "length": length,
        "width_bytes": width,
        "degree": degree,
        "threshold": threshold,
        "dropped": count - len(staying),
        "device_ms": device_ms,
        "device_ms_all": round(sum(device_ms.values()), 1),
        "leader_ms": leader_ms,
        "leader_ms_all": round(sum(leader_ms.values()), 1),
        "bytes_up": up,
        "bytes_up_all": sum(up.values()),
        "bytes_down": down,
        "bytes_down_all": sum(down.values()),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cryptography": cryptography.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench secagg", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 devices, 1,000 words")
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--length", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=3)
    parser.add_argument("--drop", type=float, default=0.1)
    args = parser.parse_args()
    count, length = (30, 1000) if args.quick else (args.devices, args.length)
    sys.stdout.write(json.dumps(measure(count, length, args.width, args.drop)) + "\n")


if __name__ == "__main__":
    main()
