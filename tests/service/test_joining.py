"""Invitations, replies, four words: what joins two parties, and what does not."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigError, PolicyError
from isthmus.crypto.seal import PartyKey
from isthmus.service.audit import Audit
from isthmus.service.joining import Side, make_invite, read_token, words
from isthmus.service.partners import Partners
from isthmus.store.memory import MemoryStore
from isthmus.wire.link import Partner, certificate_der, make_certificate

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Clock(SystemClock):
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


class Network:
    """Carries join requests to whoever listens at an address."""

    def __init__(self) -> None:
        self.listening: dict[str, Partners] = {}
        self.carried: list[bytes] = []


class Door:
    """The part of a link that joins need."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.known: dict[str, Partner] = {}

    def add_partner(self, partner: Partner) -> None:
        self.known[partner.name] = partner

    def remove_partner(self, name: str, farewell_s: float = 0.0) -> None:
        del self.known[name]

    async def post_join(
        self, address: str, certificate_der: bytes | None, body: bytes, public_key: bytes = bytes(32)
    ) -> bytes:
        assert certificate_der == CERTIFICATE
        self._network.carried.append(body)
        return await self._network.listening[address].join(body, "127.0.0.1")


class Institution:
    """One party with its partners, in memory."""

    def __init__(self, name: str, network: Network, address: str | None = None) -> None:
        self.key = PartyKey.generate()
        self.clock = Clock()
        self.store = MemoryStore()
        self.door = Door(network)
        self.talked_to: list[str] = []
        self.revoked: list[str] = []
        own = Side(name, self.key.public, address, CERTIFICATE if address else None)
        self.audit = Audit(name, self.key, self.store, self.clock)
        self.partners = Partners(
            self.store,
            own,
            self.key,
            self.door,
            self.audit,
            self.clock,
            self.talked_to.append,
            self.revoked.append,
        )
        if address:
            network.listening[address] = self.partners

    def words_of(self, name: str) -> tuple[str, ...]:
        partner = self.store.partner(name)
        assert partner is not None
        return partner.words


CERTIFICATE = certificate_der(make_certificate("bank", ["bank.example"])[0])
BANK = "https://bank.example:8443"


def two(
    bank_address: str | None = BANK, other_address: str | None = None
) -> tuple[Network, Institution, Institution]:
    network = Network()
    return network, Institution("bank", network, bank_address), Institution("data-co", network, other_address)


def refused(code: str, institution: Institution, line: str) -> str:
    with pytest.raises(ConfigError) as caught:
        asyncio.run(institution.partners.accept(line))
    assert caught.value.code == code
    return caught.value.sentence("en")


def test_both_sides_get_the_same_words_and_nothing_is_open_before_they_are_compared() -> None:
    _, bank, other = two()
    joined, reply = asyncio.run(other.partners.accept(bank.partners.invite()))
    assert reply is None
    assert joined.words == other.words_of("bank") == bank.words_of("data-co")
    assert not bank.door.known
    assert not other.door.known
    bank.partners.confirm("data-co", list(joined.words))
    other.partners.confirm("bank", [word.upper() for word in joined.words])
    assert other.door.known["bank"] == Partner("bank", bank.key.public, BANK, CERTIFICATE)
    assert bank.door.known["data-co"] == Partner("data-co", other.key.public)
    assert (bank.talked_to, other.talked_to) == (["data-co"], ["bank"])


def test_an_inviter_that_only_calls_out_takes_the_reply_from_a_person() -> None:
    _, bank, other = two(None, "https://data.example:8443")
    joined, reply = asyncio.run(other.partners.accept(bank.partners.invite()))
    assert reply is not None
    answered, nothing = asyncio.run(bank.partners.accept(f"  {reply}\n"))
    assert nothing is None
    assert answered.words == joined.words
    assert answered.address == "https://data.example:8443"
    assert "used before" in refused("bad_invitation", bank, reply)


def test_where_nobody_listens_no_join_is_made() -> None:
    _, bank, other = two(None, None)
    refused("no_listener", other, bank.partners.invite())
    assert other.store.partners() == []


def test_wrong_words_confirm_nothing() -> None:
    _, bank, other = two()
    joined, _ = asyncio.run(other.partners.accept(bank.partners.invite()))
    for given in (("babab",) * 4, joined.words[::-1], (*joined.words[:3], "zuzuz")):
        with pytest.raises(PolicyError) as caught:
            bank.partners.confirm("data-co", list(given))
        assert caught.value.code == "words_differ"
    assert not bank.door.known
    partner = bank.store.partner("data-co")
    assert partner is not None
    assert not partner.confirmed
    with pytest.raises(ConfigError):
        bank.partners.confirm("nobody", list(joined.words))


def test_an_invitation_opens_one_join_and_for_seven_days() -> None:
    network, bank, other = two()
    third = Institution("shop", network)
    line = bank.partners.invite()
    late = bank.partners.invite()
    asyncio.run(other.partners.accept(line))
    assert "used before" in refused("bad_invitation", third, line)
    assert third.store.partners() == []
    third.clock.at = NOW + timedelta(days=7, seconds=1)
    assert "expired" in refused("bad_invitation", third, late)
    third.clock.at = NOW
    bank.clock.at = NOW + timedelta(days=7, seconds=1)
    assert "expired" in refused("bad_invitation", third, late)


def _changed(line: str, **fields: Any) -> str:
    body = json.loads(base64.urlsafe_b64decode(line)) | fields
    return base64.urlsafe_b64encode(json.dumps(body).encode()).decode()


def test_a_token_that_was_changed_on_the_way_is_refused() -> None:
    network, bank, other = two()
    line = bank.partners.invite()
    stranger = PartyKey.generate()
    changes: list[dict[str, Any]] = [
        {"party": "evil"},
        {"address": "https://evil.example:1"},
        {"key": base64.b64encode(stranger.public).decode()},
        {"secret": base64.b64encode(bytes(32)).decode()},
        {"kind": "reply"},
        {"v": 2},
        {"expires": "2030-01-01T00:00:00+00:00"},
        {"party": 7},
        {"sig": ""},
    ]
    for change in changes:
        refused("bad_invitation", other, _changed(line, **change))
    for text in (
        "",
        "x",
        line[:-9],
        line[9:],
        "A" * 20_000,
        base64.urlsafe_b64encode(b"[" * 9000).decode(),
        "\u4e2d",
    ):
        refused("bad_invitation", other, text)
    assert network.carried == []
    asyncio.run(other.partners.accept(line))


def test_a_reply_without_the_secret_is_refused() -> None:
    network, bank, other = two(None, "https://data.example:8443")
    line = bank.partners.invite()
    _, reply = asyncio.run(other.partners.accept(line))
    assert reply is not None
    evil = Institution("evil", network, "https://evil.example:1")
    token = read_token(line)
    forged, _ = make_invite(
        Side("evil", evil.key.public, "https://evil.example:1", CERTIFICATE), evil.key, NOW
    )
    body = json.loads(base64.urlsafe_b64decode(forged))
    del body["secret"], body["expires"], body["sig"]
    from isthmus.service.joining import _seal

    body |= {"kind": "reply", "id": token.id, "mac": base64.b64encode(bytes(32)).decode()}  # type: ignore[union-attr]
    assert "does not belong" in refused("bad_invitation", bank, _seal(body, evil.key))
    asyncio.run(bank.partners.accept(reply))


def test_a_confirmed_partner_is_not_replaced_by_an_invitation() -> None:
    network, bank, other = two()
    joined, _ = asyncio.run(other.partners.accept(bank.partners.invite()))
    other.partners.confirm("bank", list(joined.words))
    twin = Institution("bank", network, "https://evil.example:1")
    refused("already_there", other, twin.partners.invite())
    refused("bad_invitation", bank, bank.partners.invite())


@pytest.mark.trust("A7")
@pytest.mark.parametrize(
    "address",
    [
        "https://169.254.169.254:80",
        "https://[fe80::1]:443",
        "https://[::ffff:169.254.169.254]:443",
        "https://0.0.0.0:443",
        "https://224.0.0.1:443",
        "relay+https://169.254.169.254:443",
        "http://bank.example:443",
        "https://bank.example:443/latest/meta-data",
        "https://user@bank.example:8443\r\nHost: x:1",
    ],
)
def test_an_invitation_that_leads_to_no_partner_is_refused_and_nothing_is_fetched(address: str) -> None:
    network, _, other = two()
    evil = Institution("evil", network, address)
    refused("bad_invitation", other, evil.partners.invite())
    assert network.carried == []
    assert other.store.partners() == []


@pytest.mark.trust("T22")
def test_someone_in_between_makes_other_words() -> None:
    network, bank, other = two()
    middle_to_other = Institution("bank", network, "https://evil.example:1")
    middle_to_bank = Institution("data-co", network)
    asyncio.run(middle_to_bank.partners.accept(bank.partners.invite()))
    asyncio.run(other.partners.accept(middle_to_other.partners.invite()))
    assert bank.words_of("data-co") != other.words_of("bank")


def test_words_are_four_times_five_letters_and_the_same_from_both_sides() -> None:
    first = words(b"a" * 32, b"b" * 32, b"t" * 32)
    assert first == words(b"b" * 32, b"a" * 32, b"t" * 32)
    assert first != words(b"a" * 32, b"b" * 32, b"u" * 32)
    assert len(first) == 4
    for word in first:
        assert [c in "aiou" for c in word] == [False, True, False, True, False]


def test_the_secret_of_an_invitation_has_no_repr() -> None:
    _, bank, _ = two()
    line = bank.partners.invite()
    secret = json.loads(base64.urlsafe_b64decode(line))["secret"]
    token = read_token(line)
    assert secret not in repr(token)
    assert line not in repr(token)
