"""What each engine would cost for a job, and which one `auto` means: plain arithmetic, the same on every machine.

Counted is what the engines do differently: the label owner's own columns cost the same with both. n rows, F columns and R
bins of the feature owners, V tree nodes whose sums are asked for (the smaller sibling of every pair, and one for the weights
of evidence), U = V rounded up to whole batches of prepared hints.

                     paillier                                     lattice-hint
    once             -                                            key columns: 32 kB down per bin; start, hint, columns
    up               two key lengths per row and tree             5 to 8 bytes per row and V; a hint per U
    down             12 bytes per bin and V (packed)              4 to 6 bytes per bin and V
    CPU              encrypt rows, add rows into bins,            encrypt and add words,
                     pack, freshen and decrypt sums               make and open hints
    CPU, both        6.5 ns per byte that crosses the link

Unit costs were measured on two cores with AVX2 and pure Python integers. The wall clock is the CPU time of both parties, one
core each and nothing overlapped, and the line on top. It is an estimate: good to a factor of two, which is why it must be more
than a factor of two before the engine that shows the rows of every tree node is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from isthmus.crypto.lattice import sets
from isthmus.learn.parameters import VECTORS_MOST, BoostedTrees, Crypto

Engine = Literal["lattice-hint", "paillier"]
Limit = Literal["rows", "bins"]
Why = Literal["named", "unknown", "rows", "bins", "cheaper", "near", "dear"]

FEATURES_ASSUMED = 50
PAYLOAD_LEAST = 38
"""What a vector carries at least, within the limits of rows and bins."""
WORTH = 2.0
"""How much slower the engine that hides tree nodes may be and still be taken."""

_PAILLIER_ENCRYPT_S, _ENCRYPT_POWER = 1.2e-3, 2.77
_PAILLIER_ADD_S, _ADD_POWER = 11e-6, 1.67
_PAILLIER_SUM_S, _SUM_POWER = 4.0e-3, 2.0
_PAILLIER_SUM_BYTES = 12
_LATTICE_START_S = 2.0
_HINT_S = 0.17e-6
_COLUMNS_S = 0.5e-3
_CHUNK_BINS = 4096
_CHUNK_BYTES = 32 * 1024
_ENCRYPT_S = 12e-9
_ADD_S = 0.5e-9
_PREPARE_S, _PREPARE_BIN_S = 4e-3, 1e-6
_BATCH, _BATCH_USED = 64, 60
_MOVE_S = 6.5e-9
_ROOM_LEAST = 4


@dataclass(frozen=True, slots=True)
class Pace:
    """The line, seen from the label owner: bytes a second each way, and seconds there and back."""

    up_bytes_per_s: float = 12.5e6
    down_bytes_per_s: float = 12.5e6
    round_trip_s: float = 0.02
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """How many columns a feature owner brings: registered here, named in the job file, or assumed."""

    party: str
    features: int
    known: Literal["registered", "named", "assumed"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What one node knows of a job before it runs: the rows of its own table (an upper bound of the shared ones), and, at the
    label owner, how many columns of its own take part (0: not known)."""

    rows: int
    shares: tuple[Share, ...]
    pace: Pace = Pace()
    own_columns: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes from (`up`) and to (`down`) the label owner, CPU seconds of all parties, seconds on the line; `beyond` names
    the limit that a job passes."""

    engine: Engine
    up_bytes: int
    down_bytes: int
    cpu_s: float
    wall_s: float
    beyond: Limit | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine of a job, what `auto` means by this node's figures, and why."""

    engine: Engine
    auto: Engine | None
    why: Why
    facts: Facts | None
    costs: tuple[Cost, ...]

    def cost(self, engine: Engine) -> Cost:
        return next(cost for cost in self.costs if cost.engine == engine)


def choose(model: BoostedTrees, max_bins: int, crypto: Crypto, facts: Facts | None) -> Choice:
    """The engine that the job file names; for `auto` the lattice unless it cannot or costs more than twice the time."""
    if facts is None:
        if crypto.engine == "auto":
            return Choice("lattice-hint", None, "unknown", None, ())
        return Choice(crypto.engine, None, "named", None, ())
    lattice = _lattice(model, max_bins, crypto, facts)
    paillier = _paillier(model, max_bins, crypto.paillier_bits, facts)
    auto: Engine
    why: Why
    if lattice.beyond:
        auto, why = paillier.engine, lattice.beyond
    elif lattice.wall_s > WORTH * paillier.wall_s:
        auto, why = paillier.engine, "dear"
    else:
        auto, why = lattice.engine, "cheaper" if lattice.wall_s <= paillier.wall_s else "near"
    costs = (lattice, paillier)
    if crypto.engine == "auto":
        return Choice(auto, auto, why, facts, costs)
    return Choice(crypto.engine, auto, "named", facts, costs)


def count_vectors(model: BoostedTrees, rows: int = 0, payload: int = PAYLOAD_LEAST) -> int:
    """The vector budget of a job: the tree nodes that are asked for, times the room for nodes that need several vectors.

    A vector carries the sums of 2^(payload / 2) / 15 rows, whatever the gradients are; smaller siblings hold half of the rows
    at most. So large tables with shallow trees may need more room than the least.
    """
    of_tree = 1 << (model.depth - 1)
    rows_of_a_vector = math.isqrt(1 << payload) // 16
    room = max(_ROOM_LEAST, 1 + -(-(model.depth + 1) * rows // (rows_of_a_vector * of_tree)))
    return min((model.trees * of_tree + 1) * room, VECTORS_MOST)


def payload_of(max_bins: int, crypto: Crypto, facts: Facts | None) -> int:
    """Bits that a vector will carry, by what is known; with a bit to spare where columns had to be assumed."""
    if facts is None or _beyond(facts, max_bins):
        return PAYLOAD_LEAST
    spare = 2 if any(share.known == "assumed" for share in facts.shares) else 0
    return max(PAYLOAD_LEAST, _layout(max_bins, crypto, facts).payload - spare)


def _beyond(facts: Facts, max_bins: int) -> Limit | None:
    if facts.rows > sets.ROWS_MAX:
        return "rows"
    return "bins" if sum(_bins(facts.shares, max_bins)) > sets.BINS_MAX else None


def _layout(max_bins: int, crypto: Crypto, facts: Facts) -> sets.Layout:
    bins_of = _bins(facts.shares, max_bins)
    shapes = [(share.features, bins) for share, bins in zip(facts.shares, bins_of, strict=True)]
    needed = sets.width(facts.rows, crypto.gradient_bits, crypto.hessian_bits)
    return sets.choose(facts.rows, shapes, needed)[0]


def _asked(model: BoostedTrees) -> tuple[int, int, int]:
    """Joint trees, passes over all rows for weights of evidence, and V."""
    joint = max(model.trees - model.local_trees, 0)
    weighs = 1 if model.objective == "binary" else 0
    return joint, weighs, joint * (1 << (model.depth - 1)) + weighs


def _bins(shares: Sequence[Share], max_bins: int) -> list[int]:
    """R of each feature owner: every column has a bin for missing values too."""
    return [share.features * (max_bins + 1) for share in shares]


def _paillier(model: BoostedTrees, max_bins: int, bits: int, facts: Facts) -> Cost:
    joint, weighs, asked = _asked(model)
    length = bits / 3072
    bins = sum(_bins(facts.shares, max_bins))
    features = sum(share.features for share in facts.shares)
    rows_added = facts.rows * (joint * (1 + (model.depth - 1) / 2) + weighs)
    cpu_s = (
        facts.rows * (joint + weighs) * _PAILLIER_ENCRYPT_S * length**_ENCRYPT_POWER
        + rows_added * features * _PAILLIER_ADD_S * length**_ADD_POWER
        + asked * bins * _PAILLIER_SUM_S * length**_SUM_POWER
    )
    up = len(facts.shares) * facts.rows * (joint + weighs) * 2 * bits // 8
    return _cost("paillier", model, facts.pace, up, asked * bins * _PAILLIER_SUM_BYTES, cpu_s)


def _lattice(model: BoostedTrees, max_bins: int, crypto: Crypto, facts: Facts) -> Cost:
    _, _, asked = _asked(model)
    prepared = -(-asked // _BATCH_USED) * _BATCH
    bins_of = _bins(facts.shares, max_bins)
    beyond, word, sum_bytes = _beyond(facts, max_bins), 8, 8
    if not beyond:
        layout = _layout(max_bins, crypto, facts)
        word, sum_bytes = layout.word_bytes, -(-layout.payload // 8)
    up, down, cpu_s = 0, 0, _LATTICE_START_S + facts.rows * asked * _ENCRYPT_S
    for share, bins in zip(facts.shares, bins_of, strict=True):
        chunks = -(-bins // _CHUNK_BINS)
        up += facts.rows * asked * word + prepared * (chunks * _CHUNK_BYTES + bins * 8)
        down += (bins + chunks) * _CHUNK_BYTES + asked * bins * sum_bytes
        cpu_s += facts.rows * share.features * (_HINT_S + asked * _ADD_S)
        cpu_s += bins * _COLUMNS_S + prepared * (_PREPARE_S + bins * _PREPARE_BIN_S)
    return _cost("lattice-hint", model, facts.pace, up, down, cpu_s, beyond)


def _cost(
    engine: Engine,
    model: BoostedTrees,
    pace: Pace,
    up: int,
    down: int,
    cpu_s: float,
    beyond: Limit | None = None,
) -> Cost:
    rounds = 2 * model.depth * _asked(model)[0] + 4
    line_s = up / pace.up_bytes_per_s + down / pace.down_bytes_per_s + rounds * pace.round_trip_s
    cpu_s += (up + down) * _MOVE_S
    return Cost(engine, up, down, cpu_s, cpu_s + line_s, beyond)
