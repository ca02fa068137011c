"""Requests that no client sends: odd framing, floods of parts, two people at once, invitations that point inside.

(A3, A4, A6, A7)
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.base.canonical import canonical_json
from isthmus.base.errors import ConfigError
from isthmus.crypto.seal import PartyKey
from isthmus.service.gate import BODY_MAX_BYTES
from isthmus.service.joining import Side, make_invite, read_token
from isthmus.service.node import Node
from isthmus.wire.link import Partner, certificate_der, make_certificate
from tests.service.parties import World
from tests.service.served import TOKEN, Served, serving
from tests.service.test_api import asking, check_problem

BIG = BODY_MAX_BYTES + 1


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("hostile")) as found:
        yield found


def said(served: Served, *headers: str, body: bytes = b"", path: str = "/api/v1/jobs/plan") -> bytes:
    """What a request, byte for byte, is answered; the connection may end before all of it was sent."""
    lines = [f"POST {path} HTTP/1.1", "Host: node", f"Authorization: Bearer {TOKEN}", *headers, "", ""]
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout=20)) as line:
        line.sendall("\r\n".join(lines).encode("latin-1"))
        try:
            for at in range(0, len(body), 65536):
                line.sendall(body[at : at + 65536])
        except OSError:
            pass
        parts = []
        try:
            while part := line.recv(65536):
                parts.append(part)
                if b"".join(parts).partition(b"\r\n\r\n")[2].endswith(b"}"):
                    break
        except ConnectionResetError:
            pass
    return b"".join(parts)


JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
MULTIPART = "Content-Type: multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("headers", "body", "statuses"),
    [
        ((JSON, "Content-Length: -1"), b"", {400}),
        ((JSON, "Content-Length: +2"), b"{}", {400}),
        ((JSON, "Content-Length: 0x10"), b"{}", {400}),
        ((JSON, "Content-Length: 2", "Content-Length: 3"), b"{} ", {400}),
        ((JSON, "Content-Length: 2", CHUNKED), b"0\r\n\r\n", {400, 422}),
        ((JSON, f"Content-Length: {BIG}"), b"", {413}),
        ((JSON, f"Content-Length: {10**30}"), b"", {400, 413}),
        ((JSON, CHUNKED), b"-5\r\n12345\r\n", {400}),
        ((JSON, CHUNKED), b"fffffffffffffff\r\n" + b" " * BIG, {400, 413}),
        ((JSON, CHUNKED), (b"10000\r\n" + b" " * 65536 + b"\r\n") * 80, {413}),
        ((JSON, CHUNKED), (b"1\r\n \r\n") * 20_000 + b"0\r\n\r\n", {400}),
        ((JSON, "X: " + "a" * 200_000), b"", {400, 431}),
        ((JSON, "Content-Length: 14", "Content-Encoding: gzip"), b"\x1f\x8b" + bytes(12), {400, 415}),
        ((MULTIPART, f"Content-Length: {len(PART) * 100_000}"), PART * 100_000, {413}),
        ((MULTIPART, f"Content-Length: {len(PART) * 1_000}"), PART * 1_000, {415}),
        (
            (MULTIPART, f"Content-Length: {BIG + 80}"),
            b"--x\r\nContent-Disposition: form-data\r\n\r\n" + b"a" * BIG,
            {413},
        ),
        ((MULTIPART, CHUNKED), b"10000\r\n" + b"a" * 65536 + b"\r\n" + b"0\r\n\r\n", {415}),
    ],
    ids=[
        "negative-length", "signed-length", "hexadecimal-length", "two-lengths", "length-and-chunks",
        "length-beyond", "length-of-30-figures", "negative-chunk", "chunk-beyond", "endless-chunks",
        "chunks-of-a-byte", "endless-header", "compressed", "100000-parts", "1000-parts", "a-nameless-part", "parts-in-chunks",
    ],
)  # fmt: skip
def test_odd_framing_is_refused_and_others_are_served(
    served: Served, headers: tuple[str, ...], body: bytes, statuses: set[int]
) -> None:
    answer = said(served, *headers, body=body)
    assert int(answer.split(b" ", 2)[1]) in statuses, answer[:300]
    assert b"Traceback" not in answer
    assert httpx.get(f"{served.url}/health", trust_env=False).text == "ok\n"


@pytest.mark.parametrize(
    "path", ["/jobs", "/jobs/plan", "/datasets", "/partners/accept", "/partners/new/confirm"]
)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000 + b"]" * 10_000,
        b'{"document":' * 10_000,
        b'{"document": "a", "document": "b"}',
        b'{"document": 1e999}',
        b'{"assume": 1' + b"0" * 5_000 + b"}",
        b'{"document": "\\ud800"}',
        b'{"document": "\\u0000"}',
        b"\xff",
    ],
    ids=["deep-lists", "deep-maps", "twice", "1e999", "5000-figures", "half-a-pair", "nul", "not-utf8"],
)
def test_no_route_reads_a_body_that_is_not_strict_json(served: Served, path: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    answer = httpx.post(f"{served.url}/api/v1{path}", content=body, headers=headers, trust_env=False)
    check_problem(answer, 400, "bad_document")


@pytest.mark.parametrize("path", ["/datasets", "/jobs", "/partners/accept"])
def test_a_flood_of_parts_is_refused_before_a_route_sees_it(served: Served, path: str) -> None:  # A4
    answer = said(served, MULTIPART, f"Content-Length: {BIG}", body=PART * 100, path="/api/v1" + path)
    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "acts", [("accept", "accept"), ("accept", "refuse"), ("refuse", "accept"), ("refuse",) * 2]
)
def test_of_two_people_who_act_at_once_one_wins_and_the_other_hears_of_it(
    tmp_path: Path, acts: tuple[str, str]
) -> None:  # A6
    async def play() -> None:
        async with World(tmp_path) as world:
            job_id = await world.propose()
            (partner,) = world.partners

            async def act(name: str) -> Any:
                if name == "accept":
                    return await partner.jobs.accept(job_id)
                await asyncio.sleep(0)
                return partner.jobs.refuse(job_id)

            done = await asyncio.gather(*map(act, acts), return_exceptions=True)
            errors = [one for one in done if isinstance(one, BaseException)]
            assert len(errors) == 1, done
            assert isinstance(errors[0], ConfigError)
            assert errors[0].code == "conflict"
            mine = [a.state for a in partner.store.answers(job_id) if a.party == "data-co"]
            won = acts[done.index(next(one for one in done if not isinstance(one, BaseException)))]
            assert mine == [{"accept": "accepted", "refuse": "refused"}[won]]
            kinds = [line.kind for line in partner.store.audit() if line.object == job_id]
            assert kinds.count("job.accepted") + kinds.count("job.refused") == 1
            assert kinds.count("consent.signed") == (won == "accept")

    asyncio.run(play())


def invitation(**fields: Any) -> str:
    """An invitation with a signature that holds, whatever stands in it."""
    key = PartyKey.generate()
    certificate, _ = make_certificate("shop", ["shop.example"])
    side = Side("shop", key.public, "https://shop.example:8443", certificate_der(certificate))
    line, _ = make_invite(side, key, datetime.now(UTC) + timedelta(days=1))
    body = json.loads(base64.urlsafe_b64decode(line)) | fields
    del body["sig"]
    signature = base64.b64encode(key.sign(b"isthmus/invitation/v1\0" + canonical_json(body))).decode()
    return base64.urlsafe_b64encode(canonical_json({**body, "sig": signature})).decode()


INSIDE = [
    "169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "100.100.100.200", "0.0.0.0", "[::]",
    "224.0.0.1", "255.255.255.255", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "0xa9.0xfe.0xa9.0xfe",
    "metadata.google.internal", "METADATA", "metadata.google.internal.", "user@10.0.0.1", "shop.example#", "shop.example?x",
    "shop.example\\@169.254.169.254", "shop .example", "", ".", "[fe80::1%25eth0]",
]  # fmt: skip


def test_an_invitation_that_points_inside_is_refused_and_nothing_is_fetched(tmp_path: Path) -> None:  # A7
    lines = {host: invitation(address=f"https://{host}:443") for host in INSIDE}
    refused(tmp_path, lines)


OTHER_FORMS: tuple[dict[str, Any], ...] = (
    {"address": "http://shop.example:8443"},
    {"address": "https://shop.example"},
    {"address": "https://shop.example:8443/link"},
    {"address": "https://shop.example:0"},
    {"address": "https://shop.example:65536"},
    {"address": "file:/etc/passwd"},
    {"address": 7},
    {"address": None},
    {"certificate": None},
    {"certificate": ""},
    {"certificate": "AAAA"},
    {"certificate": ["AAAA"]},
    {"certificate": base64.b64encode(bytes(4000)).decode()},
    {"party": "Shop"},
    {"party": "../shop"},
    {"party": None},
    {"key": "AAAA"},
    {"secret": ""},
    {"secret": 7},
    {"expires": "tomorrow"},
    {"expires": "2026-01-01T00:00:00"},
    {"id": ["a"]},
    {"kind": "else"},
    {"kind": "reply"},
    {"kind": "reply", "mac": 7},
    {"kind": "reply", "mac": "\u00e9"},
    {"v": 2},
)


def test_an_invitation_with_a_field_of_another_form_is_refused(tmp_path: Path) -> None:  # A7
    refused(tmp_path, {str(fields): invitation(**fields) for fields in OTHER_FORMS})


@pytest.mark.parametrize(
    "host", ["shop.example", "10.1.2.3", "127.0.0.1", "[2001:db8::1]", "a-b.c_d.example", "localhost"]
)
def test_an_invitation_that_names_a_partner_is_read(host: str) -> None:
    token = read_token(invitation(address=f"https://{host}:8443"))
    assert token.side.address == f"https://{host}:8443"


def test_what_a_person_accepts_is_asked_once_at_its_address_and_at_no_other(tmp_path: Path) -> None:  # A7
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await client.post("/partners/accept", json={"line": invitation()})
        assert asked == [("https://shop.example:8443", "/link/v1/join")]

    asked: list[tuple[str | None, str]] = []
    watched(tmp_path, play, asked)


def refused(tmp_path: Path, lines: dict[str, str]) -> None:
    """Each of these lines, by what is wrong with it, is refused; nobody is asked and nobody becomes a partner."""

    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for wrong, line in lines.items():
            answer = await client.post("/partners/accept", json={"line": line})
            assert answer.status_code == 422, wrong
            check_problem(answer, 422, "bad_invitation")
            assert asked == [], wrong
        assert node.store.partners() == []

    asked: list[tuple[str | None, str]] = []
    watched(tmp_path, play, asked)


def watched(tmp_path: Path, play: Any, asked: list[tuple[str | None, str]]) -> None:
    """Plays with a node whose requests to others are counted and go nowhere. It has an address, so that it may be invited."""

    async def go(partner: Partner, path: str, body: bytes) -> bytes:
        asked.append((partner.address, path))
        return b""

    async def begin(client: httpx.AsyncClient, node: Node) -> None:
        node.link._transport = go
        await play(client, node)

    asking(tmp_path, begin)
