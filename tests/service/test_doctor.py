"""What the doctor finds on a path that something stands in, and the letter that asks for a better one. (N3, D5, P6, P9)"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.base.errors import ConfigError, LineError
from isthmus.service.doctor import Finding, Words, _certificate, examine_node, examine_partner
from isthmus.service.letter import Way, write_letter
from isthmus.store.folder import NodeFolder, make_config
from isthmus.wire.link import Partner, make_certificate, server_context
from isthmus.wire.peer import Refused
from tests.service.pair_of_nodes import Party, free_port, join, two, until
from tests.wire.test_proxy import proxy


def play(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


async def ask(who: Party, partner: str, language: str = "en", idle_s: float = 0) -> dict[str, Finding]:
    known = who.node.store.partner(partner)
    assert known is not None
    node = who.node
    found = await examine_partner(node.link, node.rates, known, node.config, language, idle_s)
    return {finding.probe: finding for finding in found}


def test_both_sides_of_a_good_line_are_told_everything(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            for language in ("en", "zh"):
                found = await ask(other, "bank", language, idle_s=0.2)
                assert {f.verdict for f in found.values()} == {"ok"}
                assert list(found) == [
                    "name", "proxy of calls", "partner certificate", "tls path", "line to bank", "link version",
                    "partner clock", "largest body", "buffering", "idle cut", "round trip", "up", "down",
                ]  # fmt: skip
            listener = await ask(bank, "data-co")
            assert {"line to data-co", "link version", "partner clock", "round trip", "up", "down"} <= set(
                listener
            )
            mine, theirs = bank.node.measured.last("data-co"), other.node.measured.last("bank")
            assert mine is not None
            assert theirs is not None
            assert mine.rated

    play(test)


def test_the_side_that_is_called_gets_its_figures_the_other_way_round(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            await ask(other, "bank")
            await until(lambda: bank.node.measured.last("data-co"))
            mine, theirs = bank.node.measured.last("data-co"), other.node.measured.last("bank")
            assert mine is not None
            assert theirs is not None
            assert (mine.up_bytes_per_s, mine.down_bytes_per_s) == (
                theirs.down_bytes_per_s,
                theirs.up_bytes_per_s,
            )
            bank.node.measured.keep_told("data-co", float("nan"), 1.0, 1.0)
            bank.node.measured.keep_told("data-co", 0.1, -1.0, 1.0)
            assert bank.node.measured.last("data-co") == mine

    play(test)


def test_a_partner_that_asks_all_the_time_is_measured_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            await ask(bank, "data-co")
            before = other.node.link.state("bank").sent_bytes
            for _ in range(20):
                other.node.rates.on_asked("bank")
            await asyncio.sleep(0.2)
            assert other.node.link.state("bank").sent_bytes - before < 100_000

    play(test)


@pytest.mark.trust("N3")
def test_n3_a_gateway_with_small_bodies_and_short_patience_is_named_with_its_settings(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (_, other):
            inner = other.node.link._transport

            async def narrow(partner: Partner, path: str, body: bytes) -> bytes:
                if len(body) > 300_000:
                    raise Refused(413)
                try:
                    return await asyncio.wait_for(inner(partner, path, body), 0.5)
                except TimeoutError:
                    raise LineError("unreachable", partner=partner.name, why="cut") from None

            other.node.link._dialers["bank"]._transport = narrow
            found = await ask(other, "bank", idle_s=3)
            assert found["largest body"] == replace(found["largest body"], value="256 KiB", verdict="fail")
            assert "client_max_body_size" in found["largest body"].cure
            assert found["idle cut"].verdict == "warn"
            assert "proxy_read_timeout" in found["idle cut"].cure

    play(test)


@pytest.mark.trust("N3")
def test_n3_answers_that_a_gateway_collects_first_are_noticed(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (_, other):
            inner = other.node.link._transport

            async def collects(partner: Partner, path: str, body: bytes) -> bytes:
                reply = await inner(partner, path, body)
                if len(reply) > 500_000:
                    other.node.link._http.pace["bank"] = (0.8, 0.01)
                return reply

            other.node.link._dialers["bank"]._transport = collects
            found = (await ask(other, "bank"))["buffering"]
            assert (found.verdict, "proxy_buffering" in found.cure) == ("warn", True)

    play(test)


@pytest.mark.trust("T22")
def test_t22_a_gateway_that_opens_tls_is_named_as_such(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (bank, other):
            certificate, key = make_certificate("gateway", ["127.0.0.1"])
            files = tmp_path / "gateway.pem", tmp_path / "gateway.key"
            files[0].write_bytes(certificate)
            files[1].write_bytes(key)
            context = server_context(str(files[0]), str(files[1]))
            gateway = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
            port = gateway.sockets[0].getsockname()[1]
            known = other.node.store.partner("bank")
            assert known is not None
            moved = replace(known, address=f"https://127.0.0.1:{port}")
            other.node.store.put_partner(moved)
            await bank.stop()
            await other.again()
            try:
                await until(lambda: other.node.link.state("bank").problem)
                found = await ask(other, "bank")
                assert found["tls path"].verdict == "fail"
                assert "not the one pinned" in found["tls path"].value
            finally:
                gateway.close()
                await gateway.wait_closed()

    play(test)


def test_a_name_that_is_not_known_and_a_proxy_that_refuses_are_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (_, other):
            known = other.node.store.partner("bank")
            assert known is not None
            other.node.store.put_partner(replace(known, address="https://bank.invalid:8443"))
            await other.again()
            await until(lambda: other.node.link.state("bank").problem)
            found = await ask(other, "bank", "zh")
            assert found["name"].verdict == "fail"
            assert found["name"].cure
            with proxy("--refuse") as refusing:
                config = other.folder.home / "config.yaml"
                config.write_text(config.read_text() + f"proxy: {refusing.url}\n")
                await other.again()
                await until(lambda: other.node.link.state("bank").problem)
                found = await ask(other, "bank")
                assert found["name"] == Finding("name", "bank.invalid, looked up by the proxy")
                assert found["proxy of calls"].verdict == "fail"
                assert "HTTP 403" in found["proxy of calls"].value
                assert {f.probe: f for f in examine_node(other.folder, "en")}["proxy"].verdict == "ok"
            gone = {f.probe: f for f in examine_node(other.folder, "en")}["proxy"]
            assert gone.verdict == "fail"

    play(test)


def test_a_node_calls_through_the_proxy_of_its_config_with_the_password_of_its_file(tmp_path: Path) -> None:
    async def test() -> None:
        with proxy("--login", "data:canary-word") as between:
            place = f"127.0.0.1:{free_port()}"
            bank = Party(
                tmp_path / "bank", party="bank", mode="direct", listen=place, address=f"https://{place}"
            )
            fields = {"party": "data-co", "mode": "dial-out", "proxy": between.url, "proxy_user": "data"}
            folder = NodeFolder.create(tmp_path / "other", make_config(fields, "t"), make_certificate)
            with pytest.raises(ConfigError) as missing:
                folder.proxy_password()
            assert missing.value.code == "key_missing"
            folder.proxy_password_file.write_text("canary-word\n")
            folder.proxy_password_file.chmod(0o644)
            with pytest.raises(ConfigError) as loose:
                folder.check_modes()
            assert loose.value.code == "file_mode"
            folder.proxy_password_file.chmod(0o600)
            other = Party.__new__(Party)
            other.clock, other.folder, other.running = bank.clock, folder, False
            from isthmus.service.node import Node

            other.node = Node(folder, bank.clock)
            try:
                await bank.start()
                await other.start()
                await join(bank, other)
                assert set(between.lines) == {f"200 {place}"}
            finally:
                await other.stop()
                await bank.stop()
        for file in [f for f in folder.home.rglob("*") if f.is_file()]:
            assert file == folder.proxy_password_file or b"canary-word" not in file.read_bytes()

    play(test)


def _certificate_for(days: float) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bank")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(days=400))
    return builder.not_valid_after(now + timedelta(days=days)).sign(key, SHA256()).public_bytes(Encoding.DER)


@pytest.mark.trust("D5")
@pytest.mark.parametrize(
    ("days", "verdict", "word"),
    [(40, "ok", ""), (29, "warn", "month"), (6.5, "warn", "week"), (0.5, "fail", "Now"), (-3, "fail", "Now")],
)
def test_d5_the_end_of_a_certificate_is_told_30_7_and_1_days_ahead(
    days: float, verdict: str, word: str
) -> None:
    for language in ("en", "zh"):
        found = _certificate("certificate", _certificate_for(days), Words(language))
        assert found.verdict == verdict
        if language == "en":
            assert word in found.cure


def test_the_node_alone_is_looked_at_while_it_runs_and_while_it_does_not(tmp_path: Path) -> None:
    async def test() -> None:
        place = f"127.0.0.1:{free_port()}"
        bank = Party(tmp_path / "bank", party="bank", mode="direct", listen=place, address=f"https://{place}")

        async def look(language: str = "en") -> dict[str, Finding]:
            found = await asyncio.to_thread(examine_node, bank.folder, language)
            return {finding.probe: finding for finding in found}

        alone = await look()
        assert {"python", "cpu", "sqlite", "clock", "disk", "files", "certificate", "link port"} <= set(alone)
        assert alone["link port"].value.endswith("free")
        await bank.start()
        try:
            assert (await look())["link port"].verdict == "fail"  # taken, by whom is not known
            bank.folder.announce(1, bank.node.link_port)
            running = await look("zh")
            assert running["link port"].value.endswith("TLSv1.3")
            assert {f.verdict for f in running.values()} <= {"ok", "warn"}
            bank.folder.certificate.write_bytes(make_certificate("other", ["127.0.0.1"])[0])
            assert "another certificate" in (await look())["link port"].value
        finally:
            await bank.stop()
        assert (await look())["link port"].verdict == "fail"

    play(test)


def test_the_letter_names_every_connection_on_one_page_in_both_languages() -> None:
    fields: dict[str, Any] = {"party": "river-bank", "mode": "direct", "listen": "0.0.0.0:8443"}
    config = make_config(
        {**fields, "address": "https://bank.example:8443", "proxy": "http://proxy.example:3128"}, "t"
    )
    ways = [Way("data-co", None), Way("shop", "https://shop.example:443")]
    for language, words in (("en", ("Inbound", "through the proxy")), ("zh", ("入站", "经代理"))):
        letter = write_letter(config, ways, language)
        for word in (
            "river-bank",
            "0.0.0.0:8443",
            "data-co",
            "shop.example:443",
            "proxy.example:3128",
            "1 MiB",
            *words,
        ):
            assert word in letter
        assert len(letter.splitlines()) < 60
        assert max(map(len, letter.splitlines())) < 130
    relay = make_config({"party": "a", "mode": "relay", "relay": "https://relay.example:443"}, "t")
    assert "relay.example:443" in write_letter(relay, [Way("b", "relay+https://relay.example:443")], "en")
    assert "Inbound" not in write_letter(relay, [], "en")
    out = make_config({"party": "a", "mode": "dial-out"}, "t")
    assert "to be filled in" in write_letter(out, [], "en")


def test_the_context_of_the_probe_of_the_own_port_is_used_for_nothing_else() -> None:
    """The one place that takes any certificate compares it afterwards; no other context in the product does."""
    root = Path(__file__).parents[2] / "src"
    found = [file.name for file in root.rglob("*.py") if "CERT_NONE" in file.read_text()]
    assert found == ["doctor.py"]
