"""Levels of the parameter sets of the lattice engine, by the lattice-estimator of Albrecht and others.

    python benchmarks/lattice_estimate.py <estimator checkout> [--limit SECONDS] [--only WORD] [--attacks NAMES] [--models WORD]

Needs SageMath's libraries (`pip install passagemath-standard`) in the Python that runs it, and nothing of this project. Prints
the versions, the estimator's own Kyber512 example as calibration, and then, for each instance and cost model, every attack's
raw line. Each attack runs in a process of its own and is given up after `--limit` seconds, which is printed too.

Samples are unlimited. Levels are log2 of `rop`. The instances are explained in docs/explanation/lattice.md.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import math
import multiprocessing
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

N = 4096
FULL, SEEN, HINTED, COLLUDING = (math.sqrt(10.5 * x) for x in (1.0, 1 / 1.25, 1 / 2.5, 1 / 3.5))


def instances(nd: Any, parameters: Any) -> list[Any]:
    """What is estimated: for each set the noise as drawn, and after hints."""
    ternary, made = nd.Uniform(-1, 1), []

    def add(tag: str, q_bits: int, secret: Any, error: Any, n: int = N) -> None:
        made.append(parameters(n=n, q=2**q_bits, Xs=secret, Xe=error, tag=f"{tag}, q=2^{q_bits}"))

    weight = round(N * 2 / 3 * 0.4 / 2)
    for q_bits in (64, 72):
        add("as drawn", q_bits, ternary, nd.CenteredBinomial(21))
        add("hints as attacks use them", q_bits, ternary, nd.DiscreteGaussian(SEEN))
        add("hints by reduction", q_bits, ternary, nd.DiscreteGaussian(HINTED))
        add("secret reduced too", q_bits, nd.SparseTernary(weight, n=N), nd.DiscreteGaussian(HINTED))
        add("three feature owners together", q_bits, ternary, nd.DiscreteGaussian(COLLUDING))
        add("409 digits given away", q_bits, ternary, nd.CenteredBinomial(21), N - 409)
    return made


def attacks(lwe: Any) -> dict[str, Callable[..., Any]]:
    """Each attack of the estimator, as its own `estimate` would call it; only primal attacks take a shape."""
    return {
        "usvp": lwe.primal_usvp,
        "bdd": lwe.primal_bdd,
        "bdd_hybrid": lambda p, **k: lwe.primal_hybrid(p, mitm=False, babai=False, **k),
        "bdd_mitm_hybrid": lambda p, **k: lwe.primal_hybrid(p, mitm=True, babai=True, **k),
        "dual": lambda p, red_shape_model, **k: lwe.dual(p, **k),
        "dual_hybrid": lambda p, red_shape_model, **k: lwe.dual_hybrid(p, **k),
    }


def say(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def bounded(attack: Callable[..., Any], instance: Any, models: dict[str, Any], limit_s: float) -> str:
    """The attack's raw line, or why there is none."""
    ours, theirs = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        theirs.send(repr(attack(instance, **models)))

    started = time.monotonic()
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    theirs.close()
    line = f"given up after {limit_s:.0f} s"
    if ours.poll(limit_s):
        try:
            line = f"{ours.recv()}   [{time.monotonic() - started:.0f} s]"
        except EOFError:
            line = "ended with an error"
    worker.terminate()
    worker.join()
    return line


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", help="folder of the lattice-estimator")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one attack")
    parser.add_argument("--only", default="", help="only instances whose tag holds this word")
    parser.add_argument(
        "--attacks", default="", help="names of attacks, with commas between them; all if absent"
    )
    parser.add_argument("--models", default="", help="only cost models whose name holds this word")
    given = parser.parse_args()
    sys.path.insert(0, given.checkout)
    estimator = importlib.import_module("estimator")
    reduction = importlib.import_module("estimator.reduction")
    commit = subprocess.run(
        ["git", "-C", given.checkout, "log", "-1", "--format=%H %cs"],
        capture_output=True,
        text=True,
        check=True,
    )
    say("# lattice-estimator", commit.stdout.strip())
    say(
        "# passagemath",
        importlib.metadata.version("passagemath-standard"),
        "Python",
        platform.python_version(),
    )
    say("# python benchmarks/lattice_estimate.py CHECKOUT", *(sys.argv[2:]))
    kinds = {
        "MATZOV": {"red_cost_model": reduction.RC.MATZOV, "red_shape_model": "gsa"},
        "core-SVP classical": {"red_cost_model": reduction.RC.ADPS16, "red_shape_model": "gsa"},
        "core-SVP quantum": {"red_cost_model": reduction.ADPS16("quantum"), "red_shape_model": "gsa"},
    }
    named = attacks(estimator.LWE)
    chosen = given.attacks.split(",") if given.attacks else list(named)
    calibration = [estimator.schemes.Kyber512]
    for instance in calibration + instances(estimator.ND, estimator.LWE.Parameters):
        if given.only not in str(instance.tag):
            continue
        say(f"\n## {instance.tag}\n{instance!r}")
        for kind, models in kinds.items():
            for name in chosen if given.models in kind else ():
                line = bounded(named[name], instance.normalize(), models, given.limit)
                say(f"{kind:20s} {name:16s} :: {line}")


if __name__ == "__main__":
    main()
