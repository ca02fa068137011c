"""pfl's simulation of federated averaging on the softmax task, with plain NumPy models in one process."""

from __future__ import annotations

import time

import numpy as np
from common import INPUTS, LABELS, arguments, cpu_s, peak_mb, shard, tell, trained
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.internal.ops import numpy_ops, selector
from pfl.metrics import Metrics
from pfl.model.base import StatefulModel
from pfl.stats import MappedVectorStatistics

selector.set_framework_module(numpy_ops)
SIZE = (INPUTS + 1) * LABELS
GIVEN = arguments()
BEGAN = time.perf_counter()
MARKS: list[tuple[float, float]] = []


class Softmax(StatefulModel):
    def __init__(self):
        self.flat = np.zeros(SIZE, dtype=np.float32)

    @property
    def allows_distributed_evaluation(self):
        return False

    def get_parameters(self, placeholders=None):
        return MappedVectorStatistics({"flat": self.flat.copy()})

    def set_parameters(self, statistics):
        self.flat = statistics["flat"].copy()

    def get_model_difference(self, other, clone=False):
        return MappedVectorStatistics({"flat": self.flat - other["flat"]}, weight=1)

    def apply_model_update(self, statistics):
        self.flat = self.flat + statistics["flat"]
        return self, Metrics()

    def evaluate(self, *given, **named):
        return Metrics()

    def save(self, path):
        raise NotImplementedError

    def load(self, path):
        raise NotImplementedError


class Averaging(FederatedAveraging):
    def train_one_user(self, initial, model, dataset, context):
        model.flat = trained(model.flat, *dataset.raw_data)
        return model.get_model_difference(initial), Metrics()

    def get_next_central_contexts(self, *given, **named):
        MARKS.append((time.perf_counter(), cpu_s()))
        return super().get_next_central_contexts(*given, **named)


shards = [shard(device) for device in range(GIVEN["devices"])]
data = FederatedDataset(
    lambda user: Dataset(shards[user], user_id=user),
    get_user_sampler("random", list(range(GIVEN["devices"]))),
)
model = Softmax()
Averaging().run(
    algorithm_params=NNAlgorithmParams(
        central_num_iterations=GIVEN["rounds"] + 1,
        evaluation_frequency=10**6,
        train_cohort_size=GIVEN["cohort"],
        val_cohort_size=0,
    ),
    backend=SimulatedBackend(training_data=data, val_data=None),
    model=model,
    model_train_params=NNTrainHyperParams(local_num_epochs=1, local_learning_rate=0.1, local_batch_size=None),
    model_eval_params=None,
    callbacks=[],
)
# The first round warms up.
rounds = len(MARKS) - 2
wall_s, cpu = (last - first for first, last in zip(MARKS[1], MARKS[-1], strict=True))
tell(
    clients=rounds * GIVEN["cohort"],
    wall_s=wall_s,
    cpu_s=cpu,
    peak_mb=peak_mb(),
    moved=float(np.abs(model.flat).sum()),
)
