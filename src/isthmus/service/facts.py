"""What a node knows of a job before it runs: rows of its own table, columns of the feature owners, the line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from isthmus.base.errors import ConfigError
from isthmus.jobs.engine import FEATURES_ASSUMED, Facts, Pace, Share
from isthmus.jobs.spec import JobFile
from isthmus.service.datasets import Datasets, columns_in
from isthmus.store.records import StoredDataset

PaceOf = Callable[[str], Pace | None]


def facts_of(job: JobFile, own: str, datasets: Datasets, pace_of: PaceOf) -> Facts | None:
    """None while the own table is not registered. `pace_of` says what was measured of a line, up being away from here."""
    given = job.inputs.get(own)
    if given is None:
        return None
    try:
        dataset = datasets.find(given.dataset)
    except ConfigError:
        return None
    shares = tuple(_share(job, name, own, dataset) for name in job.parties.feature_owners)
    return Facts(dataset.profile["rows"], shares, _slowest(job, own, pace_of))


def _share(job: JobFile, party: str, own: str, dataset: StoredDataset) -> Share:
    if party == own:
        return Share(party, len(columns_in(job, party, dataset)), "registered")
    chosen = job.inputs[party].columns
    named = set(chosen.include)
    if any(sign in name for name in named for sign in "*?["):
        return Share(party, FEATURES_ASSUMED, "assumed")
    return Share(party, len(named - set(chosen.exclude)), "named")


def _slowest(job: JobFile, own: str, pace_of: PaceOf) -> Pace:
    """The line as the label owner sees it; of several lines the slowest."""
    if own != job.parties.label_owner:
        pace = pace_of(job.parties.label_owner) or Pace()
        return replace(pace, up_bytes_per_s=pace.down_bytes_per_s, down_bytes_per_s=pace.up_bytes_per_s)
    paces = [pace_of(name) or Pace() for name in job.parties.feature_owners]
    return min(paces, key=lambda pace: min(pace.up_bytes_per_s, pace.down_bytes_per_s))
