"""What the node asks of a worker, and what a worker says back: one JSON line each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from isthmus.jobs.spec import JobFile
from isthmus.table import ReadOptions

LINE_MAX_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Instruction:
    """`job` is the resolved document; `sockets` maps each partner to the number of an open socket.

    `record_path` and `record_key` (hex) open the record of the run, as the worker of attempt number `attempt`.
    """

    job: dict[str, Any]
    digest: str
    party: str
    role: str
    table_path: str
    table_sha256: str
    out: str
    attempt: int
    record_path: str
    record_key: str = field(repr=False)
    sockets: dict[str, int]
    test_ids_path: str | None = None
    reading: dict[str, Any] = field(default_factory=dict)

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> Instruction:
        return Instruction(**json.loads(line))


def read_options(job: JobFile, party: str, reading: dict[str, Any]) -> ReadOptions:
    """How `party` reads its table for this job. `reading` holds what was declared when the file was registered:
    encoding, delimiter, missing."""
    chosen = job.inputs[party]
    owns_label = party == job.parties.label_owner
    declared = {key: value for key, value in reading.items() if key in ("encoding", "delimiter")}
    if reading.get("missing"):
        declared["missing"] = tuple(reading["missing"])
    return ReadOptions(
        id=chosen.key.column,
        label=job.sample.label if owns_label else None,
        positive=None if not owns_label or job.sample.positive is None else str(job.sample.positive),
        objective=job.model.objective,
        categorical=chosen.columns.categorical,
        numeric=chosen.columns.numeric,
        exclude=chosen.columns.exclude,
        include=chosen.columns.include,
        duplicates=job.align.duplicates,
        id_form=chosen.key.form,
        **declared,
    )
