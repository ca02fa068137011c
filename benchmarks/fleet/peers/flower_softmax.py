"""Flower's simulation engine (Ray) of federated averaging on the softmax task."""

from __future__ import annotations

import time

import numpy as np
from common import INPUTS, LABELS, arguments, cpu_s, peak_mb, shard, tell, trained
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

SIZE = (INPUTS + 1) * LABELS
GIVEN = arguments()
BEGAN = time.perf_counter()
MARKS: list[tuple[float, float]] = []
client, server = ClientApp(), ServerApp()


@client.train()
def train(message, context):
    flat = message.content["arrays"].to_numpy_ndarrays()[0]
    found = trained(flat, *shard(int(context.node_config["partition-id"])))
    content = {"arrays": ArrayRecord([found]), "metrics": MetricRecord({"num-examples": 20})}
    return Message(content=RecordDict(content), reply_to=message)


class Averaging(FedAvg):
    def configure_train(self, *given, **named):
        MARKS.append((time.perf_counter(), cpu_s()))
        return super().configure_train(*given, **named)


@server.main()
def main(grid, context):
    strategy = Averaging(
        fraction_train=GIVEN["cohort"] / GIVEN["devices"],
        fraction_evaluate=0.0,
        min_available_nodes=GIVEN["devices"],
        min_train_nodes=GIVEN["cohort"],
    )
    first = ArrayRecord([np.zeros(SIZE, dtype=np.float32)])
    result = strategy.start(grid=grid, initial_arrays=first, num_rounds=GIVEN["rounds"] + 1)
    MARKS.append((time.perf_counter(), cpu_s()))
    # The first round starts the actors.
    wall_s, cpu = (last - first for first, last in zip(MARKS[1], MARKS[-1], strict=True))
    moved = float(np.abs(result.arrays.to_numpy_ndarrays()[0]).sum())
    tell(
        clients=GIVEN["rounds"] * GIVEN["cohort"],
        wall_s=wall_s,
        cpu_s=cpu,
        peak_mb=peak_mb(),
        start_s=MARKS[1][0] - BEGAN,
        moved=moved,
    )


if __name__ == "__main__":
    resources = {"client_resources": {"num_cpus": 1.0, "num_gpus": 0.0}}
    resources["init_args"] = {"num_cpus": GIVEN["cores"], "include_dashboard": False}
    run_simulation(
        server_app=server, client_app=client, num_supernodes=GIVEN["devices"], backend_config=resources
    )
