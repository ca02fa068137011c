"""The link: CPU seconds per GiB of large messages, each side in a process of its own, over HTTPS on this machine.

    ./run bench link [--quick] [--engine isthmus-link|grpc] [--mib N] [--frame-kib N ...] [--repeats N]

Prints one JSON line per case, the run whose CPU time is the median. Messages are random bytes, as those of training are.
CPU seconds are of the whole process (user and system), from the first message to the last acknowledgement, without start
and handshake. `sender` says which side sends: the one that dials or the one that listens. `grpc` is a stream of bytes
messages over TLS with grpcio, for comparison; it is not part of the product, so it is left out where it is not installed.
To have it: `pip install --target FOLDER grpcio`, and FOLDER in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from concurrent import futures
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from isthmus.crypto.seal import PartyKey
from isthmus.wire import heap
from isthmus.wire.link import Link, Partner, certificate_der, make_certificate, server_context

JOB = bytes(32)
LISTENER, DIALER = (PartyKey.from_bytes(name * 32) for name in (b"l", b"d"))


class Used:
    """CPU and wall seconds of this process since it was made."""

    def __init__(self) -> None:
        self._cpu_s, self._wall_s = self._cpu(), time.perf_counter()

    def take(self) -> tuple[float, float]:
        return self._cpu() - self._cpu_s, time.perf_counter() - self._wall_s

    @staticmethod
    def _cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime


async def carry(link: Link, partner: str, case: argparse.Namespace, sends: bool) -> tuple[float, float]:
    """Sends or takes all messages on a channel that has been tried with one of them."""
    heap.settle()
    line = link.open(partner, JOB)
    body = os.urandom(case.frame_bytes)
    if sends:
        await line.put(body)
        await line.get()
        used = Used()
        for _ in range(case.count):
            await line.put(body)
        await line.get()
    else:
        await line.get()
        used = Used()
        await line.put(b"")
        for _ in range(case.count):
            await line.get()
        await line.put(b"")
        await line.drained()
    result = used.take()
    await line.close()
    await link.close()
    return result


def link_listens(case: argparse.Namespace, port: Connection, answer: Connection) -> None:
    async def go() -> tuple[float, float]:
        link = Link(LISTENER, "l")
        link.add_partner(Partner("d", DIALER.public))
        port.send(await link.listen("127.0.0.1", 0, server_context(case.certificate, case.key)))
        await link.start()
        return await carry(link, "d", case, case.sender == "listener")

    answer.send(asyncio.run(go()))


def link_dials(case: argparse.Namespace, port: int, answer: Connection) -> None:
    pin = certificate_der(Path(case.certificate).read_bytes())

    async def go() -> tuple[float, float]:
        link = Link(DIALER, "d")
        link.add_partner(Partner("l", LISTENER.public, f"https://127.0.0.1:{port}", pin))
        await link.start()
        return await carry(link, "l", case, case.sender == "dialer")

    answer.send(asyncio.run(go()))


GRPC_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def grpc_listens(case: argparse.Namespace, port: Connection, answer: Connection) -> None:
    grpc: Any = importlib.import_module("grpc")

    used: list[Used] = []

    def stream(messages: Any, context: Any) -> Any:
        if case.sender == "dialer":
            next(messages)
            used.append(Used())
            for _ in messages:
                pass
            yield b""
        else:
            body = os.urandom(case.frame_bytes)
            next(messages)
            used.append(Used())
            for _ in range(case.count):
                yield body

    handler = grpc.method_handlers_generic_handler(
        "Bench", {"Stream": grpc.stream_stream_rpc_method_handler(stream)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(1), options=GRPC_OPTIONS)
    server.add_generic_rpc_handlers((handler,))
    pair = Path(case.key).read_bytes(), Path(case.certificate).read_bytes()
    port.send(server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair])))
    server.start()
    port.recv()
    answer.send(used[0].take())
    server.stop(None)


def grpc_dials(case: argparse.Namespace, port: int, answer: Connection) -> None:
    grpc: Any = importlib.import_module("grpc")

    trusted = grpc.ssl_channel_credentials(Path(case.certificate).read_bytes())
    body = os.urandom(case.frame_bytes)
    used = []
    with grpc.secure_channel(f"127.0.0.1:{port}", trusted, options=GRPC_OPTIONS) as channel:
        stream = channel.stream_stream("/Bench/Stream")
        grpc.channel_ready_future(channel).result(30)

        def messages() -> Any:
            yield body
            used.append(Used())
            for _ in range(case.count if case.sender == "dialer" else 0):
                yield body

        for _ in stream(messages()):
            pass
        answer.send(used[0].take())


ENGINES = {"isthmus-link": (link_listens, link_dials), "grpc": (grpc_listens, grpc_dials)}


def measure(case: argparse.Namespace) -> tuple[float, float, float]:
    """CPU seconds of the sender and of the receiver, and wall seconds of the sender."""
    spawn = multiprocessing.get_context("spawn")
    listens, dials = ENGINES[case.engine]
    port, port_there = spawn.Pipe()
    answers = [spawn.Pipe(duplex=False) for _ in range(2)]
    listener = spawn.Process(target=listens, args=(case, port_there, answers[0][1]))
    listener.start()
    number = port.recv()
    dialer = spawn.Process(target=dials, args=(case, number, answers[1][1]))
    dialer.start()
    dialed = answers[1][0].recv()
    if case.engine == "grpc":
        port.send(None)
    listened = answers[0][0].recv()
    dialer.join()
    listener.join()
    sender, receiver = (dialed, listened) if case.sender == "dialer" else (listened, dialed)
    return sender[0], receiver[0], sender[1]


def run(case: argparse.Namespace) -> dict[str, Any]:
    runs = [measure(case) for _ in range(case.repeats)]
    middle = statistics.median_low(sender + receiver for sender, receiver, _ in runs)
    sender, receiver, wall = next(r for r in runs if r[0] + r[1] == middle)
    gib = case.count * case.frame_bytes / 2**30
    package = "isthmus" if case.engine == "isthmus-link" else "grpcio"
    return {
        "bench": "link",
        "engine": case.engine,
        "sender": case.sender,
        "bytes": case.count * case.frame_bytes,
        "frame_bytes": case.frame_bytes,
        "cpu_s_per_gib_sender": round(sender / gib, 3),
        "cpu_s_per_gib_receiver": round(receiver / gib, 3),
        "cpu_s_per_gib": round(middle / gib, 3),
        "wall_s": round(wall, 3),
        "repeats": case.repeats,
        "versions": {"python": platform.python_version(), package: importlib.metadata.version(package)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one small run of each case")
    parser.add_argument("--engine", choices=["all", *ENGINES], default="all")
    parser.add_argument("--sender", choices=["both", "dialer", "listener"], default="both")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--frame-kib", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.mib, chosen.repeats = 32, 1
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = (str(Path(folder) / name) for name in ("certificate.pem", "key.pem"))
        for path, pem in zip((certificate, key), make_certificate("bench", ["127.0.0.1"]), strict=True):
            Path(path).write_bytes(pem)
        for engine in ENGINES if chosen.engine == "all" else (chosen.engine,):
            if engine == "grpc" and importlib.util.find_spec("grpc") is None:
                print("grpc is left out: grpcio is not installed", file=sys.stderr)
                continue
            for frame_kib in chosen.frame_kib:
                for sender in ("dialer", "listener") if chosen.sender == "both" else (chosen.sender,):
                    case = argparse.Namespace(
                        engine=engine,
                        sender=sender,
                        frame_bytes=frame_kib * 2**10,
                        count=max(1, chosen.mib * 2**10 // frame_kib),
                        repeats=chosen.repeats,
                        certificate=certificate,
                        key=key,
                    )
                    print(json.dumps(run(case)), flush=True)


if __name__ == "__main__":
    main()
