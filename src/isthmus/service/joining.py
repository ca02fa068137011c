"""Joining a partner: a signed invitation, a reply that proves its one-time secret, and four words for two people.

The reply goes over the link where the inviter listens; where it does not, a person carries it back. Both sides end with the
same transcript and so with the same four words. Whoever swaps keys on the way cannot make the words agree.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.x509 import load_der_x509_certificate

from isthmus.base.canonical import canonical_json
from isthmus.base.errors import ConfigError, PeerError
from isthmus.crypto.seal import PartyKey, verify
from isthmus.store.folder import PARTY_PATTERN
from isthmus.store.records import Invitation

VALID_FOR = timedelta(days=7)
TOKEN_MAX_BYTES = 16 * 1024
_SIGNED = b"isthmus/invitation/v1\0"
_METADATA = frozenset(
    {"metadata", "metadata.google.internal", "instance-data", "100.100.100.200", "fd00:ec2::254"}
)
_CONSONANTS = "bdfghjklmnprstvz"
_VOWELS = "aiou"


@dataclass(frozen=True, slots=True)
class Side:
    """What a party says of itself in a token."""

    party: str
    public_key: bytes
    address: str | None
    certificate_der: bytes | None


@dataclass(frozen=True, slots=True)
class Invite:
    """What an invitation says; `secret` opens one join."""

    id: str
    side: Side
    secret: bytes = field(repr=False)
    expires_at: datetime
    line: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class JoinReply:
    """What the other side answers to an invitation."""

    invitation_id: str
    side: Side
    line: str


def make_invite(own: Side, key: PartyKey, now: datetime) -> tuple[str, Invitation]:
    """The line to hand over, and what to remember of it."""
    kept = Invitation(secrets.token_hex(8), secrets.token_bytes(32), now + VALID_FOR)
    body = {
        **_side_document(own),
        "kind": "invite",
        "id": kept.id,
        "secret": _text(kept.secret),
        "expires": kept.expires_at.isoformat(),
    }
    return _seal(body, key), kept


def make_reply(invite: Invite, own: Side, key: PartyKey) -> str:
    """The line that accepts an invitation."""
    body = {**_side_document(own), "kind": "reply", "id": invite.id}
    body["mac"] = _text(_mac(invite.secret, body))
    return _seal(body, key)


def read_token(line: str) -> Invite | JoinReply:
    """Raises ConfigError `bad_invitation`, whatever is wrong with the line."""
    line = "".join(line.split())
    try:
        if not 0 < len(line) <= TOKEN_MAX_BYTES:
            raise ValueError("length")
        body = json.loads(base64.b64decode(line, altchars=b"-_", validate=True))
        signature = base64.b64decode(body.pop("sig"), validate=True)
        side = _read_side(body)
        verify(side.public_key, signature, _SIGNED + canonical_json(body))
        if body["kind"] == "invite":
            expires_at = datetime.fromisoformat(body["expires"])
            secret = base64.b64decode(body["secret"], validate=True)
            if expires_at.tzinfo is None or len(secret) != 32 or not isinstance(body["id"], str):
                raise ValueError("fields")
            return Invite(body["id"], side, secret, expires_at, line)
        if body["kind"] == "reply" and isinstance(body["id"], str):
            base64.b64decode(body["mac"], validate=True)
            return JoinReply(body["id"], side, line)
        raise ValueError("kind")
    except PeerError:
        raise ConfigError("bad_invitation", why="its signature does not hold") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError("bad_invitation", why="it was cut or changed on the way") from None


def seal_reply(invite: Invite, reply: str) -> bytes:
    """A reply for the way to the inviter: what passes it on sees which invitation it answers and how long it is."""
    nonce = secrets.token_bytes(12)
    name = invite.id.encode()
    return name + nonce + _reply_key(invite.secret).encrypt(nonce, reply.encode(), name)


def open_reply(body: bytes, secret_of: Callable[[str], bytes | None]) -> str:
    """The reply that was sealed with the secret of an invitation. Raises ConfigError `bad_invitation`."""
    name, nonce, sealed = body[:16], body[16:28], body[28:]
    secret = secret_of(name.decode("ascii", errors="replace"))
    if secret is None:
        raise ConfigError("bad_invitation", why="it was not given out here, or was used before")
    try:
        return _reply_key(secret).decrypt(nonce, sealed, name).decode("ascii")
    except (InvalidTag, ValueError):
        raise ConfigError("bad_invitation", why="the reply does not belong to it") from None


def _reply_key(secret: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(hmac.digest(secret, b"isthmus/join-seal/v1", "sha256"))


def check_reply(reply: JoinReply, invitation: Invitation | None, now: datetime) -> None:
    """Raises ConfigError unless the invitation is ours, unspent, in time, and the reply knows its secret."""
    if invitation is None:
        raise ConfigError("bad_invitation", why="it was not given out here, or was used before")
    if now > invitation.expires_at:
        raise ConfigError("bad_invitation", why="it has expired")
    body = json.loads(base64.urlsafe_b64decode(reply.line))
    mac = base64.b64decode(body.pop("mac", ""))
    del body["sig"]
    if not hmac.compare_digest(mac, _mac(invitation.secret, body)):
        raise ConfigError("bad_invitation", why="the reply does not belong to it")


def transcript(invite_id: str, secret: bytes, reply: str) -> bytes:
    """32 bytes that both sides know after a join and nobody else: which invitation, its secret, which reply."""
    return hmac.digest(secret, b"isthmus/join/v1\0" + invite_id.encode() + reply.encode(), "sha256")


def words(key_a: bytes, key_b: bytes, joined: bytes) -> tuple[str, ...]:
    """Four words of 16 bits each, the same whichever key comes first; made slow to search for."""
    first, second = sorted((key_a, key_b))
    stretched = hashlib.scrypt(
        first + second + joined, salt=b"isthmus/words/v1", n=2**15, r=8, p=1, maxmem=2**26, dklen=8
    )
    return tuple(_word(int.from_bytes(stretched[at : at + 2], "big")) for at in range(0, 8, 2))


def _word(bits: int) -> str:
    """Consonant, vowel, consonant, vowel, consonant: 4 + 2 + 4 + 2 + 4 bits (a proquint)."""
    return (
        _CONSONANTS[bits >> 12]
        + _VOWELS[bits >> 10 & 3]
        + _CONSONANTS[bits >> 6 & 15]
        + _VOWELS[bits >> 4 & 3]
        + _CONSONANTS[bits & 15]
    )


def _side_document(side: Side) -> dict[str, Any]:
    certificate = None if side.certificate_der is None else _text(side.certificate_der)
    return {
        "v": 1,
        "party": side.party,
        "key": _text(side.public_key),
        "address": side.address,
        "certificate": certificate,
    }


def _read_side(body: dict[str, Any]) -> Side:
    """Raises ValueError, also for an address that no partner has: what a person is made to accept opens no way inside."""
    address, certificate = body["address"], body["certificate"]
    key = base64.b64decode(body["key"], validate=True)
    good = body["v"] == 1 and re.fullmatch(PARTY_PATTERN, body["party"]) and len(key) == 32
    if address is not None and not _can_listen(address.removeprefix("relay+")):
        good = False
    if not good or (address is None) != (certificate is None):
        raise ValueError("fields")
    der = None if certificate is None else base64.b64decode(certificate, validate=True)
    if der is not None:
        load_der_x509_certificate(der)
    return Side(body["party"], key, address, der)


def _can_listen(address: str) -> bool:
    """Whether this is https, a name or an IP address, and a port. No spelling of IP addresses but the common one, and none
    that stands for this network alone, where the metadata of a cloud and its credentials are."""
    found = re.fullmatch(r"https://(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z._-]{1,253}):([0-9]{1,5})", address)
    if found is None or not 0 < int(found[2]) < 2**16:
        return False
    host = found[1].strip("[]").rstrip(".")
    try:
        ip = ip_address(host)
    except ValueError:
        last = host.rpartition(".")[2].lower()
        return bool(last) and not (last.isdecimal() or last.startswith("0x") or host.lower() in _METADATA)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    inside = ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved
    return not inside and str(ip) not in _METADATA


def _seal(body: dict[str, Any], key: PartyKey) -> str:
    signed = {**body, "sig": _text(key.sign(_SIGNED + canonical_json(body)))}
    return base64.urlsafe_b64encode(canonical_json(signed)).decode()


def _mac(secret: bytes, body: dict[str, Any]) -> bytes:
    return hmac.digest(secret, canonical_json(body), "sha256")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
