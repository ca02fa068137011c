"""Writes tests/vectors/secure_sum.json, which other implementations of a device, a leader or a helper replay.

    python -m tests.protocols.secure_sum_vectors

Every key, seed and id is SHA-256 of "isthmus/vectors/" and the label that the file names; HPKE sender keys are fixed as well.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.crypto.masks import mask
from isthmus.crypto.words import Ring
from isthmus.protocols import secure_sum
from isthmus.protocols.secure_sum import Answer, Batch, Report, open_sum, total
from tests.crypto import rfc9180
from tests.sums import LATER_MS, NOW_MS, World, key, resigned, secret

FILE = Path(__file__).parents[1] / "vectors" / "secure_sum.json"


def device(world: World, n: int) -> tuple[dict[str, Any], Report]:
    """One device's work, with every intermediate value."""
    terms, weight = world.terms, 1 + n % world.weight_max
    id = secret(f"report {n}")[:16]
    seeds = [secret(f"seed {n} {place}") for place in (0, 1)]
    infos = [secure_sum._seed_words(terms, id, place) for place in (0, 1)]
    sealed = [
        rfc9180.seal(secret(f"sender {n} {place}"), terms.helpers[place].sealing, seeds[place], infos[place])
        for place in (0, 1)
    ]
    given = world.ticket(world.devices[n])
    report = secure_sum._sign(terms, world.values(n), weight, world.devices[n], given, id, seeds, sealed)
    masks = [secure_sum._mask_of(terms, id, seed) for seed in seeds]
    return {
        "device": n,
        "values": world.values(n).tolist(),
        "weight": weight,
        "expires_ms": given.expires_ms,
        "ticket": given.signature.hex(),
        "id": id.hex(),
        "seeds": [seed.hex() for seed in seeds],
        "seal_infos": [info.hex() for info in infos],
        "sealed": [body.hex() for body in sealed],
        "masks": [terms.ring.pack(words).hex() for words in masks],
        "masked": report.masked.hex(),
        "report": report.encode().hex(),
    }, report


def masks() -> list[dict[str, Any]]:
    seed, info, length = secret("mask seed"), b"what it is for", 9
    return [
        {
            "width_bytes": width,
            "length": length,
            "seed": seed.hex(),
            "info": info.hex(),
            "words": Ring(width).pack(mask(Ring(width), length, seed, info)).hex(),
        }
        for width in range(1, 9)
    ]


def packed() -> list[dict[str, Any]]:
    values = [0, 1, -1, 100, -128]
    return [
        {
            "width_bytes": width,
            "values": values,
            "words": Ring(width).pack(Ring(width).lift(np.array(values))).hex(),
        }
        for width in range(1, 9)
    ]


def case(what: str, message: bytes, code: str, good: bytes = b"") -> dict[str, Any]:
    """`patches`: what differs from the good message, as [offset, bytes]; the whole message where the length differs."""
    if len(message) != len(good):
        return {"what": what, "code": code, "message": message.hex()}
    places = [at for at in range(len(good)) if message[at] != good[at]]
    starts = [at for at in places if at - 1 not in places]
    ends = [at + 1 for at in places if at + 1 not in places]
    patches = [[start, message[start:end].hex()] for start, end in zip(starts, ends, strict=True)]
    return {"what": what, "code": code, "patches": patches}


def message_of(case: dict[str, Any], good: str) -> bytes:
    """The bytes that a case stands for."""
    if "message" in case:
        return bytes.fromhex(case["message"])
    body = bytearray.fromhex(good)
    for at, by in case["patches"]:
        body[at : at + len(by) // 2] = bytes.fromhex(by)
    return bytes(body)


def bad_reports(world: World, report: Report) -> list[dict[str, Any]]:
    body = report.encode()
    rows = report.sealed.copy()
    rows[1, 40] ^= 1
    other = world.ticket(world.devices[1]).signature

    def changed(what: str, code: str, **fields: Any) -> dict[str, Any]:
        return case(what, replace(report, **fields).encode(), code, body)

    return [
        case("cut", body[:-1], "bad_message"),
        case("longer", body + b"\0", "bad_message"),
        case("another kind", b"\x02" + body[1:], "bad_message", body),
        changed("another round", "bad_message", round=report.round + 1),
        changed("another task", "bad_message", task=bytes(32)),
        changed("weight 0", "bad_message", weight=0),
        changed("weight too great", "bad_message", weight=world.weight_max + 1),
        changed("another weight", "bad_signature", weight=report.weight + 1),
        changed("a word too few", "bad_message", masked=report.masked[: -world.width_bytes]),
        changed("a word too many", "bad_message", masked=report.masked + bytes(world.width_bytes)),
        changed("another vector", "bad_signature", masked=bytes(len(report.masked))),
        changed("another id", "bad_signature", id=bytes(16)),
        changed("another device", "bad_signature", device=world.devices[1].public),
        changed("a device of no curve", "bad_signature", device=b"\xff" * 32),
        changed("another's ticket", "bad_signature", ticket=other),
        changed("another end of the ticket", "bad_signature", expires_ms=LATER_MS + 1),
        changed("an expired ticket", "bad_signature", expires_ms=NOW_MS),
        changed("another seed", "bad_signature", sealed=rows),
        changed("no signature", "bad_signature", signature=bytes(64)),
    ]


def bad_batches(world: World, batch: Batch) -> list[dict[str, Any]]:
    body = batch.encode()

    def forged(what: str, code: str, **fields: Any) -> dict[str, Any]:
        return case(what, resigned(batch, world.leader, **fields).encode(), code, body)

    def entry(at: int, value: int) -> Any:
        rows = batch.entries.copy()
        rows[3, at] ^= value
        return rows

    def terms(**fields: Any) -> bytes:
        return replace(world.terms, **fields).encode()

    twins = batch.entries.copy()
    twins[1] = twins[0]
    ids, weight_at, sealed_at = 0, 120, 156
    return [
        case("cut", body[:-1], "bad_message"),
        case("longer", body + b"\0", "bad_message"),
        case("not signed", replace(batch, signature=bytes(64)).encode(), "bad_signature", body),
        case("signed by a device", resigned(batch, world.devices[0]).encode(), "bad_signature", body),
        forged("for the other helper", "bad_batch", place=1),
        forged("for a third helper", "bad_message", place=2),
        forged("nineteen reports", "cohort_too_small", entries=batch.entries[:19]),
        forged("no report", "cohort_too_small", entries=batch.entries[:0]),
        forged("a report twice", "bad_batch", entries=twins),
        forged("another id", "bad_batch", entries=entry(ids, 1)),
        forged("another weight", "bad_batch", entries=entry(weight_at, 1)),
        forged("another seed", "bad_batch", entries=entry(sealed_at, 1)),
        forged("another model", "bad_batch", terms=terms(model=secret("other model"))),
        forged("another round", "bad_batch", terms=terms(round=8)),
        forged("another population", "bad_batch", terms=terms(population=secret("other"))),
        forged("another floor", "bad_batch", terms=terms(reports_min=21)),
        forged(
            "a lower floor than any", "bad_message", terms=_patched(world, 105, (19).to_bytes(4, "little"))
        ),
        forged("words of no width", "bad_message", terms=_patched(world, 104, b"\x09")),
        forged("no word at all", "bad_message", terms=_patched(world, 100, bytes(4))),
        forged("noise that is no number", "bad_message", terms=_patched(world, 117, b"\xff" * 8)),
        forged("another leader", "leader_unknown", terms=terms(leader=world.devices[0].public)),
        forged("another authority", "leader_unknown", terms=terms(authority=world.devices[0].public)),
    ]


def _patched(world: World, at: int, by: bytes) -> bytes:
    body = world.terms.encode()
    return body[:at] + by + body[at + len(by) :]


def bad_answers(world: World, answers: list[Answer]) -> list[dict[str, Any]]:
    """Each in the place of the first helper's answer."""
    first, second = answers
    terms, body = world.terms, first.encode()

    def signed(what: str, code: str, **fields: Any) -> dict[str, Any]:
        made = replace(first, **fields)
        words = secure_sum._answer_words(terms, made.batch, made.reports, made.sum)
        signature = world.helpers[0].signing.sign(words)
        return case(what, replace(made, signature=signature).encode(), code, body)

    return [
        case("cut", body[:-1], "bad_message"),
        case("the other helper's again", second.encode(), "helper_mismatch", body),
        case("another sum", replace(first, sum=bytes(len(first.sum))).encode(), "sum_check_failed", body),
        case("not signed", replace(first, signature=bytes(64)).encode(), "sum_check_failed", body),
        signed("for other reports", "helper_mismatch", reports=bytes(32)),
        signed("for another batch", "helper_mismatch", batch=b"\1" * 16),
        signed("a word too few", "sum_check_failed", sum=first.sum[:-3]),
    ]


def made() -> dict[str, Any]:
    world = World(length=5)
    shown, reports = [], []
    for n in range(world.count):
        steps, report = device(world, n)
        reports.append(report)
        shown.append(steps if n < 2 else {"device": n, "report": steps["report"]})
    batches = [world.batch(place, reports) for place in (0, 1)]
    answers = [Answer.decode(world.answer(batch)) for batch in batches]
    words = total(world.terms, (r.masked for r in reports))
    opened = open_sum(world.terms, words, bytes(16), [r.id for r in reports], [a.encode() for a in answers])
    return {
        "what": "one round of 20 devices. A secret of 32 bytes is SHA-256('isthmus/vectors/' + label): 'leader', 'authority', "
        "'signs 0', 'signs 1' and 'device N' (Ed25519), 'seals 0', 'seals 1' and the HPKE senders 'sender N PLACE' (X25519), "
        "'seed N PLACE' (seeds), 'report N' (its first 16 bytes: report ids), 'population', 'task', 'model' (digests). "
        "The batch has the id 00..00, the time is now_ms, no noise is added. "
        "Bad messages are written as patches [offset, bytes] of the first good one where they have its length.",
        "now_ms": NOW_MS,
        "words": packed(),
        "masks": masks(),
        "terms": world.terms.encode().hex(),
        "terms_digest": world.terms.digest.hex(),
        "keys": {
            name: key(name).public.hex() for name in ("leader", "authority", "signs 0", "signs 1", "device 0")
        },
        "sealing_keys": [helper.sealing.public.hex() for helper in world.helpers],
        "devices": shown,
        "batches": [batch.encode().hex() for batch in batches],
        "answers": [answer.encode().hex() for answer in answers],
        "total": world.terms.ring.pack(total(world.terms, (r.masked for r in reports))).hex(),
        "sum": opened.tolist(),
        "bad_reports": bad_reports(world, reports[0]),
        "bad_batches": bad_batches(world, batches[0]),
        "bad_answers": bad_answers(world, answers),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), indent=1, ensure_ascii=False) + "\n", "utf-8")
