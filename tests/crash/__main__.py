"""`./run sweep [--full]`: how jobs survive, as JSON lines: kind, points, finished, identical, max_steps_redone.

    boundaries   either party's node or worker killed at every write that lasts, before it and after it
    instants     node or worker killed at random instants
    doubles      two such blows in one job
    full-disk    every such write fails as on a full disk, and the next ones for a second
    line         the line cut, held up and its requests doubled by a proxy, all through the job
    rounds       device rounds: leader or helper killed, or its disk full, at every write; two kills at random instants;
                 30 % of the devices vanish. `identical` is then `exact`: each model is that of the reports that were counted

Without --full a seeded sample of each. A point that was not reached (the process had ended) is not counted.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.crash.fleet_lab import PROCESSES, FleetBlow, FleetLab
from tests.crash.lab import PARTIES, Blow, Lab, Outcome, random_blows

JOBS = ("boundaries", "instants", "doubles", "full-disk", "line")
KINDS = (*JOBS, "rounds")
SAMPLE = 6
INSTANTS = DOUBLES = 200
LINES = 20


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./run sweep", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="every point instead of a sample")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind; may be given again")
    parser.add_argument("--engine", default="lattice-hint", choices=("lattice-hint", "paillier"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--share", default="1/1", help="i/n: only every n-th point, from the i-th on, to split the work"
    )
    chosen = parser.parse_args(arguments)
    share, shares = (int(part) for part in chosen.share.split("/"))
    bad = 0
    kinds = chosen.kind or KINDS
    with tempfile.TemporaryDirectory(prefix="isthmus-sweep-") as root:
        if "rounds" in kinds:
            line = sweep_rounds(FleetLab(Path(root)), chosen.full, chosen.seed, share, shares)
            print(json.dumps(line), flush=True)
            bad += line["points"] - min(line["finished"], line["exact"])
        if not set(kinds) & set(JOBS):
            return 1 if bad else 0
        lab = Lab(Path(root), chosen.engine)
        wanted = lab.run([])
        if not wanted.finished:
            print(json.dumps({"kind": "undisturbed", "finished": False, "errors": wanted.errors}), flush=True)
            return 1
        for kind in [kind for kind in kinds if kind in JOBS]:
            points = experiments(kind, wanted, chosen.full, chosen.seed)[share - 1 :: shares]
            line = sweep(lab, kind, points, wanted)
            print(json.dumps({"engine": chosen.engine, **line}), flush=True)
            bad += line["points"] - min(line["finished"], line["identical"]) + (line["max_steps_redone"] > 1)
    return 1 if bad else 0


def experiments(kind: str, wanted: Outcome, full: bool, seed: int) -> list[list[Blow]]:
    """The blows of every experiment of a kind."""
    draw = random.Random(seed)
    if kind == "line":
        return [[Blow("", "line", seed=n)] for n in range(seed, seed + (LINES if full else 2))]
    if kind in ("boundaries", "full-disk"):
        how = "kill" if kind == "boundaries" else "full"
        points = [
            [Blow(party, role, point, how=how)]
            for (party, role), count in sorted(wanted.passed.items())
            for point in range(1, count + 1)
        ]
        return points if full else draw.sample(points, min(SAMPLE, len(points)))
    many = (INSTANTS if kind == "instants" else DOUBLES) if full else SAMPLE
    span_s = max(2.0, wanted.wall_s - 1.0)
    if kind == "instants":
        return [random_blows(seed + n, 1, span_s) for n in range(many)]
    doubles = []
    for n in range(many):
        if n % 2:
            doubles.append(random_blows(seed + n, 2, span_s))
        else:
            pairs = draw.sample(sorted(wanted.passed.items()), 2)
            doubles.append([Blow(*who, draw.randint(1, count)) for who, count in pairs])
    return doubles


def sweep(lab: Lab, kind: str, experiments: list[list[Blow]], wanted: Outcome) -> dict[str, Any]:
    outcomes = [(blows, lab.run(blows)) for blows in experiments]
    struck = [(blows, o) for blows, o in outcomes if o.struck or not o.finished]
    walls = sorted(o.wall_s for _, o in struck) or [0.0]
    return {
        "kind": kind,
        "points": len(struck),
        "finished": sum(o.finished for _, o in struck),
        "identical": sum(o.digests == wanted.digests for _, o in struck),
        "max_steps_redone": max((o.redone for _, o in struck), default=0),
        "missed": len(outcomes) - len(struck),
        "attempts_max": max((o.attempts for _, o in struck), default=0),
        "wall_s": round(walls[len(walls) // 2], 1),
        "undisturbed_s": round(wanted.wall_s, 1),
        "parties": list(PARTIES),
        "failures": [
            {
                "blows": [repr(b) for b in blows],
                "errors": o.errors,
                "finished": o.finished,
                "digests": o.digests,
            }
            for blows, o in struck
            if not o.finished or o.digests != wanted.digests
        ],
    }


def sweep_rounds(lab: FleetLab, full: bool, seed: int, share: int, shares: int) -> dict[str, Any]:
    """Every boundary of leader and helpers, once killed and once with a full disk, and pairs of kills at random instants."""
    draw = random.Random(seed)
    wanted = lab.run([])
    points = [
        [FleetBlow(process, point, how=how)]
        for process, count in sorted(wanted.passed.items())
        for point in range(1, count + 1)
        for how in ("kill", "full")
    ]
    pairs = [
        [FleetBlow(draw.choice(PROCESSES), after_s=draw.uniform(0.5, wanted.wall_s)) for _ in range(2)]
        for _ in range(DOUBLES if full else 2)
    ]
    chosen = ([*points, *pairs] if full else [*draw.sample(points, SAMPLE), *pairs])[share - 1 :: shares]
    outcomes = [(blows, lab.run(blows)) for blows in chosen]
    struck = [(blows, o) for blows, o in outcomes if o.struck or not o.finished]
    return {
        "kind": "rounds",
        "points": len(struck),
        "finished": sum(o.finished for _, o in struck),
        "exact": sum(o.exact for _, o in struck),
        "rounds": sum(o.rounds for _, o in struck),
        "given_up": sum(o.given_up for _, o in struck),
        "max_gap_s": round(max((o.gap_s for _, o in struck), default=0.0), 2),
        "max_over_s": round(max((o.over_s for _, o in struck), default=0.0), 2),
        "missed": len(outcomes) - len(struck),
        "undisturbed_s": round(wanted.wall_s, 1),
        "passed": wanted.passed,
        "failures": [
            {"blows": [repr(b) for b in blows], "errors": o.errors, "finished": o.finished}
            for blows, o in struck
            if not (o.finished and o.exact)
        ],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
