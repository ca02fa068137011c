"""One boosted tree's encrypted work by the sum of its parts, with HEU's Okamoto-Uchiyama at 2048 bits.

Encode and encrypt (g, h) once, packed; bucket sums of the root over all rows and of the smaller sibling of every deeper
level over half of them (the best case of histogram subtraction); decrypt all sums. Nothing is serialised or sent within the
time, no split is searched. The sums are checked against numpy.
"""

from __future__ import annotations

import numpy as np
from common import Case, finish, load, timed
from heu import numpy as heu
from heu import phe

KEY_BITS = 2048


def nodes_of(case: Case) -> list[np.ndarray]:
    """A 0/1 row mark for each tree node whose sums are asked for, `(1, rows)` int8."""
    order = np.random.default_rng(3).permutation(case.rows)
    marks = [np.ones((1, case.rows), dtype=np.int8)]
    for level in range(1, case.depth):
        for rows in np.array_split(order[: case.rows // 2], 2 ** (level - 1)):
            mark = np.zeros((1, case.rows), dtype=np.int8)
            mark[0, rows] = 1
            marks.append(mark)
    return marks


def plain_sums(case: Case, buckets: np.ndarray, gh: np.ndarray, mark: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(mark[0])
    sums = [
        [np.bincount(buckets[rows, f], gh[rows, k].astype(np.float64), case.bins) for k in range(2)]
        for f in range(case.features)
    ]
    return np.array(sums).transpose(0, 2, 1).reshape(-1, 2).astype(np.int64)


def main() -> None:
    case = load()
    if case.bins > 127:
        raise SystemExit("its bucket numbers are one signed byte")
    kit, setup, _ = timed(lambda: heu.setup(phe.SchemaType.OU, KEY_BITS))
    encoder = kit.batch_integer_encoder(1)
    chance = np.random.default_rng(5).random(case.rows)
    g, h = chance - case.y[: case.rows], chance * (1 - chance)
    gh = np.round(np.stack([g, h], axis=1) * 2**20).astype(np.int64)
    # Bin 0 holds missing values, of which there are none.
    buckets = np.ascontiguousarray(case.binned[: case.rows, case.own_features :].astype(np.int8) - 1)
    marks = nodes_of(case)
    sealed, encrypt, wall_a = timed(lambda: kit.encryptor().encrypt(kit.array(gh, encoder)))
    bucket_sum = kit.evaluator().feature_wise_bucket_sum
    sums, add, wall_b = timed(lambda: [bucket_sum(sealed, mark, buckets, case.bins, False) for mark in marks])
    opened, decrypt, wall_c = timed(
        lambda: [np.asarray(kit.decryptor().decrypt(s).to_numpy(encoder)) for s in sums]
    )
    for mark, found in zip(marks, opened, strict=True):
        if not np.array_equal(found.reshape(-1, 2), plain_sums(case, buckets, gh, mark)):
            raise SystemExit("a sum is wrong")
    size = len(sealed.serialize()) + sum(len(s.serialize()) for s in sums)
    figures = {
        "cpu_s_setup": setup,
        "cpu_s_per_tree_label": encrypt + decrypt,
        "cpu_s_per_tree_feature": add,
        "cpu_s_per_tree": encrypt + add + decrypt,
        "wall_s_per_tree": wall_a + wall_b + wall_c,
        "bytes_per_row_per_tree": size / case.rows,
        "key_bits": KEY_BITS,
    }
    finish(figures, "sf-heu", "numpy")


if __name__ == "__main__":
    main()
