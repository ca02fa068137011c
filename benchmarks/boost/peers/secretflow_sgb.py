"""SecretFlow's vertical boosted trees with Okamoto-Uchiyama at 2048 bits, both parties in this process, nothing sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import secretflow as sf
import spu
from common import auc, finish, load, per_tree
from secretflow.data import FedNdarray, PartitionWay
from secretflow.device.driver import reveal
from secretflow.ml.boost.sgb_v import Sgb

KEY_BITS = 2048
LABEL, FEATURE = "label-owner", "feature-owner"


def main() -> None:
    case = load()
    own, rows = case.own_features, case.rows
    sf.init([LABEL, FEATURE], debug_mode=True)
    label_owner, feature_owner = sf.PYU(LABEL), sf.PYU(FEATURE)
    heu = sf.HEU(
        {
            "sk_keeper": {"party": LABEL},
            "evaluators": [{"party": FEATURE}],
            "mode": "PHEU",
            "he_parameters": {"schema": "ou", "key_pair": {"generate": {"bit_size": KEY_BITS}}},
            "encoding": {
                "cleartext_type": "DT_I32",
                "encoder": "IntegerEncoder",
                "encoder_args": {"scale": 1},
            },
        },
        spu.FieldType.FM128 if hasattr(spu, "FieldType") else spu.spu_pb2.FM128,
    )

    def held(device: Any, make: Callable[[], np.ndarray]) -> dict[Any, Any]:
        return {device: device(make)()}

    def columns(part: slice) -> FedNdarray:
        mine = held(label_owner, lambda: case.x[part, :own])
        theirs = held(feature_owner, lambda: case.x[part, own:])
        return FedNdarray(partitions={**mine, **theirs}, partition_way=PartitionWay.VERTICAL)

    label = FedNdarray(
        partitions=held(label_owner, lambda: case.y[:rows].reshape(-1, 1)),
        partition_way=PartitionWay.VERTICAL,
    )
    train, test = columns(slice(rows)), columns(slice(rows, None))
    settings = {
        "max_depth": case.depth,
        "sketch_eps": 1 / case.bins,
        "objective": "logistic",
        "reg_lambda": 1,
        "learning_rate": case.learning_rate,
        "tree_growing_method": "level",
        "gamma": 0,
        "first_tree_with_label_holder_feature": False,
        "seed": 1,
    }
    result, model = per_tree(
        lambda trees: Sgb(heu).train({**settings, "num_boost_round": trees}, train, label), case
    )
    score = reveal(model[: case.trees].predict(test, to_pyu=label_owner).partitions[label_owner])
    result["auc"] = auc(case.y[rows:], np.asarray(score).ravel())
    finish({**result, "key_bits": KEY_BITS}, "secretflow", "sf-heu", "numpy")


if __name__ == "__main__":
    main()
