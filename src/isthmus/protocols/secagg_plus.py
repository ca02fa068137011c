"""Sums over many devices of which nobody sees a part, with no helper: the devices hold each other's secrets (SecAgg+, mode C).

    device i                        leader                                               other devices
      |-- Keys: two X25519 keys, ---->|                                                        |     1
      |   signed; ticket              |                                                        |
      |<- Roster: n signed keys ------|                                                        |
      |   draws k keepers                                                                      |
      |-- Shares: of its mask key --->|                                                        |     2
      |   and its seed, sealed        |-- Dealt: who has shared; what is for you ------------->|
      |<- Dealt ----------------------|                                                        |
      |-- Masked: x + PRG(seed) ----->|                                                        |     3
      |   +- PRG(key i, key j) ...    |                                                        |
      |<- Survivors: who is in the ---|                                                        |
      |   sum, each one's signature over the list of those who shared
      |-- Agreed: signature over ---->|                                                        |     4
      |   both lists                  |                                                        |
      |<- Agreement: > 2n/3 of them --|                                                        |
      |-- Opening: of each device whose shares it keeps, one: of the seed of a survivor,       |
      |   or of the mask key of one that dropped out ->|                                       |

x is a vector of integers modulo 2^(8 * width). Masks of a pair cancel; the leader takes off the seeds' masks of the survivors,
and the pair masks that survivors share with those who dropped out. What is left is the sum over the survivors, exactly.

Leaks: the leader learns the sum over the survivors, who took part with which weight, who keeps whose shares, who dropped out
when. A device learns the roster and the lists, and nothing of any x.
Adversary: a leader that does whatever it likes, together with at most CORRUPT_SHARE of the devices on the roster, all enrolled
by the authority. It can stop a round, spoil its sum and choose who drops out. It opens no sum but over more than half of the
honest devices, hence one a round at most, but for a chance of 2^-SECURITY_BITS (crypto/neighbours.py). A device must take part
in a round once only, and put that on record before its keys leave.

Why nobody hands a graph to a device:
 - Who keeps a device's shares decides what can be opened. A graph that the leader draws can be regular and still put its own
   devices around one; one drawn from nonces of all can be drawn again by leaving out those whose nonce displeases, in
   2^drop-outs ways. Here each device draws its k keepers itself, once, after it has committed to one roster: the session,
   SHA-256 of terms and roster, is bound into every seal, mask and signature that follows.
 - Every survivor has signed the list of sharers that it masked for, and more than two thirds of the roster, at least t of a
   device's own keepers among them, have signed the list of survivors before that device opens anything. Two such lists share
   more than a third of the roster, hence an honest device, and that one signs once.
 - A device opens once, and of each other device one share; of which sort the list of survivors says. There is no list of the
   dead that could overlap. Its secrets are gone after that, and with the first request that no honest leader makes.
 - n, k and t stand in the terms, to which the signed task binds; terms that fall short of the bound do not exist.

A device's secrets live in memory for one round: a device that is restarted has dropped out. So does the leader's side.
Source: Bell, Bonawitz, Gascon, Lepoint, Raykova (CCS 2020), section 4; the consistency round of Bonawitz et al. (CCS 2017),
section 6, over both lists. Unlike there, a recovered secret is checked, so that a false share among many does no harm.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import Annotated, ClassVar, Final, NoReturn, SupportsIndex

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from isthmus.base.errors import PeerError, PolicyError
from isthmus.crypto.masks import SEED_BYTES, mask
from isthmus.crypto.neighbours import degree, isolation_bits
from isthmus.crypto.seal import SIGNATURE_BYTES, TAG_BYTES, PartyKey, verify
from isthmus.crypto.sharing import SHARE_BYTES, recover, split
from isthmus.crypto.words import Ring, Words
from isthmus.protocols.secure_sum import LENGTH_MAX, REPORTS_FLOOR, Ticket, check_ticket
from isthmus.wire.message import MESSAGE_MAX_BYTES, Array, Blob, Message, Number, Raw, bad

DEVICES_MAX: Final = 4096
CORRUPT_SHARE: Final = 0.2
SECURITY_BITS: Final = 40
SEALED_BYTES: Final = 2 * SHARE_BYTES + TAG_BYTES
_VECTOR_MAX_BYTES: Final = MESSAGE_MAX_BYTES - 4096

_TERMS_LABEL = b"isthmus/secagg-plus/terms/v1\0"
_KEYS_LABEL = b"isthmus/secagg-plus/keys/v1\0"
_SESSION_LABEL = b"isthmus/secagg-plus/session/v1\0"
_SHARE_LABEL = b"isthmus/secagg-plus/share/v1\0"
_SEED_LABEL = b"isthmus/secagg-plus/seed/v1\0"
_PAIR_LABEL = b"isthmus/secagg-plus/pair-mask/v1\0"
_SELF_LABEL = b"isthmus/secagg-plus/self-mask/v1\0"
_MASKED_LABEL = b"isthmus/secagg-plus/masked/v1\0"
_AGREED_LABEL = b"isthmus/secagg-plus/agreed/v1\0"

_TERMS = struct.Struct("<32s32sI32sIBHHHII32s32s")
TERMS_BYTES: Final = _TERMS.size


@dataclass(frozen=True)
class Terms:
    """What everyone agrees on before any key is made. PeerError `bad_message` for terms that cannot be, or that are not safe."""

    population: bytes  # 32 bytes: which devices the tickets are for
    task: bytes  # SHA-256 of the signed manifest
    round: int
    model: bytes  # SHA-256 of the model that was shown
    length: int  # words
    width_bytes: int
    devices: int  # on the roster: n
    degree: int  # keepers of each device: k
    threshold: int  # shares that open a secret: t
    reports_min: int  # survivors
    weight_max: int
    leader: bytes  # Ed25519
    authority: bytes  # Ed25519, of whoever enrols devices

    def __post_init__(self) -> None:
        if any(len(w) != 32 for w in (self.population, self.task, self.model, self.leader, self.authority)):
            raise bad("digests and keys have 32 bytes")
        if not REPORTS_FLOOR <= self.reports_min <= self.devices <= DEVICES_MAX:
            raise bad(
                f"a sum is over at least {REPORTS_FLOOR} devices, and a roster has at most {DEVICES_MAX}"
            )
        if not 1 <= self.weight_max < 2**32 or not 0 <= self.round < 2**32:
            raise bad("a round or a weight is out of bounds")
        if not 1 <= self.length * Ring(self.width_bytes).width_bytes <= _VECTOR_MAX_BYTES:
            raise bad("vectors are longer than a message may be")
        if not 1 <= self.length <= LENGTH_MAX:
            raise bad("a length is out of bounds")
        if not 2 * self.degree < 3 * self.threshold <= 3 * self.degree < 3 * self.devices:
            raise bad("keepers are other devices, and more than two thirds of them open a secret")
        corrupt = int(self.devices * CORRUPT_SHARE + 1e-9)
        if isolation_bits(self.devices, corrupt, self.degree, self.threshold) < SECURITY_BITS:
            raise bad("so few keepers do not hold against a fifth of all devices")

    def encode(self) -> bytes:
        """TERMS_BYTES bytes."""
        return _TERMS.pack(
            *(self.population, self.task, self.round, self.model, self.length, self.width_bytes),
            *(self.devices, self.degree, self.threshold, self.reports_min, self.weight_max),
            *(self.leader, self.authority),
        )

    @classmethod
    def decode(cls, body: bytes) -> Terms:
        if len(body) != TERMS_BYTES:
            raise bad("terms have another length")
        return cls(*_TERMS.unpack(body))

    @cached_property
    def digest(self) -> bytes:
        return _sha(_TERMS_LABEL + self.encode())

    @property
    def ring(self) -> Ring:
        return Ring(self.width_bytes)

    @property
    def quorum(self) -> int:
        """The fewest devices that go on from one message to the next: more than two thirds, and no fewer than the floor."""
        return max(2 * self.devices // 3 + 1, self.reports_min)


def keepers_for(devices: int, drop_share: float) -> tuple[int, int]:
    """Degree and threshold for terms over that many devices, of which so large a share may drop out. Raises ConfigError."""
    return degree(devices, CORRUPT_SHARE, drop_share, SECURITY_BITS)


# Messages


@dataclass(frozen=True)
class Keys(Message):
    """A device's two keys for one round, signed with the key that it was enrolled with."""

    KIND: ClassVar[int] = 0x0C01
    terms: Annotated[bytes, Raw(32)]
    device: Annotated[bytes, Raw(32)]
    mask_key: Annotated[bytes, Raw(32)]
    share_key: Annotated[bytes, Raw(32)]
    expires_ms: Annotated[int, Number("Q")]
    ticket: Annotated[bytes, Raw(SIGNATURE_BYTES)]
    signature: Annotated[bytes, Raw(SIGNATURE_BYTES)]


_ROW = struct.Struct("<32s32s32sQ64s64s")


@dataclass(frozen=True)
class Roster(Message):
    """The Keys of all devices, in the order of the keys that they were enrolled with; places are numbers from here on."""

    KIND: ClassVar[int] = 0x0C02
    terms: Annotated[bytes, Raw(32)]
    rows: Annotated[NDArray[np.uint8], Array("u1", None, _ROW.size)]

    def members(self) -> list[Keys]:
        return [Keys(self.terms, *row) for row in _ROW.iter_unpack(self.rows.tobytes())]

    @property
    def session(self) -> bytes:
        """What everything after is bound to."""
        return _sha(_SESSION_LABEL + self.terms + self.rows.tobytes())


@dataclass(frozen=True)
class Shares(Message):
    """Both secrets, shared out: `(k,)` numbers of the keepers, ascending, and what is sealed to each; `check` is of the seed."""

    KIND: ClassVar[int] = 0x0C03
    session: Annotated[bytes, Raw(32)]
    keepers: Annotated[NDArray[np.uint16], Array("u2", None)]
    sealed: Annotated[NDArray[np.uint8], Array("u1", None, SEALED_BYTES)]
    check: Annotated[bytes, Raw(32)]


@dataclass(frozen=True)
class Dealt(Message):
    """Who has shared, and what those sealed for this device who drew it as a keeper."""

    KIND: ClassVar[int] = 0x0C04
    session: Annotated[bytes, Raw(32)]
    sharers: Annotated[NDArray[np.uint16], Array("u2", None)]
    senders: Annotated[NDArray[np.uint16], Array("u2", None)]
    sealed: Annotated[NDArray[np.uint8], Array("u1", None, SEALED_BYTES)]


@dataclass(frozen=True)
class Masked(Message):
    """The masked vector; `signature` is over the list of sharers that it was masked for."""

    KIND: ClassVar[int] = 0x0C05
    session: Annotated[bytes, Raw(32)]
    weight: Annotated[int, Number("I")]
    signature: Annotated[bytes, Raw(SIGNATURE_BYTES)]
    masked: Annotated[bytes, Blob(_VECTOR_MAX_BYTES)]


@dataclass(frozen=True)
class Survivors(Message):
    """Whose vectors are in the sum, and the signature of each over the list of sharers."""

    KIND: ClassVar[int] = 0x0C06
    session: Annotated[bytes, Raw(32)]
    alive: Annotated[NDArray[np.uint16], Array("u2", None)]
    signatures: Annotated[NDArray[np.uint8], Array("u1", None, SIGNATURE_BYTES)]


@dataclass(frozen=True)
class Agreed(Message):
    """A survivor's signature over the lists of sharers and of survivors."""

    KIND: ClassVar[int] = 0x0C07
    session: Annotated[bytes, Raw(32)]
    signature: Annotated[bytes, Raw(SIGNATURE_BYTES)]


@dataclass(frozen=True)
class Agreement(Message):
    """The signatures of those who agreed."""

    KIND: ClassVar[int] = 0x0C08
    session: Annotated[bytes, Raw(32)]
    signers: Annotated[NDArray[np.uint16], Array("u2", None)]
    signatures: Annotated[NDArray[np.uint8], Array("u1", None, SIGNATURE_BYTES)]


@dataclass(frozen=True)
class Opening(Message):
    """One share of each device that this one keeps shares of: of its seed if it survived, else of its mask key."""

    KIND: ClassVar[int] = 0x0C09
    session: Annotated[bytes, Raw(32)]
    owners: Annotated[NDArray[np.uint16], Array("u2", None)]
    shares: Annotated[NDArray[np.uint8], Array("u1", None, SHARE_BYTES)]


def _sha(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _numbers(numbers: Sequence[int]) -> NDArray[np.uint16]:
    return np.array(numbers, dtype=np.uint16)


def _rows(bodies: Sequence[bytes], width: int) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(bodies), dtype=np.uint8).reshape(-1, width)


def _bodies(rows: NDArray[np.uint8]) -> list[bytes]:
    return [row.tobytes() for row in rows]


def _list(numbers: Sequence[int]) -> bytes:
    """A list of devices, as it is signed."""
    return _sha(struct.pack(f"<I{len(numbers)}H", len(numbers), *numbers))


def _row(keys: Keys) -> bytes:
    return _ROW.pack(
        *(keys.device, keys.mask_key, keys.share_key, keys.expires_ms, keys.ticket, keys.signature)
    )


def _keys_words(terms: bytes, mask_key: bytes, share_key: bytes) -> bytes:
    return _KEYS_LABEL + terms + mask_key + share_key


def _masked_words(session: bytes, sharers: Sequence[int]) -> bytes:
    return _MASKED_LABEL + session + _list(sharers)


def _agreed_words(session: bytes, sharers: Sequence[int], alive: Sequence[int]) -> bytes:
    return _AGREED_LABEL + session + _list(sharers) + _list(alive)


def _seed_check(session: bytes, device: bytes, seed: bytes) -> bytes:
    return _sha(_SEED_LABEL + session + device + seed)


def _common(own: X25519PrivateKey, other: bytes) -> bytes:
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise PeerError("bad_key", why="a key of the roster has a low order") from None


def _share_cipher(common: bytes, session: bytes, sender: bytes, receiver: bytes) -> ChaCha20Poly1305:
    """Both X25519 keys live for one round and a pair shares once in each direction, so each of these seals once."""
    info = _SHARE_LABEL + session + sender + receiver
    return ChaCha20Poly1305(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(common))


def _pair_mask(terms: Terms, session: bytes, common: bytes, one: bytes, other: bytes) -> Words:
    """The mask of two devices: the one whose key is the lesser adds it, the other takes it away."""
    return mask(terms.ring, terms.length, common, _PAIR_LABEL + session + min(one, other) + max(one, other))


def _self_mask(terms: Terms, session: bytes, device: bytes, seed: bytes) -> Words:
    return mask(terms.ring, terms.length, seed, _SELF_LABEL + session + device)


def _apply(ring: Ring, words: Words, pair_mask: Words, own: int, other: int) -> None:
    """Put the mask of a pair on the words of the device with the number `own`."""
    (ring.add if own < other else ring.subtract)(words, pair_mask)


def _refused(why: str) -> PeerError:
    return PeerError("bad_cohort", why=why)


def _subset(numbers: NDArray[np.uint16], whole: Sequence[int], what: str) -> list[int]:
    """The numbers, ascending, distinct and all of the whole; PeerError otherwise."""
    found = [int(number) for number in numbers]
    if any(a >= b for a, b in pairwise(found)) or not set(found) <= set(whole):
        raise _refused(f"{what} names a device twice, or one that cannot be in it")
    return found


def check_keys(terms: Terms, keys: Keys, now_ms: int) -> None:
    """A device's keys, under these terms and its ticket. Raises PeerError."""
    if keys.terms != terms.digest:
        raise _refused("keys are for other terms")
    check_ticket(terms.authority, terms.population, keys.device, Ticket(keys.expires_ms, keys.ticket), now_ms)
    words = _keys_words(terms.digest, keys.mask_key, keys.share_key)
    verify(keys.device, keys.signature, words, "the device")


# The device


class Phase(IntEnum):
    """What a device has done last; after BURNED it does nothing more."""

    BEGUN = 0
    KEYED = 1
    SHARED = 2
    MASKED = 3
    AGREED = 4
    BURNED = 5


class Device:
    """One device in one round. Each step is taken once and in order; any other call, and any PeerError, burns its secrets."""

    def __init__(self, terms: Terms, key: PartyKey, ticket: Ticket) -> None:
        self.terms = terms
        self.phase = Phase.BEGUN
        self._key, self._ticket = key, ticket
        self._secrets: tuple[X25519PrivateKey, X25519PrivateKey, bytes] | None = (
            *(X25519PrivateKey.generate(), X25519PrivateKey.generate()),
            os.urandom(SEED_BYTES),
        )
        self._kept: dict[int, bytes] = {}
        """Sealed shares of the devices that drew this one."""

    def keys(self) -> Keys:
        """1: fresh keys for this round."""
        with self._step(Phase.BEGUN) as (mask_key, share_key, _):
            mask_public, share_public = (key.public_key().public_bytes_raw() for key in (mask_key, share_key))
            self._said = Keys(
                terms=self.terms.digest,
                device=self._key.public,
                mask_key=mask_public,
                share_key=share_public,
                expires_ms=self._ticket.expires_ms,
                ticket=self._ticket.signature,
                signature=self._key.sign(_keys_words(self.terms.digest, mask_public, share_public)),
            )
            return self._said

    def share(self, roster: Roster, now_ms: int) -> Shares:
        """2: both secrets to k keepers that this device draws, once the roster holds."""
        with self._step(Phase.KEYED) as (mask_key, share_key, seed):
            self._members = self._seated(roster, now_ms)
            self._session = roster.session
            self._own = [member.device for member in self._members].index(self._key.public)
            self._keepers = self._draw([n for n in range(len(self._members)) if n != self._own])
            shares = (self._split(secret) for secret in (mask_key.private_bytes_raw(), seed))
            sealed = [
                self._cipher(share_key, n, to=True).encrypt(bytes(12), of_key + of_seed, None)
                for n, of_key, of_seed in zip(self._keepers, *shares, strict=True)
            ]
            check = _seed_check(self._session, self._key.public, seed)
            return Shares(self._session, _numbers(self._keepers), _rows(sealed, SEALED_BYTES), check)

    def mask(self, dealt: Dealt, values: NDArray[np.int64], weight: int) -> Masked:
        """3: `values`, `(length,)` and already times `weight`, under the masks of all pairs that this device is in.

        Raises ValueError, and burns nothing, for what the device itself should not have handed over.
        """
        terms = self.terms
        if values.shape != (terms.length,) or values.dtype != np.int64 or not 1 <= weight <= terms.weight_max:
            raise ValueError("values or weight do not fit the terms")
        with self._step(Phase.SHARED) as (mask_key, _, seed):
            self._belongs(dealt.session)
            everybody = range(len(self._members))
            self._sharers = self._fit(_subset(dealt.sharers, everybody, "the list of sharers"))
            senders = _subset(dealt.senders, self._sharers, "the list of senders")
            if self._own in senders or len(senders) != len(dealt.sealed):
                raise _refused("shares are not one from each of the others")
            self._kept = dict(zip(senders, _bodies(dealt.sealed), strict=True))
            words = terms.ring.lift(values)
            terms.ring.add(words, _self_mask(terms, self._session, self._key.public, seed))
            for n in sorted({*senders, *set(self._keepers) & set(self._sharers)}):
                other = self._members[n]
                common = _common(mask_key, other.mask_key)
                pair = _pair_mask(terms, self._session, common, self._key.public, other.device)
                _apply(terms.ring, words, pair, self._own, n)
            signature = self._key.sign(_masked_words(self._session, self._sharers))
            return Masked(self._session, weight, signature, terms.ring.pack(words))

    def agree(self, survivors: Survivors) -> Agreed:
        """4: this device has seen that all survivors masked for the same sharers, and signs who they are."""
        with self._step(Phase.MASKED):
            self._belongs(survivors.session)
            self._alive = self._fit(_subset(survivors.alive, self._sharers, "the list of survivors"))
            words = _masked_words(self._session, self._sharers)
            self._signed(self._alive, survivors.signatures, words)
            words = _agreed_words(self._session, self._sharers, self._alive)
            return Agreed(self._session, self._key.sign(words))

    def open(self, agreement: Agreement) -> Opening:
        """4: one share of each device that drew this one, once enough have signed the same lists; then all is burned."""
        with self._step(Phase.AGREED) as (_, share_key, _):
            self._belongs(agreement.session)
            signers = self._enough(_subset(agreement.signers, self._alive, "the list of signers"))
            words = _agreed_words(self._session, self._sharers, self._alive)
            self._signed(signers, agreement.signatures, words)
            owners, shares = [], []
            for n, sealed in self._kept.items():
                try:
                    body = self._cipher(share_key, n, to=False).decrypt(bytes(12), sealed, None)
                except InvalidTag:
                    continue  # somebody spoiled it; there are others who keep shares of that device
                owners.append(n)
                shares.append(body[SHARE_BYTES:] if n in self._alive else body[:SHARE_BYTES])
            return Opening(self._session, _numbers(owners), _rows(shares, SHARE_BYTES))

    def _draw(self, others: list[int]) -> list[int]:
        return sorted(secrets.SystemRandom().sample(others, self.terms.degree))

    def _split(self, secret: bytes) -> list[bytes]:
        return split(secret, self.terms.threshold, [n + 1 for n in self._keepers])

    @contextmanager
    def _step(self, due: Phase) -> Iterator[tuple[X25519PrivateKey, X25519PrivateKey, bytes]]:
        """Mask key, share key and seed for one step; they are gone unless it goes through, and after the last one."""
        phase, self.phase = self.phase, Phase.BURNED
        held, self._secrets = self._secrets, None
        try:
            if phase is not due or held is None:
                raise _refused("a step was left out, or is asked for again")
            yield held
            self.phase = Phase(due + 1)
        finally:
            if self.phase is Phase.BURNED:
                self._kept = {}
            else:
                self._secrets = held

    def _seated(self, roster: Roster, now_ms: int) -> list[Keys]:
        """The members of the roster, once this device is among them as it said and each is enrolled and another one."""
        members = roster.members()
        if roster.terms != self.terms.digest or len(members) != self.terms.devices:
            raise _refused("the roster is for other terms, or has another size")
        if self._said not in members:
            raise _refused("the own keys are not on the roster")
        devices = [member.device for member in members]
        keys = {key for member in members for key in (member.mask_key, member.share_key)}
        if any(a >= b for a, b in pairwise(devices)) or len(keys) != 2 * len(members):
            raise _refused("the roster has twins, or is out of order")
        self._enrolled(members, now_ms)
        return members

    def _enrolled(self, members: list[Keys], now_ms: int) -> None:
        for member in members:
            check_keys(self.terms, member, now_ms)

    def _belongs(self, session: bytes) -> None:
        if session != self._session:
            raise _refused("a message is for another round or roster")

    def _fit(self, numbers: list[int]) -> list[int]:
        """A list of devices that this one goes on with."""
        if self._own not in numbers:
            raise _refused("this device is not in the list")
        return self._enough(numbers)

    def _enough(self, numbers: list[int]) -> list[int]:
        if len(numbers) < self.terms.quorum:
            raise _refused("the list is too short")
        if len(set(self._keepers) & set(numbers)) < self.terms.threshold:
            raise _refused("too few keepers of this device are in the list")
        return numbers

    def _signed(self, numbers: list[int], signatures: NDArray[np.uint8], words: bytes) -> None:
        if len(signatures) != len(numbers):
            raise _refused("signatures are not one of each")
        for n, signature in zip(numbers, _bodies(signatures), strict=True):
            verify(self._members[n].device, signature, words, "a device")

    def _cipher(self, share_key: X25519PrivateKey, other: int, *, to: bool) -> ChaCha20Poly1305:
        member = self._members[other]
        ends = (self._key.public, member.device) if to else (member.device, self._key.public)
        return _share_cipher(_common(share_key, member.share_key), self._session, *ends)

    def __repr__(self) -> str:
        return f"Device({self.phase.name})"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("the secrets of a round are neither copied nor serialised")


# The leader


class Stage(IntEnum):
    """What the leader is collecting."""

    KEYS = 0
    SHARES = 1
    MASKED = 2
    AGREED = 3
    OPENINGS = 4
    OPENED = 5


@dataclass
class _Seat:
    """What one device has said so far."""

    keys: Keys
    keepers: list[int] = field(default_factory=list)
    sealed: list[bytes] = field(default_factory=list)
    check: bytes = b""
    signature: bytes = b""
    agreed: bytes = b""
    shares: dict[int, bytes] = field(default_factory=dict, repr=False)
    """Of this device's secret, by the point of who kept it."""


class Cohort:
    """The leader's side of one round: it collects until somebody closes a stage, and says what the devices get next.

    Who sent a message is known from the request that it came in. The same bytes may come again, to no effect. Raises PeerError
    for a message that does not count, and the round goes on without it; PolicyError `cohort_too_small` ends the round.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.stage = Stage.KEYS
        self.weight = 0
        self._joined: dict[bytes, Keys] = {}
        self._seats: list[_Seat] = []
        self._number: dict[bytes, int] = {}
        self._heard: dict[tuple[Stage, int], bytes] = {}
        self._total = terms.ring.zeros(terms.length)

    @property
    def complete(self) -> bool:
        """Whether the roster is full."""
        return len(self._joined) == self.terms.devices

    def add_keys(self, keys: Keys, now_ms: int) -> None:
        """1."""
        before = self._joined.get(keys.device)
        if before == keys:
            return
        if self.stage is not Stage.KEYS or self.complete or before is not None:
            raise _refused("the roster is closed, or has other keys of this device")
        check_keys(self.terms, keys, now_ms)
        probe = X25519PrivateKey.generate()
        taken = {key for other in self._joined.values() for key in (other.mask_key, other.share_key)}
        for key in (keys.mask_key, keys.share_key):
            _common(probe, key)
        if taken & {keys.mask_key, keys.share_key} or keys.mask_key == keys.share_key:
            raise _refused("a key is on the roster already")
        self._joined[keys.device] = keys

    def roster(self) -> Roster:
        """Closes 1."""
        self._close(Stage.KEYS, len(self._joined), self.terms.devices)
        self._seats = [_Seat(self._joined[device]) for device in sorted(self._joined)]
        self._number = {seat.keys.device: n for n, seat in enumerate(self._seats)}
        roster = Roster(self.terms.digest, _rows([_row(seat.keys) for seat in self._seats], _ROW.size))
        self._session = roster.session
        return roster

    def add_shares(self, device: bytes, shares: Shares) -> None:
        """2."""
        n = self._turn(Stage.SHARES, device, shares, shares.session)
        if n is None:
            return
        others = [other for other in range(self.terms.devices) if other != n]
        keepers = _subset(shares.keepers, others, "the list of keepers")
        if not len(keepers) == len(shares.sealed) == self.terms.degree:
            raise _refused("a device has another number of keepers than agreed")
        seat = self._seats[n]
        seat.keepers, seat.sealed, seat.check = keepers, _bodies(shares.sealed), shares.check
        self._note(Stage.SHARES, n, shares)

    def deal(self) -> dict[bytes, Dealt]:
        """Closes 2: what each sharer gets."""
        self._sharers = self._who(Stage.SHARES)
        self._close(Stage.SHARES, len(self._sharers), self.terms.quorum)
        incoming: dict[int, dict[int, bytes]] = {n: {} for n in self._sharers}
        for n in self._sharers:
            seat = self._seats[n]
            for keeper, sealed in zip(seat.keepers, seat.sealed, strict=True):
                if keeper in incoming:
                    incoming[keeper][n] = sealed
            seat.sealed = []
        sharers = _numbers(self._sharers)
        return {
            self._seats[n].keys.device: Dealt(
                *(self._session, sharers, _numbers(list(got))),
                _rows(list(got.values()), SEALED_BYTES),
            )
            for n, got in incoming.items()
        }

    def add_masked(self, device: bytes, masked: Masked) -> None:
        """3: into the running sum; the vector itself is not kept."""
        n = self._turn(Stage.MASKED, device, masked, masked.session)
        if n is None:
            return
        if n not in self._sharers or not 1 <= masked.weight <= self.terms.weight_max:
            raise _refused("a vector is of no sharer, or has a weight out of bounds")
        if len(masked.masked) != self.terms.length * self.terms.width_bytes:
            raise bad("a vector has another length than agreed")
        verify(device, masked.signature, _masked_words(self._session, self._sharers), "the device")
        self.terms.ring.add(self._total, self.terms.ring.unpack(masked.masked))
        self.weight += masked.weight
        self._seats[n].signature = masked.signature
        self._note(Stage.MASKED, n, masked)

    def survivors(self) -> Survivors:
        """Closes 3."""
        self._alive = self._who(Stage.MASKED)
        self._close(Stage.MASKED, len(self._alive), self.terms.quorum)
        signatures = [self._seats[n].signature for n in self._alive]
        return Survivors(self._session, _numbers(self._alive), _rows(signatures, SIGNATURE_BYTES))

    def add_agreed(self, device: bytes, agreed: Agreed) -> None:
        """4, first half."""
        n = self._turn(Stage.AGREED, device, agreed, agreed.session)
        if n is None:
            return
        if n not in self._alive:
            raise _refused("a signature is of no survivor")
        words = _agreed_words(self._session, self._sharers, self._alive)
        verify(device, agreed.signature, words, "the device")
        self._seats[n].agreed = agreed.signature
        self._note(Stage.AGREED, n, agreed)

    def agreement(self) -> Agreement:
        """Closes the first half of 4."""
        signers = self._who(Stage.AGREED)
        self._close(Stage.AGREED, len(signers), self.terms.quorum)
        signatures = [self._seats[n].agreed for n in signers]
        return Agreement(self._session, _numbers(signers), _rows(signatures, SIGNATURE_BYTES))

    def add_opening(self, device: bytes, opening: Opening) -> None:
        """4, second half."""
        n = self._turn(Stage.OPENINGS, device, opening, opening.session)
        if n is None:
            return
        drew = [owner for owner in self._sharers if n in self._seats[owner].keepers]
        owners = _subset(opening.owners, drew, "the list of owners")
        if n not in self._alive or len(owners) != len(opening.shares):
            raise _refused("shares are of no survivor, or not one of each owner")
        for owner, share in zip(owners, _bodies(opening.shares), strict=True):
            self._seats[owner].shares[n + 1] = share
        self._note(Stage.OPENINGS, n, opening)

    def open(self) -> NDArray[np.int64]:
        """Closes the round: the sum over the survivors, whose weight is `weight`.

        Raises PeerError `answer_inconsistent` where too many shares are false.
        """
        self._close(Stage.OPENINGS, len(self._who(Stage.OPENINGS)), 0)
        terms, ring = self.terms, self.terms.ring
        for n in self._alive:
            device, check = self._seats[n].keys.device, self._seats[n].check
            seed = self._recover(n, lambda s, d=device, c=check: _seed_check(self._session, d, s) == c)  # type: ignore[misc]
            ring.subtract(self._total, _self_mask(terms, self._session, device, seed))
        for n in sorted(set(self._sharers) - set(self._alive)):
            self._take_off_pairs(n)
        return ring.lower(self._total)

    def _take_off_pairs(self, gone: int) -> None:
        """The masks that survivors share with a device that is not in the sum."""
        seat, ring = self._seats[gone], self.terms.ring
        public = seat.keys.mask_key
        secret = self._recover(
            gone,
            lambda s: X25519PrivateKey.from_private_bytes(s).public_key().public_bytes_raw() == public,
        )
        private = X25519PrivateKey.from_private_bytes(secret)
        for n in self._alive:
            other = self._seats[n]
            if n in seat.keepers or gone in other.keepers:
                common = _common(private, other.keys.mask_key)
                pair = _pair_mask(self.terms, self._session, common, seat.keys.device, other.keys.device)
                _apply(ring, self._total, pair, gone, n)  # the other end's sign is the opposite one

    def _recover(self, n: int, holds: Callable[[bytes], bool]) -> bytes:
        shares = self._seats[n].shares
        if len(shares) < self.terms.threshold:
            raise PolicyError("cohort_too_small", count=len(shares), floor=self.terms.threshold)
        secret = recover(shares, self.terms.threshold, holds)
        if secret is None:
            raise PeerError("answer_inconsistent")
        return secret

    def _turn(self, stage: Stage, device: bytes, message: Message, session: bytes) -> int | None:
        """The number of the device, None if the message is here already. Raises PeerError for one that is out of turn."""
        n = self._number.get(device)
        if n is None:
            raise _refused("a device is not on the roster")
        before = self._heard.get((stage, n))
        if before is not None and before == _sha(message.encode()):
            return None
        if self.stage is not stage or before is not None or session != self._session:
            raise _refused("a message came out of turn")
        return n

    def _note(self, stage: Stage, n: int, message: Message) -> None:
        self._heard[stage, n] = _sha(message.encode())

    def _who(self, stage: Stage) -> list[int]:
        return sorted(n for at, n in self._heard if at is stage)

    def _close(self, stage: Stage, count: int, floor: int) -> None:
        if self.stage is not stage:
            raise _refused("a stage was closed out of turn")
        if count < floor:
            raise PolicyError("cohort_too_small", count=count, floor=floor)
        self.stage = Stage(stage + 1)

    def __repr__(self) -> str:
        return f"Cohort({self.stage.name})"
