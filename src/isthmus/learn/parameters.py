"""The parameters of a joint model, declared once: the job file, the commands and the protocols all read them from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Interval

VECTORS_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Binning:
    """How each owner cuts its own columns into bins, on the training rows."""

    max_bins: Annotated[int, Interval(ge=2, le=255)] = 32
    min_rows: Annotated[int, Ge(20)] = 20


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """Second-order boosted trees. `local_trees` first trees use the label owner's columns alone."""

    objective: Literal["binary", "regression"] = "binary"
    trees: Annotated[int, Interval(ge=1, le=1000)] = 100
    depth: Annotated[int, Interval(ge=1, le=8)] = 4
    learning_rate: Annotated[float, Interval(ge=0.001, le=1)] = 0.1
    l2: Annotated[float, Interval(ge=0, le=1000)] = 1.0
    gamma: Annotated[float, Interval(ge=0, le=1000)] = 0.0
    min_child_hessian: Annotated[float, Interval(ge=0, le=1000)] = 5.0
    min_child_rows: Annotated[int, Ge(20)] = 50
    row_sample: Annotated[float, Interval(ge=0.1, le=1)] = 1.0
    column_sample: Annotated[float, Interval(ge=0.1, le=1)] = 1.0
    stop_after: Annotated[int, Interval(ge=0, le=100)] = 10
    local_trees: Annotated[int, Interval(ge=0, le=20)] = 1


@dataclass(frozen=True, slots=True)
class Crypto:
    """The engine of the encrypted histograms, the widths of a row's integers, and what a won split shows.

    `vectors_max` is the number of encrypted vectors that a feature owner takes in one job; 0 stands for what the plan counts.
    """

    engine: Literal["auto", "lattice-hint", "paillier"] = "auto"
    gradient_bits: Annotated[int, Interval(ge=3, le=5)] = 5
    hessian_bits: Annotated[int, Interval(ge=2, le=4)] = 4
    paillier_bits: Annotated[int, Interval(ge=2048, le=4096)] = 3072
    split_reveal: Literal["ids", "column"] = "ids"
    vectors_max: Annotated[int, Interval(ge=0, le=VECTORS_MOST)] = 0
