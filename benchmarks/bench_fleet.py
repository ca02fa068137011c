"""Device rounds: secure sums, simulation, and a leader under load, beside other systems on the same machine.

    ./run bench fleet [--quick] [--bench sum,simulation,live,noise,overlap,million] [--peers FOLDER] [--repeats N]
                      [--length N] [--cohort N] [--devices N] [--uploads N] [--checkins N]

One JSON line per case and repeat: bench, engine, d (parameters), cohort, device_cpu_s (per device), server_cpu_s (per round),
bytes_per_param, clients_per_s, checkins_per_s, wall_s, peak_mb; what a case does not measure is null.

sum         One secure sum of `length` parameters over `cohort` devices: seal, check, add, both helpers' answers, open. Beside
            it the steps of Flower's SecAgg+ for the same vector and cohort, in one process without a network: with 3 of 5
            shares, and, where the engine says `full`, with a share for every other device and a threshold of two thirds.
simulation  The softmax task (64 x 10, 20 examples a device, 3 epochs, batches of 16): our simulation with clipping, rounding
            and ring, the same with rotation, a plain loop over devices, pfl, and Flower with Ray. The first round is left out
            everywhere; `start_s` is what it and everything before took at the peers.
live        A leader process over TLS: check-ins, and uploads of sealed reports. The load generator's CPU is counted apart.
noise, overlap, million   What the noise of a budget costs in accuracy, what rounds at once save in hours, a million devices.

Peers live in environments of their own: `python -m venv FOLDER/flwr`, `pip install 'flwr[simulation]==1.41.0'`, and
`python -m venv FOLDER/pfl`, `pip install pfl==0.6.0 numpy`; a peer that is not there is skipped with a word.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before any numerical library is loaded: each counts what one thread does.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from fleet import live, sums, tasks
from fleet.machine import about

SCRIPTS = Path(__file__).parent / "fleet" / "peers"
COLUMNS = (
    *("bench", "engine", "d", "cohort", "device_cpu_s", "server_cpu_s", "bytes_per_param"),
    *("clients_per_s", "checkins_per_s", "wall_s", "peak_mb"),
)
TIMEOUT_S = 1800
Figures = dict[str, Any]


def peer(case: argparse.Namespace, name: str, script: str, **given: Any) -> Figures:
    """What a script under the Python of a peer prints last."""
    python = Path(os.environ.get(f"ISTHMUS_PEER_{name.upper()}", f"{case.peers or ''}/{name}/bin/python"))
    if not python.is_file():
        return {"skipped": f"no environment: --peers FOLDER with {name}/, or ISTHMUS_PEER_{name.upper()}"}
    ended = subprocess.run(
        [str(python), str(SCRIPTS / script), json.dumps(given)],
        env={**os.environ, "PYTHONPATH": "", "FLWR_TELEMETRY_ENABLED": "0", "RAY_DEDUP_LOGS": "0"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    told = [line for line in ended.stdout.splitlines() if line.startswith("RESULT ")]
    if ended.returncode or not told:
        return {"skipped": f"it failed: {(ended.stderr.strip().splitlines() or [ended.returncode])[-1]}"}
    return dict(json.loads(told[-1].removeprefix("RESULT ")))


def secure_sums(case: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    yield "isthmus split-trust", sums.split_trust(case, 0.0)
    yield "isthmus split-trust, noise", sums.split_trust(case, 100.0)
    given = {"cohort": case.cohort, "length": case.length, "timed": 3}
    yield "flower secagg+, 5 shares", peer(case, "flwr", "flower_secagg.py", shares=5, threshold=3, **given)
    if not case.quick:
        full = {"shares": case.cohort - 1 | 1, "threshold": round(0.67 * case.cohort)}
        yield "flower secagg+, full", peer(case, "flwr", "flower_secagg.py", **full, **given)


def simulations(case: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    yield "isthmus", tasks.simulated(case, rotate=False)
    yield "isthmus, rotated", tasks.simulated(case, rotate=True)
    yield "numpy loop, no clipping, no rounding", tasks.looped(case)
    given = {"devices": case.devices, "cohort": case.cohort_simulated, "rounds": case.rounds}
    yield "pfl", _a_client(peer(case, "pfl", "pfl_softmax.py", **given))
    small = {
        "devices": min(case.devices, 400),
        "cohort": min(case.cohort_simulated, 200),
        "rounds": min(case.rounds, 3),
    }
    yield "flower, ray", _a_client(peer(case, "flwr", "flower_softmax.py", cores=os.cpu_count(), **small))


def _a_client(figures: Figures) -> Figures:
    if "skipped" in figures:
        return figures
    clients, cpu_s = figures.pop("clients"), figures.pop("cpu_s")
    rates = {"clients_per_s": clients / figures["wall_s"], "clients_per_cpu_s": clients / cpu_s}
    return {**rates, "device_cpu_s": cpu_s / clients, **figures}


def lives(case: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    for figures in live.measured(case):
        yield "isthmus leader", figures


def _ours(measure: Callable[[argparse.Namespace], Iterator[Figures]]) -> Bench:
    def measured(case: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
        for figures in measure(case):
            yield "isthmus", figures

    return measured


Bench = Callable[[argparse.Namespace], Iterator[tuple[str, Figures]]]
BENCHES: dict[str, Bench] = {
    "sum": secure_sums,
    "simulation": simulations,
    "live": lives,
    "noise": _ours(tasks.noised),
    "overlap": _ours(tasks.overlapping),
    "million": _ours(tasks.million),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--bench", default="sum,simulation,live")
    parser.add_argument("--peers", help="folder of the peers' environments")
    parser.add_argument("--repeats", type=int, default=1)
    sizes = {
        "length": (100_000, 10_000),
        "cohort": (100, 30),
        "devices": (4000, 500),
        "cohort-simulated": (1000, 200),
    }
    sizes |= {
        "rounds": (10, 2),
        "uploads": (10_000, 200),
        "live-length": (10_000, 1000),
        "checkins": (10_000, 500),
    }
    for name, (usual, _) in sizes.items():
        parser.add_argument(f"--{name}", type=int, help=f"{usual:,}")
    case = parser.parse_args()
    for name, (usual, quick) in sizes.items():
        at = name.replace("-", "_")
        if getattr(case, at) is None:
            setattr(case, at, quick if case.quick else usual)
    chosen = case.bench.split(",")
    if unknown := set(chosen) - set(BENCHES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    for _ in range(case.repeats):
        for bench in chosen:
            sized = {"sum": (case.length, case.cohort), "simulation": (650, case.cohort_simulated)}.get(
                bench, (None, None)
            )
            for engine, figures in BENCHES[bench](_sized(case, bench)):
                line = dict.fromkeys(COLUMNS) | {
                    "bench": bench,
                    "engine": engine,
                    "d": sized[0],
                    "cohort": sized[1],
                }
                print(json.dumps({**line, **figures, **about()}), flush=True)


def _sized(case: argparse.Namespace, bench: str) -> argparse.Namespace:
    """The simulation has a cohort of its own."""
    if bench != "simulation":
        return case
    return argparse.Namespace(**{**vars(case), "cohort": case.cohort_simulated})


if __name__ == "__main__":
    main()
