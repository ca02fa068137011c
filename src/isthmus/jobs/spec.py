"""The job file: what both parties sign. Names, defaults and bounds; one resolved form, one hash.

The parameters of model, binning and crypto are those of `learn.parameters`; nothing is declared twice.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval
from pydantic import Field, StringConstraints

from isthmus.base.canonical import digest
from isthmus.base.document import read_document, read_value
from isthmus.base.errors import ConfigError
from isthmus.jobs.engine import Choice, Facts, choose, count_vectors, payload_of
from isthmus.learn.parameters import Binning, BoostedTrees, Crypto
from isthmus.store.folder import PARTY_PATTERN
from isthmus.store.schema import Section, bounds, leaves, read_sections

DATASET_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?@[1-9][0-9]{0,5}$"

PartyName = Annotated[str, StringConstraints(pattern=PARTY_PATTERN)]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Day = Annotated[str, StringConstraints(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
Columns = Annotated[tuple[ColumnName, ...], Field(max_length=10_000)]
Share = Annotated[float, Interval(ge=0, le=1)]


class Metadata(Section):
    name: PartyName
    project: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{0,64}$")] = ""
    scenario: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}@[1-9][0-9]{0,5}$")] = "general@1"
    purpose: Annotated[str, StringConstraints(min_length=10, max_length=500)]
    valid_until: Day | None = None


class Parties(Section):
    label_owner: PartyName
    feature_owners: Annotated[tuple[PartyName, ...], Field(min_length=1, max_length=3)]

    @property
    def all(self) -> tuple[str, ...]:
        return (self.label_owner, *self.feature_owners)


class KeyColumn(Section):
    """A key column and the form in which its values are compared."""

    column: ColumnName
    form: Literal["none", "phone-cn", "phone-e164", "email", "id-card-cn"] = Field(default="none", alias="as")


class ColumnChoice(Section):
    """Which columns take part; the key and the label never do. Kinds are found out unless named here."""

    include: Columns = ("*",)
    exclude: Columns = ()
    categorical: Columns = ()
    numeric: Columns = ()


class Input(Section):
    dataset: Annotated[str, StringConstraints(pattern=DATASET_PATTERN)]
    keys: Annotated[
        tuple[Annotated[tuple[KeyColumn, ...], Field(min_length=1, max_length=1)], ...],
        Field(min_length=1, max_length=1),
    ]
    columns: ColumnChoice = ColumnChoice()

    @property
    def key(self) -> KeyColumn:
        """The one key column."""
        return self.keys[0][0]


class Align(Section):
    method: Literal["auto", "ecdh"] = "auto"
    learns: Literal["both"] = "both"
    duplicates: Literal["refuse", "first", "last"] = "refuse"
    min_rows: Annotated[int, Ge(100)] = 1000


class Sample(Section):
    """The label column, and the value that counts as 1 (none: the column holds 0 and 1, or amounts)."""

    label: ColumnName
    positive: str | int | None = None


class Split(Section):
    """By hash: shares of all rows. By ids: the test rows stand in a file with the hash `test_ids_sha256`, and
    `valid` is a share of the others."""

    by: Literal["hash", "ids"] = "hash"
    train: Share | None = None
    valid: Share = 0.15
    test: Share | None = None
    test_ids_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None


class Features(Section):
    binning: Binning = Binning()


@dataclass(frozen=True, slots=True)
class Model(BoostedTrees):
    """Boosted trees with their parameters beside `kind`."""

    kind: Literal["boosted-trees"] = "boosted-trees"


class Evaluate(Section):
    bootstrap: Annotated[int, Interval(ge=0, le=2000)] = 200


class Privacy(Section):
    min_bin_rows: Annotated[int, Ge(20)] = 20
    runs_30d: Annotated[int, Interval(ge=1, le=1000)] = 10


class Run(Section):
    seed: Annotated[int, Interval(ge=0, le=2**31 - 1)] = 0
    cores: Annotated[int, Interval(ge=0, le=1024)] = 0


class ReportChoice(Section):
    languages: Annotated[tuple[Literal["zh", "en"], ...], Field(min_length=1, max_length=2)] = ("zh", "en")


_PATTERNS = {
    PARTY_PATTERN: "1 to 64 of a-z, 0-9 and -, beginning and ending with a letter or figure",
    DATASET_PATTERN: "NAME@VERSION, as listed by isthmus dataset ls",
}


class JobFile(Section):
    """A job file; made by `load_job`, or by `parse_job` from a document."""

    api_version: Literal["isthmus/v1"] = Field(alias="apiVersion")
    kind: Literal["Job"]
    metadata: Metadata
    parties: Parties
    inputs: dict[PartyName, Input]
    align: Align = Align()
    sample: Sample
    split: Split = Split()
    features: Features = Features()
    model: Model = Model()
    crypto: Crypto = Crypto()
    evaluate: Evaluate = Evaluate()
    privacy: Privacy = Privacy()
    run: Run = Run()
    report: ReportChoice = ReportChoice()


def load_job(data: bytes, where: str = "the job file") -> JobFile:
    """Reads YAML or JSON bytes. Raises ConfigError with the path of the field that does not fit."""
    return parse_job(read_document(data, where), where)


def parse_job(document: dict[str, Any], where: str = "the job file") -> JobFile:
    """Checks a document against the schema and the rules between fields."""
    job = _fill_split(read_sections(JobFile, document, where, _PATTERNS))
    _check_between_fields(job)
    return job


def choice_of(job: JobFile, facts: Facts | None = None) -> Choice:
    """The engine of a job, and why; `facts` are what the label owner's node knows of it."""
    return choose(job.model, job.features.binning.max_bins, job.crypto, facts)


def resolve(job: JobFile, facts: Facts | None = None) -> dict[str, Any]:
    """The document that is signed: every default filled in, every `auto` frozen, the vectors counted."""
    resolved: dict[str, Any] = job.model_dump(mode="json", by_alias=True)
    if resolved["align"]["method"] == "auto":
        resolved["align"]["method"] = "ecdh"
    crypto = resolved["crypto"]
    crypto["engine"] = choice_of(job, facts).engine
    if crypto["engine"] == "lattice-hint" and crypto["vectors_max"] == 0:
        crypto["vectors_max"] = vectors_of(job, facts)
    return resolved


def vectors_of(job: JobFile, facts: Facts | None) -> int:
    """The vector budget that this node counts for a job."""
    payload = payload_of(job.features.binning.max_bins, job.crypto, facts)
    return count_vectors(job.model, facts.rows if facts else 0, payload)


def job_digest(resolved: dict[str, Any]) -> bytes:
    """SHA-256 of the canonical JSON of a resolved job, 32 bytes."""
    return digest(resolved)


def apply_settings(document: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A copy with `name=value` put in; a name is a leaf (`trees`) or ends a path (`binning.max_bins`)."""
    result = copy.deepcopy(document)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError("bad_document", where=f"--set {setting}", why="it is not NAME=VALUE")
        path = _find_path(name.strip(), document)
        value = read_value(text, f"--set {name}")
        section = result
        for part in path[:-1]:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ConfigError("unknown_field", where="--set", field=name, known="a field of a section")
        section[path[-1]] = value
    return result


def _find_path(name: str, document: dict[str, Any]) -> tuple[str, ...]:
    parts = tuple(name.split("."))
    parties = document.get("inputs")
    paths = list(leaves(JobFile, (), tuple(parties) if isinstance(parties, dict) else ()))
    if parts in paths:
        return parts
    found = [path for path in paths if path[-len(parts) :] == parts]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError("ambiguous_field", field=name, known=", ".join(".".join(path) for path in found))
    known = sorted({path[-1] for path in paths})
    raise ConfigError("unknown_field", where="--set", field=name, known=", ".join(known))


# --- rules between fields ---


def _fill_split(job: JobFile) -> JobFile:
    split = job.split
    if split.by == "ids":
        return job
    train = 0.7 if split.train is None else split.train
    test = 0.15 if split.test is None else split.test
    return job.model_copy(update={"split": split.model_copy(update={"train": train, "test": test})})


def _check_between_fields(job: JobFile) -> None:
    names = job.parties.all
    if len(set(names)) != len(names):
        raise bounds("parties", ", ".join(names), "every party once")
    if set(job.inputs) != set(names):
        raise bounds("inputs", ", ".join(job.inputs), f"exactly one entry for each of {', '.join(names)}")
    split, early_stop = job.split, job.model.stop_after > 0
    for name, value in (("train", split.train), ("valid", split.valid), ("test", split.test)):
        if value is None:
            continue
        if name == "valid" and value == 0:
            if early_stop:
                raise bounds("split.valid", value, "0.05 to 0.9, or 0 together with model.stop_after = 0")
        elif not 0.05 <= value <= 0.95:
            raise bounds(f"split.{name}", value, "0.05 to 0.95")
    if split.by == "hash":
        if split.test_ids_sha256 is not None:
            raise bounds("split.test_ids_sha256", split.test_ids_sha256, "only with split.by = ids")
        total = (split.train or 0) + split.valid + (split.test or 0)
        if abs(total - 1) > 1e-9:
            raise bounds("split", f"{total:g} in total", "train, valid and test that add up to 1")
    else:
        if split.test_ids_sha256 is None:
            raise ConfigError("missing_field", where="split", field="test_ids_sha256")
        for name, value in (("train", split.train), ("test", split.test)):
            if value is not None:
                raise bounds(f"split.{name}", value, "only with split.by = hash")
        if split.valid > 0.5:
            raise bounds("split.valid", split.valid, "0 to 0.5")
    for party, given in job.inputs.items():
        both = sorted(set(given.columns.categorical) & set(given.columns.numeric))
        if both:
            raise bounds(f"inputs.{party}.columns", both[0], "categorical or numeric, not both")
    if len(set(job.report.languages)) != len(job.report.languages):
        raise bounds("report.languages", ", ".join(job.report.languages), "every language once")
