"""What a node knows of a job before it runs: rows of its own table, columns of the feature owners, the line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from isthmus.base.errors import ConfigError
from isthmus.jobs.engine import FEATURES_ASSUMED, Choice, Facts, Pace, Share
from isthmus.jobs.reason import Words
from isthmus.jobs.spec import JobFile, choice_of
from isthmus.service.datasets import Datasets, columns_in
from isthmus.service.measured import Measurement, Measurements
from isthmus.store.records import StoredDataset

MeasuredOf = Callable[[str], Measurement | None]


def facts_of(
    job: JobFile, own: str, datasets: Datasets, measured_of: MeasuredOf, assumed: int | None = None
) -> Facts | None:
    """None while the own table is not registered. `measured_of` gives what counts of the line to a partner, `assumed` how
    many columns a partner has whose columns nobody named."""
    given = job.inputs.get(own)
    if given is None:
        return None
    try:
        dataset = datasets.find(given.dataset)
    except ConfigError:
        return None
    unknown = FEATURES_ASSUMED if assumed is None else assumed
    shares = tuple(_share(job, name, own, dataset, unknown) for name in job.parties.feature_owners)
    columns = len(columns_in(job, own, dataset)) if own == job.parties.label_owner else 0
    return Facts(dataset.profile["rows"], shares, _slowest(job, own, measured_of), columns)


def line_notes(
    job: JobFile, own: str, choice: Choice, datasets: Datasets, measured: Measurements, assumed: int | None
) -> tuple[Words, ...]:
    """Of each line when it was measured; whether the newest measurement changed what `auto` means; what else was assumed."""
    if choice.facts is None:
        return ()
    notes = [_line_note(name, measured.last(name)) for name in _partners(job, own)]
    unknown = any(share.known == "assumed" for share in choice.facts.shares)
    if unknown and assumed is None and job.crypto.engine == "auto":
        notes.append(
            Words(
                "columns that nobody named are assumed; --assume N takes another number",
                "未指明的列数为假定值；可用 --assume N 指定",
            )
        )
    changed = _changed(job, own, choice, datasets, measured, assumed)
    return (*notes, changed) if changed else tuple(notes)


def _line_note(partner: str, found: Measurement | None) -> Words:
    if found is None:
        return Words(
            f"the line to {partner}: assumed; isthmus doctor --partner {partner} measures it",
            f"到 {partner} 的链路：假定值；可用 isthmus doctor --partner {partner} 实测",
        )
    if not found.rated:
        return Words(
            f"the line to {partner}: round trip measured on {_day(found)}, rates assumed; the side that dials can measure them",
            f"到 {partner} 的链路：往返时延实测于 {_day(found)}，速率为假定值；速率只能由主动连接的一方实测",
        )
    return Words(
        f"the line to {partner}: measured on {_day(found)}", f"到 {partner} 的链路：实测于 {_day(found)}"
    )


def _changed(
    job: JobFile, own: str, choice: Choice, datasets: Datasets, measured: Measurements, assumed: int | None
) -> Words | None:
    """Says so if `auto` meant another engine before the newest measurement of a line of this job."""
    looks = [(found, name) for name in _partners(job, own) if (found := measured.last(name))]
    if job.crypto.engine != "auto" or not looks:
        return None
    newest, partner = max(looks, key=lambda look: look[0].at)

    def before(name: str) -> Measurement | None:
        return measured.before(name) if name == partner else measured.last(name)

    was = choice_of(job, facts_of(job, own, datasets, before, assumed)).engine
    if was == choice.engine:
        return None
    return Words(
        f"the measurement of {_day(newest)} changed the choice: before it auto meant {was}",
        f"{_day(newest)} 的实测改变了选择：此前 auto 为 {was}",
    )


def _day(found: Measurement) -> str:
    return f"{found.at:%Y-%m-%d %H:%M} UTC"


def _partners(job: JobFile, own: str) -> tuple[str, ...]:
    """The parties to which this node has a line in this job."""
    parties = job.parties
    return tuple(parties.feature_owners) if own == parties.label_owner else (parties.label_owner,)


def _share(job: JobFile, party: str, own: str, dataset: StoredDataset, unknown: int) -> Share:
    if party == own:
        return Share(party, len(columns_in(job, party, dataset)), "registered")
    chosen = job.inputs[party].columns
    named = set(chosen.include)
    if any(sign in name for name in named for sign in "*?["):
        return Share(party, unknown, "assumed")
    return Share(party, len(named - set(chosen.exclude)), "named")


def _slowest(job: JobFile, own: str, measured_of: MeasuredOf) -> Pace:
    """The line as the label owner sees it; of several lines the slowest."""
    paces = []
    for name in _partners(job, own):
        found = measured_of(name)
        paces.append(found.pace if found else Pace())
    pace = min(paces, key=lambda pace: min(pace.up_bytes_per_s, pace.down_bytes_per_s))
    if own == job.parties.label_owner:
        return pace
    return replace(pace, up_bytes_per_s=pace.down_bytes_per_s, down_bytes_per_s=pace.up_bytes_per_s)
