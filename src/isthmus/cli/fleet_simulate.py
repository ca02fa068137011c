"""fleet simulate: a task file run over many simulated devices on this machine, before any real one is asked."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from isthmus.base.errors import ConfigError
from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.fleet.crowd import Behaviour, Shards, digits_like, spread
from isthmus.fleet.manifest import head_of
from isthmus.fleet.planned import plan_of
from isthmus.fleet.simulate import Outcome, Simulation
from isthmus.fleet.simulated_plots import drawings
from isthmus.fleet.simulated_sum import SplitTrustSum
from isthmus.fleet.task import load_task
from isthmus.wire import heap

POOL, HELD_OUT = 50_000, 2_000


@click.command()
@click.argument("task", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--devices", type=click.IntRange(20, 5_000_000), default=10_000, show_default=True, help="Devices in all."
)
@click.option(
    "--alpha",
    type=click.FloatRange(0.01, 1000),
    default=0.5,
    show_default=True,
    help="How alike the devices are: 0.1 hardly, 100 nearly the same.",
)
@click.option(
    "--available",
    type=click.FloatRange(0.001, 1),
    default=0.25,
    show_default=True,
    help="Share of devices that could train at a moment.",
)
@click.option(
    "--dropped",
    type=click.FloatRange(0, 0.95),
    default=0.05,
    show_default=True,
    help="Share of asked devices that never report.",
)
@click.option(
    "--flipped",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Share of devices that send minus their update.",
)
@click.option(
    "--scaled",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Share of devices that send -100 times their update.",
)
@click.option(
    "--sum",
    "sums",
    type=click.Choice(["plain", "split-trust"]),
    default="plain",
    show_default=True,
    help="plain: ring sums without masks; split-trust: every report sealed, answered, opened.",
)
@click.option("--rounds", type=click.IntRange(1, 1000), help="Instead of rounds.count of the task.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Instead of run.seed of the task.")
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Batches trained side by side.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for rounds.jsonl and drawings (SVG).",
)
@common
@pass_settings
def simulate(
    settings: Settings, task: Path, devices: int, alpha: float, available: float, dropped: float, flipped: float,
    scaled: float, sums: str, rounds: int | None, seed: int | None, threads: int, out: Path | None,
) -> None:  # fmt: skip
    """Run a task file over simulated devices that hold generated examples. One line a round; nothing leaves this machine."""
    if flipped + scaled > 1:
        raise ConfigError(
            "out_of_bounds", field="--flipped", value=flipped, allowed="with --scaled at most 1"
        )
    loaded = load_task(task.read_bytes(), task.name)
    head = head_of(loaded)
    plan = plan_of(loaded, devices=devices, rounds=rounds, seed=seed, threads=threads)
    x, y = digits_like(POOL + HELD_OUT, head.inputs, max(2, head.outputs), plan.seed)
    shards = Shards(
        x[:POOL], y[:POOL], spread(y[:POOL], devices, loaded.example.min_per_device, alpha, plan.seed)
    )
    adder = SplitTrustSum(plan.max_per_device, 1, plan.rounds) if sums == "split-trust" else None
    behaviour = Behaviour(available, dropped=dropped, flipped=flipped, scaled=scaled)
    heap.settle()
    simulation = Simulation(head, shards, (x[POOL:], y[POOL:]), plan, behaviour, adder)
    outcomes: list[Outcome] = []
    for outcome in simulation.outcomes():
        outcomes.append(outcome)
        if settings.as_json:
            click.echo(json.dumps(asdict(outcome)))
        else:
            settings.say(
                f"round {outcome.round + 1}: {outcome.reports} reports, accuracy {outcome.accuracy:.3f}",
                f"第 {outcome.round + 1} 轮：{outcome.reports} 份上报，准确率 {outcome.accuracy:.3f}",
            )
    if not settings.as_json:
        click.echo(_table(settings, outcomes))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "rounds.jsonl").write_text(
            "".join(json.dumps(asdict(each)) + "\n" for each in outcomes), "utf-8"
        )
        for name, svg in drawings(outcomes).items():
            (out / name).write_text(svg, "utf-8")
        settings.say(f"Written to {out}.", f"已写入 {out}。")


def _table(settings: Settings, outcomes: list[Outcome]) -> str:
    head = settings.words(
        "round,hours,asked,dropped,late,reports,accuracy,loss,epsilon,buckets that stand out",
        "轮次,小时,已邀请,未上报,迟到,计入,准确率,损失,epsilon,异常分桶",
    ).split(",")
    rows = [
        (
            o.round + 1, f"{o.hours:.1f}", o.asked, o.dropped, o.late, o.reports, f"{o.accuracy:.3f}", f"{o.loss:.3f}",
            "-" if o.epsilon is None else f"{o.epsilon:.2f}", ", ".join(str(b + 1) for b in o.flagged) or o.reason or "-",
        )
        for o in outcomes
    ]  # fmt: skip
    return table(head, rows)
