"""Twenty devices with the SDK and a real leader, over TLS: control variates, noise, weights, and a figure of every scorer."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fleet.world import FAR_MS, Fleet, task_of

from isthmus.device import Conditions, Config, Device, FileKeyStore, LeaderCard, Ticket, enrol
from isthmus.protocols.device_round import scorers_of
from isthmus.protocols.secure_sum import ticket
from isthmus.store.fleet import FINISHED

READY = Conditions(charging=True, unmetered=True, idle=True, free_mb=1000, battery_c=20.0)
TASKS: dict[str, dict[str, Any]] = {
    "control variates": {"rounds": {"strategy": "scaffold"}},
    "noise": {"privacy": {"dp": {"epsilon": 50.0, "delta": 1e-5}}},
    "weights": {"robust": {"weight_cap": 3}},
    "a part of the words, a bound that moves": {
        "sum": {"keep": 0.8, "bits": 12},
        "local": {"clip_quantile": 0.5, "clip_norm": 3.0},
    },
}


def phone(fleet: Fleet, port: int, folder: Path, number: int) -> Device:
    certificate = (fleet.folder / "tls.pem").read_text()
    card = LeaderCard("cloud-co", f"127.0.0.1:{port}", fleet.key.public, certificate)
    config = Config("phones", "8.2", card, fleet.authority.public, tuple(fleet.helper_keys()), None)

    def sign_in(public: bytes) -> Ticket:
        return ticket(fleet.authority, fleet.population, public, FAR_MS)

    device = enrol(config, FileKeyStore(folder / "key"), sign_in, folder / "store")
    rng = np.random.default_rng(number)
    for i in range(40):
        features = rng.normal(size=4)
        device.observe(f"photo-{i}", features.tolist(), "share" if features[0] > 0 else "shown")
    return device


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_devices_and_a_leader_finish_a_task(tmp_path: Path, kind: str) -> None:
    async def run() -> dict[str, Any]:
        fleet = Fleet(tmp_path / "fleet")
        async with fleet.leading() as (_, port):
            with ThreadPoolExecutor(4) as pool:
                loop = asyncio.get_running_loop()
                devices = await asyncio.gather(
                    *(
                        loop.run_in_executor(pool, phone, fleet, port, tmp_path / f"p{n}", n)
                        for n in range(20)
                    )
                )
                sections = {**TASKS[kind], "model": {"personal_head": True}}
                sections["local"] = {"learning_rate": 0.3, **sections.get("local", {})}
                manifest = fleet.run(task_of(**sections))

                def work(device: Device) -> None:
                    if device.ready(READY).now:
                        device.work()

                async with asyncio.timeout(60):
                    while fleet.rows.tasks()[0].state != FINISHED:
                        await asyncio.gather(*(loop.run_in_executor(pool, work, each) for each in devices))
                        await asyncio.sleep(0.05)
                told = [sent for device in devices for sent in device.receipts()]
                for device in devices:
                    device.close()
            rounds = fleet.rows.rounds(manifest.digest)
            assert [row.phase for row in rounds] == ["opened"] * 4
            assert len(told) == 80
            assert all(sent.taken for sent in told)
            scores = json.loads(rounds[-1].figures)["scores"]
            assert set(scores) == set(scorers_of(manifest))
            if "clip_quantile" in sections["local"]:
                bounds = [json.loads(row.shown)["clip"] for row in rounds]
                assert (bounds[0], bounds[1]) == (3.0, 0.0)
                assert bounds[2] not in (0.0, 3.0), "it follows what the devices said"
            return dict(scores)

    scores = asyncio.run(run())
    if kind in ("control variates", "weights"):  # whose sums are those of whole updates
        assert scores["candidate"]["auc_per_device"] > 0.8
        assert scores["personal"]["auc_per_device"] > 0.8
