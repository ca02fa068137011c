"""demo: which signed documents stand for the job file that the demo asked for."""

from __future__ import annotations

from isthmus.cli.demo import stands_for
from isthmus.jobs.engine import Facts, Share
from isthmus.jobs.spec import parse_job, resolve
from tests.jobs.examples import document

LARGE = Facts(4_000_000, (Share("data-co", 10, "registered"),))


def test_an_engine_and_vectors_that_the_node_froze_are_the_same_job_and_nothing_else_is() -> None:
    job = parse_job(document(model={"depth": 4}))
    signed = resolve(job, LARGE)
    assert signed != resolve(job)
    assert stands_for(job, signed)
    assert not stands_for(job, {**signed, "model": {**signed["model"], "trees": 7}})
    assert not stands_for(job, {**signed, "crypto": {**signed["crypto"], "split_reveal": "column"}})
    named = parse_job(document(crypto={"engine": "lattice-hint", "vectors_max": 5_000}))
    assert stands_for(named, resolve(named, LARGE))
    for frozen in ({"engine": "paillier"}, {"vectors_max": 5_001}):
        other = resolve(named, LARGE)
        assert not stands_for(named, {**other, "crypto": {**other["crypto"], **frozen}})
