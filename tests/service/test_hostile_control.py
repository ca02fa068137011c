"""A confirmed partner that says anything at all on the control channel: the conversation goes on, and nothing is changed by it.

(C2, P1, P5, H8)
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.canonical import canonical_json
from isthmus.base.errors import PeerError
from isthmus.jobs.consent import sign
from isthmus.jobs.control import (
    Again,
    Ended,
    Go,
    Halted,
    HeadKept,
    HeadTold,
    Proposal,
    Reply,
    Start,
    Started,
    decode_control,
)
from isthmus.jobs.spec import job_digest, parse_job, resolve
from isthmus.store.audit import _head_text
from isthmus.store.sql import SqlStore
from isthmus.wire.peer import CONTROL
from tests.service.parties import Party, Switchboard, World, _has, until

RUN = b"r" * 32


class OnDisk(World):
    """A label owner, and a partner whose records are in a database."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ())
        self.stores: list[SqlStore] = []
        board: Switchboard = self.board
        store = SqlStore(folder / "data-co.db")
        self.stores.append(store)
        self.partners = [Party("data-co", board, folder, store)]

    async def __aexit__(self, *ended: object) -> None:
        await super().__aexit__(*ended)
        for store in self.stores:
            store.close()


def proposal(world: World, number: int = 1, signer: Party | None = None, **fields: Any) -> bytes:
    document = resolve(parse_job(json.loads(world.text("hostile")))) | fields
    body = canonical_json(document)
    by = signer or world.bank
    return Proposal(number, body, sign(job_digest(document), number, "bank", by.key)).encode()


def hostile(world: World) -> Iterator[bytes]:
    """Bodies that the key of the partner could send; none of them is a proposal that holds."""
    dice = random.Random(7)
    good = proposal(world)
    yield from (b"", b"\x00", b"\x01\x08", bytes(100), b"\xff" * 1000, b"\x01\x08" + b"\xff" * 300)
    for _ in range(300):
        changed = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        yield bytes(changed)
    yield from (good[:size] for size in range(0, len(good), 7))
    other: tuple[dict[str, Any], ...] = (
        {"parties": {"label_owner": "data-co", "feature_owners": ["bank"]}},
        {"parties": {"label_owner": "bank", "feature_owners": ["shop"]}},
        {"kind": "Else"},
        {"extra": 1},
        {"model": None},
        {"run": {"seed": 2**60, "cores": 0}},
        {"inputs": {}},
        {"metadata": {"name": "x", "purpose": "\u0000" * 20}},
    )
    for fields in other:
        try:
            yield proposal(world, **fields)
        except ValueError:
            continue
    document = canonical_json(resolve(parse_job(json.loads(world.text("hostile")))))
    for body in (
        b"[" * 100_000,
        b"{" * 1000,
        document + b" ",
        document.replace(b'"card"', b'"card", "card"'),
        document.decode().encode("utf-16"),
        json.dumps(json.loads(document)).encode(),
        b"!!python/object/apply:os.system [true]",
        b"",
        b"null",
        b"\xff\xfe",
    ):
        yield Proposal(1, body, bytes(64)).encode()
    yield proposal(world, signer=world.partners[0])
    for text in ("", "refused", "\x1b[2J", "\u202e", "x" * 64, "../../etc", "<script>", "{code}", "%s%n"):
        yield Ended(RUN, text).encode()
        yield Reply(RUN, False, b"", text).encode()
    yield Reply(RUN, True, bytes(64), "").encode()
    for most in (0, 1, 2**32 - 1):
        yield Start(RUN, most, most, most).encode()
        yield Started(RUN, most, most, most, most).encode()
        yield Go(RUN, most, most).encode()
        yield Halted(RUN, most, "\x1b[2J", most, most).encode()
        yield Halted(RUN, most, "rewound", most, most).encode()
    yield Again(RUN).encode()
    for number in (0, 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1):
        yield HeadTold(number, b"d" * 32, bytes(64)).encode()
        yield HeadKept(number, b"d" * 32, bytes(64)).encode()
        if not 0 < number < 2**53:
            continue
        signature = world.bank.key.sign(_head_text("bank", number, b"d" * 32))
        yield HeadTold(number, b"d" * 32, signature).encode()
        yield HeadKept(number, b"d" * 32, signature).encode()


def test_whatever_a_partner_says_the_next_proposal_is_heard_and_accepted(tmp_path: Path) -> None:
    async def play() -> None:
        async with OnDisk(tmp_path) as world:
            (partner,) = world.partners
            line = world.bank.lines["data-co", CONTROL]
            kinds = [audit.kind for audit in partner.store.audit()]
            for body in hostile(world):
                await line.put(body)
            job_id = (await world.bank.jobs.propose(world.text("after"), None)).id
            await until(partial(_has, partner, job_id))
            assert [job.id for job in partner.store.jobs()] == [job_id]
            await partner.jobs.accept(job_id)
            await world.ended(job_id)
            assert partner.jobs.find(job_id).state == "done"
            told = {audit.kind for audit in partner.store.audit()} - set(kinds)
            assert "rule.broken" in told
            text = "\n".join(audit.to_json() for audit in partner.store.audit())
            for word in ("script", "etc", "python", "\\u001b"):
                assert word not in text
            assert len([a for a in partner.store.audit() if a.kind == "rule.broken"]) < 10, (
                "one line for each code"
            )

    asyncio.run(play())


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda rest: b"\x01\x08" + rest))
def test_any_bytes_are_a_control_message_or_a_peer_error(body: bytes) -> None:
    try:
        decode_control(body)
    except PeerError:
        return
