"""Party keys, the signed handshake, and sealed envelopes: Ed25519, X25519, HKDF-SHA256, ChaCha20-Poly1305.

    dialer                                                  listener
      | hello: version, suite, from, to, boot, time, X       |     signature over the hello
      |----------------------------------------------------->|
      | reply: version, suite, from, to, boot, time, Y       |     signature over hello and reply
      |<-----------------------------------------------------|

    keys there, back, session id = HKDF(X25519(x, Y); salt = SHA-256(hello, reply))

Both names stand under both signatures, so nobody can bind one party's keys to another's name. A replayed hello gets an
answer that is of no use: only the holder of x can seal, and a session counts once something sealed has come.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from isthmus.base.errors import LineError, LocalError, PeerError

VERSION: Final = 1
SUITE: Final = 1  # Ed25519, X25519, HKDF-SHA256, ChaCha20-Poly1305; other numbers are reserved
SIGNATURE_BYTES: Final = 64
TAG_BYTES: Final = 16

Buffer = bytes | memoryview

_MAGIC = b"ISTH"
_PREFIX = struct.Struct("<4sHH16s16s")
_REST = struct.Struct("<32s16sQI")
GREETING_BYTES: Final = _PREFIX.size + _REST.size + SIGNATURE_BYTES

_HELLO_LABEL = b"isthmus/link/hello/v1"
_REPLY_LABEL = b"isthmus/link/reply/v1"
_FRAME_LABEL = b"isthmus/link/frame/v1"


class PartyKey:
    """The private key of a party (Ed25519). Its bytes are shown by `to_bytes` only."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        self.fingerprint = fingerprint(self.public)

    @classmethod
    def generate(cls) -> Self:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """The key that `to_bytes` (32 bytes) gave."""
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    def to_bytes(self) -> bytes:
        return self._private.private_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """64 bytes. Put a label of your own in front of the data, so that it cannot be taken for something else."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        return f"PartyKey({self.fingerprint.hex()})"


class TurningKey(PartyKey):
    """The key of this party for those who hold it for long: all of them have the new one once it has been changed."""

    def __init__(self, key: PartyKey) -> None:
        super().__init__(key._private)

    def turn(self, to: PartyKey) -> None:
        self._private, self.public, self.fingerprint = to._private, to.public, to.fingerprint


def fingerprint(public_key: bytes) -> bytes:
    """16 bytes that name a party key."""
    return hashlib.sha256(b"isthmus/party/v1" + public_key).digest()[:16]


def shown(public_key: bytes) -> str:
    """The fingerprint of a key as people compare it: eight groups of four figures."""
    text = fingerprint(public_key).hex()
    return " ".join(text[at : at + 4] for at in range(0, 32, 4))


Publics = bytes | tuple[bytes, ...]
"""A public key, or those of which any will do."""


def verify(public_key: Publics, signature: bytes, data: bytes, partner: str = "the partner") -> None:
    """Raises PeerError("bad_signature") unless `signature` over `data` holds, under one of the keys."""
    for public in (public_key,) if isinstance(public_key, bytes) else public_key:
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
            return
        except (InvalidSignature, ValueError):
            continue
    raise PeerError("bad_signature", partner=partner)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What one side says of itself in the handshake. `poll_ms`: how long the dialer waits for an answer (0 in a reply)."""

    sender: bytes
    receiver: bytes
    ephemeral: bytes
    boot: bytes
    time_ms: int
    poll_ms: int


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Outcome of a handshake: the session's id, a key for each direction, and the other side's greeting."""

    id: bytes
    sending: ChaCha20Poly1305 = field(repr=False)
    receiving: ChaCha20Poly1305 = field(repr=False)
    theirs: Greeting


class Dialing:
    """The dialer's half of one handshake: `hello` goes out, `finish` takes the reply. Used once."""

    def __init__(
        self,
        own: PartyKey,
        partner_public: bytes,
        boot: bytes,
        time_ms: int,
        poll_ms: int,
        *,
        partner: str = "the partner",
        version: int = VERSION,
        ephemeral: X25519PrivateKey | None = None,
    ) -> None:
        self._own = own
        self._public = partner_public
        self._partner = partner
        self._version = version
        self._secret: X25519PrivateKey | None = ephemeral or X25519PrivateKey.generate()
        share = self._secret.public_key().public_bytes_raw()
        greeting = Greeting(own.fingerprint, fingerprint(partner_public), share, boot, time_ms, poll_ms)
        body = _write(greeting, version)
        self.hello = body + own.sign(_HELLO_LABEL + body)

    def finish(self, reply: bytes) -> SessionKeys:
        """Keys of the session. Raises PeerError, or LineError("version_gap")."""
        check_version(reply, self._version, self._partner)
        greeting = _read(reply)
        if not (
            compare_digest(greeting.sender, fingerprint(self._public))
            and compare_digest(greeting.receiver, self._own.fingerprint)
        ):
            raise PeerError("wrong_channel")
        body, signature = reply[:-SIGNATURE_BYTES], reply[-SIGNATURE_BYTES:]
        verify(self._public, signature, _REPLY_LABEL + self.hello + body, self._partner)
        secret, self._secret = self._secret, None
        if secret is None:
            raise LocalError("secret_spent")
        there, back, session = _derive(secret, greeting.ephemeral, self.hello, reply)
        return SessionKeys(session, there, back, greeting)


def answer(
    own: PartyKey,
    partner_public: bytes,
    hello: bytes,
    boot: bytes,
    time_ms: int,
    *,
    partner: str = "the partner",
    version: int = VERSION,
    ephemeral: X25519PrivateKey | None = None,
) -> tuple[bytes, SessionKeys]:
    """The listener's half: the reply and the keys. Raises PeerError, or LineError("version_gap")."""
    check_version(hello, version, partner)
    greeting = _read(hello)
    if not (
        compare_digest(greeting.sender, fingerprint(partner_public))
        and compare_digest(greeting.receiver, own.fingerprint)
    ):
        raise PeerError("wrong_channel")
    body, signature = hello[:-SIGNATURE_BYTES], hello[-SIGNATURE_BYTES:]
    verify(partner_public, signature, _HELLO_LABEL + body, partner)
    secret = ephemeral or X25519PrivateKey.generate()
    share = secret.public_key().public_bytes_raw()
    said = _write(Greeting(own.fingerprint, greeting.sender, share, boot, time_ms, 0), version)
    reply = said + own.sign(_REPLY_LABEL + hello + said)
    there, back, session = _derive(secret, greeting.ephemeral, hello, reply)
    return reply, SessionKeys(session, back, there, greeting)


def names(greeting: bytes) -> tuple[bytes, bytes]:
    """(sender, receiver) fingerprints that a greeting of any version claims; nothing is verified."""
    if len(greeting) < _PREFIX.size or greeting[:4] != _MAGIC:
        raise PeerError("bad_message", why="it is not a greeting")
    _, _, _, sender, receiver = _PREFIX.unpack_from(greeting)
    return sender, receiver


def prefix(own: PartyKey, partner_public: bytes, version: int = VERSION) -> bytes:
    """The part of a greeting that is the same in every version: all that a partner of another version is told."""
    return _PREFIX.pack(_MAGIC, version, SUITE, own.fingerprint, fingerprint(partner_public))


def check_version(greeting: bytes, ours: int, partner: str) -> None:
    """Raises LineError("version_gap") when the other side speaks another version or suite."""
    names(greeting)
    _, version, suite, _, _ = _PREFIX.unpack_from(greeting)
    if version != ours:
        raise LineError("version_gap", theirs=version, ours=ours, partner=partner)
    if suite != SUITE:
        raise LineError("version_gap", theirs=f"{version}/{suite}", ours=f"{ours}/{SUITE}", partner=partner)


def seal(
    key: ChaCha20Poly1305, own: PartyKey, counter: int, header: bytes, body: Buffer, digest: bytes
) -> bytes:
    """Header, sealed signature, sealed body. `digest` is the SHA-256 of `body`; `counter` is used once per key.

    The signature covers header and digest of the readable body, so it proves to others what was sent; it is sealed as
    well, because in clear it would confirm guesses of a short body.
    """
    signature = own.sign(_FRAME_LABEL + header + digest)
    sealed_signature = key.encrypt(_nonce(1, counter), signature, header)
    return b"".join((header, sealed_signature, key.encrypt(_nonce(0, counter), body, header)))


def unseal(
    key: ChaCha20Poly1305, public: bytes, counter: int, envelope: bytes, header_bytes: int, partner: str
) -> tuple[bytes, bytes]:
    """(body, SHA-256 of the body) of an envelope that this key sealed and this party signed. Raises PeerError."""
    view = memoryview(envelope)
    header = bytes(view[:header_bytes])
    start = header_bytes + SIGNATURE_BYTES + TAG_BYTES
    if len(view) < start + TAG_BYTES:
        raise PeerError("bad_message", why="it is shorter than any envelope")
    try:
        signature = key.decrypt(_nonce(1, counter), view[header_bytes:start], header)
        body = key.decrypt(_nonce(0, counter), view[start:], header)
    except InvalidTag:
        raise PeerError("bad_message", why="the seal does not hold") from None
    digest = hashlib.sha256(body).digest()
    verify(public, signature, _FRAME_LABEL + header + digest, partner)
    return body, digest


def _nonce(part: int, counter: int) -> bytes:
    return struct.pack("<IQ", part, counter)


def _write(greeting: Greeting, version: int) -> bytes:
    return _PREFIX.pack(_MAGIC, version, SUITE, greeting.sender, greeting.receiver) + _REST.pack(
        greeting.ephemeral, greeting.boot, greeting.time_ms, greeting.poll_ms
    )


def _read(body: bytes) -> Greeting:
    if len(body) != GREETING_BYTES:
        raise PeerError("bad_message", why="a greeting has another length")
    return Greeting(*names(body), *_REST.unpack_from(body, _PREFIX.size))


def _derive(
    secret: X25519PrivateKey, share: bytes, hello: bytes, reply: bytes
) -> tuple[ChaCha20Poly1305, ChaCha20Poly1305, bytes]:
    try:
        common = secret.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:
        raise PeerError("bad_key", why="its session key has a low order") from None
    salt = hashlib.sha256(hello + reply).digest()
    okm = HKDF(algorithm=SHA256(), length=80, salt=salt, info=b"isthmus/link/session/v1").derive(common)
    return ChaCha20Poly1305(okm[:32]), ChaCha20Poly1305(okm[32:64]), okm[64:]
