"""Memory and disk that a job takes at each party, before it runs: plain arithmetic, fitted to measured workers.

n rows, f columns of the party, B bins of all feature owners and b of this one, V = 2^(depth - 1) vectors of a level:

    label owner, lattice      250 MB + n (190 + 16 f + 15 V) + 36 KB B
    feature owner, lattice    245 MB + n (220 +  8 f +  4 V) + 37 KB b
    label owner, Paillier     250 MB + n (190 + 16 f + c)              c = 2 (bits / 4 + 100): two ciphertexts of a row
    feature owner, Paillier   245 MB + n (220 +  8 f + c)
    disk                      2 MB of reports, 100 bytes a row of scores and checkpoints; with the lattice 32 KB a bin besides,
                              which key columns take where they do not fit in memory

The base is the interpreter with its libraries and compiled kernels, 36 KB the key columns of a bin and what is prepared from
them. Peaks of docs/explanation/performance.md lie within a quarter of the lattice figures; the Paillier ones were not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.jobs.engine import Engine, Facts
from isthmus.jobs.spec import JobFile

OWN_ASSUMED = 20
"""Columns of the label owner, where another node makes the plan."""

_BASE_LABEL, _BASE_FEATURE = 250e6, 245e6
_BIN_MEMORY, _BIN_DISK = 36.5e3, 32 * 1024
_REPORTS, _ROW_DISK = 2e6, 100


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of memory at the peak, and of disk, at one party."""

    party: str
    memory_bytes: int
    disk_bytes: int


def rooms_of(job: JobFile, engine: Engine, facts: Facts | None) -> tuple[Room, ...]:
    """Nothing while the own table is unknown. Rows are those of the own table: an upper bound of the shared ones."""
    if facts is None:
        return ()
    rows, vectors = facts.rows, 1 << (job.model.depth - 1)
    bins = {share.party: share.features * (job.features.binning.max_bins + 1) for share in facts.shares}
    lattice = engine == "lattice-hint"
    ciphertexts = 2 * (job.crypto.paillier_bits // 4 + 100)
    own = facts.own_columns or OWN_ASSUMED
    label = _BASE_LABEL + rows * (190 + 16 * own + (15 * vectors if lattice else ciphertexts))
    label += _BIN_MEMORY * sum(bins.values()) * lattice
    rooms = [Room(job.parties.label_owner, round(label), _disk(rows, sum(bins.values()) * lattice))]
    for share in facts.shares:
        memory = _BASE_FEATURE + rows * (220 + 8 * share.features + (4 * vectors if lattice else ciphertexts))
        memory += _BIN_MEMORY * bins[share.party] * lattice
        rooms.append(Room(share.party, round(memory), _disk(rows, bins[share.party] * lattice)))
    return tuple(rooms)


def _disk(rows: int, bins: int) -> int:
    return round(_REPORTS + rows * _ROW_DISK + bins * _BIN_DISK)
