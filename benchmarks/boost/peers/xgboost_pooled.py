"""xgboost on all columns in one place, one thread, on the same bins: the limit in speed, and the oracle of quality."""

from __future__ import annotations

import xgboost
from common import auc, finish, load, per_tree


def main() -> None:
    case = load()
    train = xgboost.QuantileDMatrix(case.binned[: case.rows], case.y[: case.rows], max_bin=256)
    test = xgboost.DMatrix(case.binned[case.rows :])
    settings = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "nthread": 1,
        "max_depth": case.depth,
        "max_bin": 256,  # enough to keep every bin of the data apart
        "eta": case.learning_rate,
        "reg_lambda": 1,
        "min_child_weight": 5,
    }
    result, model = per_tree(lambda trees: xgboost.train(settings, train, trees), case)
    result["auc"] = auc(case.y[case.rows :], model.predict(test, iteration_range=(0, case.trees)))
    finish(result, "xgboost-cpu", "numpy")


if __name__ == "__main__":
    main()
