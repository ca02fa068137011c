"""FedTree's vertical trees with homomorphic encryption (its own Paillier; the length of its key is not documented).

It divides the columns between its two parties itself, evenly.
"""

from __future__ import annotations

import fedtree
import numpy as np
from common import auc, finish, load, per_tree


def main() -> None:
    case = load()
    x, y = case.x[: case.rows].astype(np.float32), case.y[: case.rows].astype(int)

    def train(trees: int) -> fedtree.FLClassifier:
        model = fedtree.FLClassifier(
            n_parties=2,
            mode="vertical",
            partition=1,
            partition_mode="vertical",
            n_hori=1,
            n_verti=2,
            privacy_tech="he",
            max_depth=case.depth,
            n_trees=trees,
            max_num_bin=case.bins,
            learning_rate=case.learning_rate,
            lambda_ft=1,
            objective="binary:logistic",
            bagging=0,
            reorder_label=0,
            verbose=0,
        )
        return model.fit(x, y)

    result, model = per_tree(train, case)
    score = np.asarray(model.predict_proba(case.x[case.rows :].astype(np.float32)))
    result["auc"] = auc(case.y[case.rows :], score[:, 1] if score.ndim == 2 else score)
    result["auc_trees"] = case.trees + 1
    finish(result, "fedtree", "numpy")


if __name__ == "__main__":
    main()
