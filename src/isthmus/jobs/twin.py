"""The twin: the same job on pooled tables, in one process, with no partner and no cipher.

It is what no party may have, and what a joint model has to equal bit for bit: the same rows in the same order, the same
bins, the same integers. For demos, trials and tests, where one person holds every table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import DataError
from isthmus.base.progress import Progress
from isthmus.base.randomness import Rng
from isthmus.jobs.runner import binning_of, fit_rows, parts_of
from isthmus.jobs.spec import JobFile
from isthmus.learn.histogram import BinMatrix
from isthmus.learn.tree import link
from isthmus.protocols.align import in_order
from isthmus.protocols.binning import TEST, Binned, bin_table
from isthmus.protocols.boost import LabelBooster
from isthmus.protocols.score import score_as_label_owner
from isthmus.table.table import Table


async def pooled_scores(
    job: JobFile, digest: bytes, tables: Sequence[Table], test_ids: list[bytes] | None
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Score of each test row by its id as the label table spells it, and the labels of these rows, in the same order.

    `tables` are the label owner's, then the feature owners' in the order of the job file.
    """
    shared = _share(tables, digest)
    label = shared[0].label
    if label is None:
        raise DataError("missing_column", file="the label table", column=job.sample.label, known="-")
    rng = Rng(digest)
    part_of_row = parts_of(job, shared[0], rng, test_ids)
    cut = [bin_table(t, part_of_row, binning_of(job), digest if at else None) for at, t in enumerate(shared)]
    pooled = Binned(
        [column for one in cut for column in one.columns],
        BinMatrix(
            np.concatenate([b.matrix.bins for b in cut]), tuple(c for b in cut for c in b.matrix.counts)
        ),
        {},
    )
    train, fit = fit_rows(part_of_row)
    joined = sum(len(one.columns) for one in cut[1:])
    booster = LabelBooster(
        [], None, pooled, [], label[fit], len(train), job.model, job.crypto, rng, joined_columns=joined
    )
    half = await booster.train(Progress())
    columns = {name: column for table in shared for name, column in table.columns.items()}
    everything = Table(shared[0].ids, columns, label, {}, shared[0].source_rows, shared[0].raw_ids)
    raw = await score_as_label_owner([], half, everything, "ids")
    scores, test = link(job.model.objective, raw), np.flatnonzero(part_of_row == TEST)
    return {everything.raw_ids[i]: float(scores[i]) for i in test.tolist()}, label[test]


def _share(tables: Sequence[Table], digest: bytes) -> list[Table]:
    """The rows that all tables share, in the order of the job."""
    names = [name for table in tables for name in table.columns]
    if len(set(names)) != len(names):
        raise DataError(
            "repeated_column", file="the pooled tables", column=next(n for n in names if names.count(n) > 1)
        )
    at = [{i: row for row, i in enumerate(table.ids)} for table in tables]
    common = set(at[0]).intersection(*at[1:])
    first = in_order(np.array(sorted(at[0][i] for i in common), dtype=np.int64), tables[0].ids, digest)
    ids = [tables[0].ids[row] for row in first.tolist()]
    return [table.take(np.array([where[i] for i in ids])) for table, where in zip(tables, at, strict=True)]
