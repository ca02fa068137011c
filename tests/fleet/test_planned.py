"""A task file run over simulated devices, as a plan and from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from isthmus.base.errors import ConfigError
from isthmus.cli.fleet_simulate import simulate
from isthmus.cli.output import Settings
from isthmus.fleet.manifest import head_of
from isthmus.fleet.planned import manifest_of, plan_of
from isthmus.fleet.strategies import FedAdam, FedBuff
from tests.fleet.world import task_of

FILE = """
apiVersion: isthmus/v1
kind: FleetTask
metadata: {name: taste, purpose: Rank photos by how much a person will like them, valid_until: "2090-01-01"}
parties: {leader: cloud-co, helpers: [album-app, audit-house]}
fleet: {name: phones}
example: {features: {embedding: 12}, events: {share: 1.0}, min_per_device: 10}
model: {layers: [{dense: 4}, tanh, {dense: 1}, sigmoid]}
local: {clip_norm: 1.0, learning_rate: 0.5}
rounds: {count: 6, cohort: 60, min_cohort: 20, max_per_device: 10}
privacy: {dp: none}
"""


def run(folder: Path, *options: str, file: str = FILE) -> tuple[int, list[dict[str, object]]]:
    (folder / "task.yaml").write_text(file, "utf-8")
    done = CliRunner().invoke(simulate, [str(folder / "task.yaml"), "-o", "json", *options], obj=Settings())
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_a_plan_has_what_the_task_says_and_the_noise_of_its_manifest() -> None:
    task = task_of(
        rounds={"strategy": "fedadam", "cohort": 50, "max_per_device": 3, "server_rate": 0.1},
        privacy={"dp": {"epsilon": 2.0, "delta": 1e-6}},
        sum={"bits": 10, "rotate": False},
    )
    plan = plan_of(task, devices=500, seed=9)
    assert (plan.cohort, plan.max_per_device, plan.bits, plan.rotate, plan.seed) == (50, 3, 10, False, 9)
    assert isinstance(plan.strategy, FedAdam)
    assert plan.noise_std == manifest_of(task).privacy.noise_std > 0
    assert plan.delta == 1e-6
    assert isinstance(plan_of(task_of(rounds={"strategy": "fedbuff", "at_once": 3}), 100).strategy, FedBuff)
    assert head_of(task).size == manifest_of(task).parameters


def test_a_simulated_device_spends_what_its_task_allows_and_no_more(tmp_path: Path) -> None:
    file = FILE.replace("{dp: none}", "{dp: {epsilon: 8.0, delta: 1.0e-5}}").replace(
        "max_per_device: 10", "max_per_device: 2"
    )
    code, lines = run(tmp_path, "--devices", "3000", file=file)
    assert code == 0
    spent = [line["epsilon"] for line in lines]
    assert spent[0] < 8.0  # type: ignore[operator]
    assert spent[1:] == pytest.approx([8.0] * 5)


def test_the_command_writes_a_line_a_round_and_drawings(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "--devices", "2000", "--out", str(tmp_path / "out"))
    assert code == 0
    assert [line["round"] for line in lines] == list(range(6))
    assert lines[-1]["accuracy"] > lines[0]["accuracy"]  # type: ignore[operator]
    assert lines == [
        json.loads(line) for line in (tmp_path / "out/rounds.jsonl").read_text("utf-8").splitlines()
    ]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".jsonl", ".svg"}


def test_both_ways_to_add_up_print_the_same_rounds(tmp_path: Path) -> None:
    def told(*options: str) -> list[dict[str, object]]:
        lines = run(tmp_path, "--devices", "500", "--rounds", "2", *options)[1]
        return [{name: value for name, value in line.items() if name != "train_s"} for line in lines]

    assert told("--sum", "split-trust") == told() != told("--seed", "5")


def test_the_table_speaks_both_languages(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(FILE, "utf-8")
    for language, words in (("en", "reports"), ("zh", "轮次")):
        arguments = [
            str(tmp_path / "task.yaml"),
            "--devices",
            "500",
            "--rounds",
            "2",
            "-o",
            "table",
            "--lang",
            language,
        ]
        done = CliRunner().invoke(simulate, arguments, obj=Settings())
        assert done.exit_code == 0
        assert words in done.output


@pytest.mark.parametrize(
    ("sections", "named"),
    [({"sum": {"keep": 0.5}}, "sum.keep"), ({"local": {"clip_quantile": 0.5}}, "local.clip_quantile")],
)
def test_what_a_simulation_does_not_have_is_refused_and_not_passed_over(
    sections: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of(task_of(**sections), devices=500)
    assert caught.value.fields["field"] == named
