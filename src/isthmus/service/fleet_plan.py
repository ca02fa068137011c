"""What people see before a fleet task is run, in their language: work, bytes, privacy, who learns what, what is in the way."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from isthmus.base.errors import IsthmusError
from isthmus.fleet.task import FleetTask
from isthmus.service.views import error_view


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """`figures` as the fleet counts them. `digest`: of the paper that would be signed; None while a helper is missing.
    `begins_with`: number of the release that training starts from; None for a fresh model."""

    file: FleetTask
    document: str
    digest: bytes | None
    figures: dict[str, Any]
    budget: dict[str, float]
    begins_with: int | None
    obstacles: tuple[IsthmusError, ...]


def plan_view(plan: FleetPlan, language: str) -> dict[str, Any]:
    file, figures = plan.file, plan.figures
    return {
        "task": file.metadata.name,
        "fleet": file.fleet.name,
        "purpose": file.metadata.purpose,
        "digest": plan.digest and plan.digest.hex(),
        "document": plan.document,
        "begins_with": plan.begins_with,
        "parameters": figures["parameters"],
        "rounds": file.rounds.count,
        "evaluations": ceil(file.rounds.count / file.evaluate.every),
        "reports_a_round": file.rounds.cohort,
        "floor": file.rounds.min_cohort,
        "buckets": file.robust.buckets,
        "times_a_device": file.rounds.max_per_device,
        "upload_bytes": figures["upload_bytes"],
        "fetch_bytes": figures["fetch_bytes"],
        "noise_std": figures["noise_std"],
        "epsilon": figures["epsilon"],
        "delta": figures["delta"],
        "budget": plan.budget,
        "learns": [{"who": who, "learns": learns} for who, learns in _learns(file, language)],
        "obstacles": [error_view(error, language) for error in plan.obstacles],
    }


def _learns(file: FleetTask, language: str) -> list[tuple[str, str]]:
    """Who learns what, if each does what it should; the last line says what it takes to break that."""
    floor, (first, second) = file.rounds.min_cohort, file.parties.helpers
    noisy = file.privacy.dp != "none"
    if language == "zh":
        noise = "，且含各协助方加入的噪声" if noisy else "，不含噪声"
        return [
            (
                file.parties.leader,
                f"至少 {floor} 台设备上报之和{noise}；哪些设备（公钥）参与、权重多少；签到时的应用版本与条件",
            ),
            *((name, "哪些设备参与及其权重；看不到任何模型更新") for name in (first, second)),
            ("设备", "任务、当前模型，以及本机上报的回执；照片与行为不离开设备"),
            ("任何人", f"单台设备的更新：只有 {file.parties.leader}、{first} 与 {second} 三方合谋才能得到"),
        ]
    noise = ", with the noise of each helper in it" if noisy else ", without noise"
    return [
        (
            file.parties.leader,
            f"sums over at least {floor} devices{noise}; which devices (keys) took part, with which weight; "
            "version of the app and conditions at check-in",
        ),
        *(
            (name, "which devices took part, with which weight; nothing of any update")
            for name in (first, second)
        ),
        ("device", "the task, the model, receipts of what it sent; examples and behaviour never leave it"),
        (
            "anybody",
            f"one device's update: only if {file.parties.leader}, {first} and {second} work together, all three",
        ),
    ]
