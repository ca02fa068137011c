"""Sums over many devices without helpers: pairwise masks, shares of secrets among neighbours (mode C, SecAgg+).

    device i                                   leader
      |-- Hello: keys c, s, ticket ------------>|     1
      |<- Roster: all hellos -------------------|     2   neighbours: k on a ring whose order follows from the roster
      |-- Shares of s_i and b_i, sealed ------->|     3   one for each neighbour
      |<- Delivered: the neighbours' -----------|     4
      |-- Masked: x + m(b_i) +- m(s_i, s_j) --->|     5
      |<- Lists: alive, dead -------------------|     6
      |-- Consent: signed lists --------------->|     7
      |<- Consents of its neighbours -----------|     8   at least t of them, over the same lists
      |-- Revealed: b_j of the alive, --------->|     9
      |             s_j of the dead             |         sum of x over the alive

The sum is that of protocols/secure_sum.py, bit for bit; here one organisation is enough, and every device must stay for four
answers. There is no noise of helpers: a task that promises differential privacy takes mode A.

Leaks: the leader learns the sum over the alive, and who took part with which weight. A device learns who its cohort is (keys).
Adversary: a leader that does whatever it likes, together with fewer than 3 t - 2 k of the k neighbours of a device (t in the
signed terms, 3 t > 2 k). A device keeps every peer in one state: it gives away a share of b or of s, never both, and only once t
neighbours have signed the very lists that it was shown. Two lists would need t signatures each out of k, so more than k / 3 of
the neighbours would have signed twice. Keys are signed by enrolled devices, and the order of the ring hashes all of them, so the
leader cannot pick anybody's neighbours; it can try again with other cohorts of enrolled devices. Whatever does not fit ends a
session for good: its secrets are gone, and the device sends nothing more in this round.

Source: Bell, Bonawitz, Gascon, Lepoint, Raykova, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead" (CCS 2020),
section 4; consistency round of Bonawitz et al. (CCS 2017), figure 4.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from isthmus.base.errors import LocalError, PeerError, PolicyError
from isthmus.base.randomness import Rng
from isthmus.crypto.masks import SEED_BYTES, mask
from isthmus.crypto.seal import SIGNATURE_BYTES, TAG_BYTES, PartyKey, verify
from isthmus.crypto.sharing import SHARE_BYTES, combine, split
from isthmus.crypto.words import Ring, Words
from isthmus.protocols.secure_sum import (
    LENGTH_MAX,
    REPORTS_FLOOR,
    VECTOR_MAX_BYTES,
    Ticket,
    check_ticket,
)
from isthmus.wire.message import Array, Blob, Message, Number, Raw, bad

COHORT_MAX: Final = 10_000
SEALED_BYTES: Final = 2 * SHARE_BYTES + TAG_BYTES
_TRIES: Final = 256
"""Sets of shares that the leader tries before it gives a secret up: some may come from devices that lie."""

_TERMS_LABEL = b"isthmus/secagg-plus/terms/v1\0"
_HELLO_LABEL = b"isthmus/secagg-plus/hello/v1\0"
_ROSTER_LABEL = b"isthmus/secagg-plus/roster/v1\0"
_SHARES_LABEL = b"isthmus/secagg-plus/shares/v1\0"
_SELF_LABEL = b"isthmus/secagg-plus/self/v1\0"
_PAIR_LABEL = b"isthmus/secagg-plus/pair/v1\0"
_MASKED_LABEL = b"isthmus/secagg-plus/masked/v1\0"
_LISTS_LABEL = b"isthmus/secagg-plus/lists/v1\0"
_COMMIT_LABEL = b"isthmus/secagg-plus/commit/v1\0"

_TERMS = struct.Struct("<32s32sI32sIBIIHH32s32s")
_HELLO = struct.Struct("<32sQ64s32s32s64s")
_Indexes = NDArray[np.uint32]


@dataclass(frozen=True)
class PlusTerms:
    """What everyone agrees on, as in the signed manifest. PeerError `bad_message` for terms that cannot be."""

    population: bytes
    task: bytes
    round: int
    model: bytes
    length: int
    width_bytes: int
    reports_min: int
    weight_max: int
    degree: int  # neighbours of each device, an even number; in a smaller cohort everybody is everybody's
    threshold: int  # of neighbours that must consent, and whose shares give a secret back
    leader: bytes
    authority: bytes

    def __post_init__(self) -> None:
        words = (self.population, self.task, self.model, self.leader, self.authority)
        if any(len(word) != 32 for word in words):
            raise bad("digests and keys have 32 bytes")
        if not 4 <= self.degree <= 1000 or self.degree % 2:
            raise bad("a device has an even number of neighbours from 4 to 1000")
        if not 2 * self.degree < 3 * self.threshold <= 3 * self.degree:
            raise bad("the threshold is more than two thirds of the neighbours and at most all of them")
        if not REPORTS_FLOOR <= self.reports_min <= COHORT_MAX or not 1 <= self.weight_max < 2**32:
            raise bad(f"a sum is over at least {REPORTS_FLOOR} reports, and weights are at least 1")
        if not 0 <= self.round < 2**32 or not 1 <= self.length <= LENGTH_MAX:
            raise bad("a round or a length is out of bounds")
        if self.length * Ring(self.width_bytes).width_bytes > VECTOR_MAX_BYTES:
            raise bad("vectors are longer than a message may be")

    @cached_property
    def digest(self) -> bytes:
        fields = [getattr(self, name) for name in self.__dataclass_fields__]
        return hashlib.sha256(_TERMS_LABEL + _TERMS.pack(*fields)).digest()

    @property
    def ring(self) -> Ring:
        return Ring(self.width_bytes)


# Messages; devices are numbered by their place in the roster


@dataclass(frozen=True)
class Hello(Message):
    """A device, its key for shares (c), its key for pairwise masks (s)."""

    KIND: ClassVar[int] = 0x0C01
    device: Annotated[bytes, Raw(32)]
    expires_ms: Annotated[int, Number("Q")]
    ticket: Annotated[bytes, Raw(SIGNATURE_BYTES)]
    sealing: Annotated[bytes, Raw(32)]
    masking: Annotated[bytes, Raw(32)]
    signature: Annotated[bytes, Raw(SIGNATURE_BYTES)]

    def row(self) -> bytes:
        return self.encode()[2:]


@dataclass(frozen=True)
class Roster(Message):
    KIND: ClassVar[int] = 0x0C02
    hellos: Annotated[NDArray[np.uint8], Array("u1", None, _HELLO.size)]
    signature: Annotated[bytes, Raw(SIGNATURE_BYTES)]

    def rows(self) -> list[Hello]:
        return [Hello(*row) for row in _HELLO.iter_unpack(self.hellos.tobytes())]


@dataclass(frozen=True)
class Shares(Message):
    """`sealed` has a row for each neighbour, in the order of their numbers; `commitment` is to b."""

    KIND: ClassVar[int] = 0x0C03
    commitment: Annotated[bytes, Raw(32)]
    sealed: Annotated[NDArray[np.uint8], Array("u1", None, SEALED_BYTES)]


@dataclass(frozen=True)
class Delivered(Message):
    KIND: ClassVar[int] = 0x0C04
    senders: Annotated[_Indexes, Array("u4", None)]
    sealed: Annotated[NDArray[np.uint8], Array("u1", None, SEALED_BYTES)]


@dataclass(frozen=True)
class Masked(Message):
    KIND: ClassVar[int] = 0x0C05
    weight: Annotated[int, Number("I")]
    masked: Annotated[bytes, Blob(VECTOR_MAX_BYTES)]
    signature: Annotated[bytes, Raw(SIGNATURE_BYTES)]


@dataclass(frozen=True)
class Lists(Message):
    """Of those that sent shares: whose masked vector is in, and whose is not. Both ascend."""

    KIND: ClassVar[int] = 0x0C06
    alive: Annotated[_Indexes, Array("u4", None)]
    dead: Annotated[_Indexes, Array("u4", None)]


@dataclass(frozen=True)
class Consent(Message):
    KIND: ClassVar[int] = 0x0C07
    signature: Annotated[bytes, Raw(SIGNATURE_BYTES)]


@dataclass(frozen=True)
class Consents(Message):
    KIND: ClassVar[int] = 0x0C08
    senders: Annotated[_Indexes, Array("u4", None)]
    signatures: Annotated[NDArray[np.uint8], Array("u1", None, SIGNATURE_BYTES)]


@dataclass(frozen=True)
class Revealed(Message):
    """Shares of b of neighbours that are alive, and of s of those that are dead."""

    KIND: ClassVar[int] = 0x0C09
    alive: Annotated[_Indexes, Array("u4", None)]
    of_alive: Annotated[NDArray[np.uint8], Array("u1", None, SHARE_BYTES)]
    dead: Annotated[_Indexes, Array("u4", None)]
    of_dead: Annotated[NDArray[np.uint8], Array("u1", None, SHARE_BYTES)]


def _hello_words(terms: PlusTerms, sealing: bytes, masking: bytes) -> bytes:
    return _HELLO_LABEL + terms.digest + sealing + masking


def _lists_words(group: _Group, lists: Lists) -> bytes:
    return _LISTS_LABEL + group.digest + hashlib.sha256(lists.encode()).digest()


def _masked_words(group: _Group, weight: int, masked: bytes) -> bytes:
    digest = hashlib.sha256(masked).digest()
    return _MASKED_LABEL + group.digest + struct.pack("<I", weight) + digest


class _Group:
    """A roster that was checked: who is whose neighbour. `digest` binds terms and roster into everything after."""

    def __init__(self, terms: PlusTerms, roster: Roster, now_ms: int) -> None:
        """Raises PeerError or PolicyError `cohort_too_small`."""
        self.terms = terms
        self.hellos = hellos = roster.rows()
        count = len(hellos)
        if count < terms.reports_min:
            raise PolicyError("cohort_too_small", count=count, floor=terms.reports_min)
        self.degree = min(terms.degree, count - 1)
        if count > COHORT_MAX or self.degree < terms.threshold:
            raise bad("the cohort does not fit the terms")
        words = _ROSTER_LABEL + terms.digest + hashlib.sha256(roster.hellos.tobytes()).digest()
        verify(terms.leader, roster.signature, words, "the leader")
        keys = [key for hello in hellos for key in (hello.device, hello.sealing, hello.masking)]
        if len(set(keys)) != len(keys):
            raise PeerError("bad_key", why="two devices of the cohort share one")
        probe = X25519PrivateKey.generate()
        for hello in hellos:
            exchange(probe, hello.sealing)
            exchange(probe, hello.masking)
            given = Ticket(hello.expires_ms, hello.ticket)
            check_ticket(terms.authority, terms.population, hello.device, given, now_ms)
            verify(
                hello.device, hello.signature, _hello_words(terms, hello.sealing, hello.masking), "a device"
            )
        self.digest = hashlib.sha256(words).digest()
        self._order = Rng(self.digest).permutation("ring", count)
        self._place = np.argsort(self._order)

    def neighbours(self, device: int) -> list[int]:
        """Ascending. Those within half the degree on the ring, both ways."""
        count = len(self.hellos)
        if self.degree == count - 1:
            return [other for other in range(count) if other != device]
        place, half = int(self._place[device]), self.degree // 2
        steps = (*range(-half, 0), *range(1, half + 1))
        return sorted(int(self._order[(place + step) % count]) for step in steps)

    def self_mask(self, seed: bytes) -> Words:
        return mask(self.terms.ring, self.terms.length, seed, _SELF_LABEL + self.digest)

    def pair_mask(self, own: X25519PrivateKey, one: int, other: int) -> Words:
        """The mask between `one`, whose key is given, and `other`; both get the same."""
        low, high = sorted((one, other))
        info = _PAIR_LABEL + self.digest + struct.pack("<II", low, high)
        common = exchange(own, self.hellos[other].masking)
        return mask(self.terms.ring, self.terms.length, HKDF(SHA256(), 32, None, info).derive(common), info)

    def share_cipher(self, own: X25519PrivateKey, peer: int, sender: int, receiver: int) -> ChaCha20Poly1305:
        """For the one message of shares from `sender` to `receiver`."""
        info = _SHARES_LABEL + self.digest + struct.pack("<II", sender, receiver)
        return ChaCha20Poly1305(
            HKDF(SHA256(), 32, None, info).derive(exchange(own, self.hellos[peer].sealing))
        )


def exchange(own: X25519PrivateKey, public: bytes) -> bytes:
    """Raises PeerError `bad_key` for a key of low order."""
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise PeerError("bad_key", why="it has a low order") from None


# The device


class PlusDevice:
    """One device in one round. Its methods are called once and in this order; whatever is refused ends it for good."""

    def __init__(self, terms: PlusTerms, device: PartyKey, ticket: Ticket) -> None:
        self._terms = terms
        self._device = device
        self._ticket = ticket
        self._next = "hello"
        self._sealing: X25519PrivateKey | None = X25519PrivateKey.generate()
        self._masking: X25519PrivateKey | None = X25519PrivateKey.generate()
        self._self_seed = os.urandom(SEED_BYTES)
        self._held: dict[int, tuple[bytes, bytes]] = {}
        self._peers: list[int] = []
        self._lists: Lists | None = None

    def __repr__(self) -> str:
        return f"PlusDevice({self._next})"

    @contextmanager
    def _step(self, name: str, then: str) -> Iterator[tuple[X25519PrivateKey, X25519PrivateKey]]:
        """Raises LocalError `secret_spent` out of turn, or after the end."""
        sealing, masking = self._sealing, self._masking
        due, self._next = self._next, "over"
        try:
            if due != name or sealing is None or masking is None:
                raise LocalError("secret_spent")
            yield sealing, masking
            self._next = then
        finally:
            if self._next == "over":
                self._sealing = self._masking = None
                self._self_seed = b""
                self._held = {}

    def hello(self) -> Hello:
        """1"""
        with self._step("hello", "shares") as (sealing, masking):
            keys = sealing.public_key().public_bytes_raw(), masking.public_key().public_bytes_raw()
            signature = self._device.sign(_hello_words(self._terms, *keys))
            given = self._ticket
            self._said = Hello(self._device.public, given.expires_ms, given.signature, *keys, signature)
            return self._said

    def shares(self, roster: Roster, now_ms: int) -> Shares:
        """2, 3. Raises PeerError, PolicyError `cohort_too_small`."""
        with self._step("shares", "masked") as (sealing, masking):
            group = self._group = _Group(self._terms, roster, now_ms)
            if self._said not in group.hellos:
                raise bad("the roster is without this device, or has other keys of it")
            own = self._own = group.hellos.index(self._said)
            neighbours = group.neighbours(own)
            threshold = self._terms.threshold
            of_seed = split(self._self_seed, threshold, len(neighbours))
            of_key = split(masking.private_bytes_raw(), threshold, len(neighbours))
            rows = [
                group.share_cipher(sealing, peer, own, peer).encrypt(bytes(12), seed + key, None)
                for peer, seed, key in zip(neighbours, of_seed, of_key, strict=True)
            ]
            sealed = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, SEALED_BYTES)
            return Shares(hashlib.sha256(_COMMIT_LABEL + self._self_seed).digest(), sealed)

    def masked(self, delivered: Delivered, values: NDArray[np.int64], weight: int) -> Masked:
        """4, 5: the values, already times the weight. A neighbour whose shares do not open is masked against all the same."""
        with self._step("masked", "consent") as (sealing, masking):
            terms, group, own = self._terms, self._group, self._own
            if values.shape != (terms.length,) or values.dtype != np.int64:
                raise ValueError("values do not fit the terms")
            if not 1 <= weight <= terms.weight_max:
                raise ValueError("the weight does not fit the terms")
            peers = _ascending(delivered.senders, len(group.hellos))
            if len(delivered.sealed) != len(peers) or not set(peers) <= set(group.neighbours(own)):
                raise bad("shares came from others than the neighbours")
            if len(peers) < terms.threshold:
                raise PolicyError("cohort_too_small", count=len(peers), floor=terms.threshold)
            words = terms.ring.lift(values)
            terms.ring.add(words, group.self_mask(self._self_seed))
            for peer, row in zip(peers, delivered.sealed, strict=True):
                change = terms.ring.add if own < peer else terms.ring.subtract
                change(words, group.pair_mask(masking, own, peer))
                try:
                    opened = group.share_cipher(sealing, peer, peer, own).decrypt(
                        bytes(12), row.tobytes(), None
                    )
                except InvalidTag:
                    continue
                self._held[peer] = opened[:SHARE_BYTES], opened[SHARE_BYTES:]
            self._peers = peers
            body = terms.ring.pack(words)
            return Masked(weight, body, self._device.sign(_masked_words(group, weight, body)))

    def consent(self, lists: Lists) -> Consent:
        """6, 7: signed once, where every peer of this device is in one of the lists and in one only."""
        with self._step("consent", "reveal"):
            group = self._group
            alive = _ascending(lists.alive, len(group.hellos))
            dead = _ascending(lists.dead, len(group.hellos))
            if set(alive) & set(dead):
                raise bad("a device is alive and dead")
            if self._own not in alive or not set(self._peers) <= {*alive, *dead}:
                raise bad("a device is in neither list")
            if len(alive) < self._terms.reports_min:
                raise PolicyError("cohort_too_small", count=len(alive), floor=self._terms.reports_min)
            self._lists = lists
            return Consent(self._device.sign(_lists_words(group, lists)))

    def reveal(self, consents: Consents) -> Revealed:
        """8, 9: shares, once enough neighbours have signed the same lists. The session is over then."""
        with self._step("reveal", "over"):
            group, lists = self._group, self._lists
            assert lists is not None
            senders = _ascending(consents.senders, len(group.hellos))
            alive, dead = set(lists.alive.tolist()), set(lists.dead.tolist())
            if len(consents.signatures) != len(senders) or not set(senders) <= set(self._peers) & alive:
                raise bad("consents came from others than neighbours that are alive")
            if len(senders) < self._terms.threshold:
                raise PolicyError("cohort_too_small", count=len(senders), floor=self._terms.threshold)
            words = _lists_words(group, lists)
            for sender, signature in zip(senders, consents.signatures, strict=True):
                verify(group.hellos[sender].device, signature.tobytes(), words, "a device")
            of_alive = {peer: seed for peer, (seed, _) in self._held.items() if peer in alive}
            of_dead = {peer: key for peer, (_, key) in self._held.items() if peer in dead}
            return Revealed(*_table(of_alive, SHARE_BYTES), *_table(of_dead, SHARE_BYTES))


def _ascending(indexes: _Indexes, count: int) -> list[int]:
    found = [int(index) for index in indexes]
    if found != sorted(set(found)) or (found and found[-1] >= count):
        raise bad("numbers of devices do not ascend, or go beyond the roster")
    return found


def _table(rows: Mapping[int, bytes], width: int) -> tuple[_Indexes, NDArray[np.uint8]]:
    order = sorted(rows)
    body = np.frombuffer(b"".join(rows[each] for each in order), dtype=np.uint8).reshape(-1, width)
    return np.array(order, dtype=np.uint32), body


# The leader


@dataclass
class PlusLeader:
    """One round at the leader. What devices send is taken by their number; those that fall out are left behind."""

    terms: PlusTerms
    key: PartyKey
    hellos: list[Hello] = field(default_factory=list)
    _delivering: bool = False
    _shares: dict[int, Shares] = field(default_factory=dict, repr=False)
    _masked: dict[int, Masked] = field(default_factory=dict, repr=False)
    _consents: dict[int, Consent] = field(default_factory=dict, repr=False)
    _revealed: dict[int, Revealed] = field(default_factory=dict, repr=False)

    def roster(self, hellos: Sequence[Hello], now_ms: int) -> Roster:
        """1, 2. Raises PeerError for a hello that does not count: leave it out and call again."""
        rows = np.frombuffer(b"".join(h.row() for h in hellos), dtype=np.uint8).reshape(-1, _HELLO.size)
        words = _ROSTER_LABEL + self.terms.digest + hashlib.sha256(rows.tobytes()).digest()
        made = Roster(rows, self.key.sign(words))
        self._group = _Group(self.terms, made, now_ms)
        self.hellos = list(hellos)
        return made

    def take_shares(self, sender: int, said: Shares) -> None:
        """3. Not any more once the first were delivered: neighbours agree on who is masked against."""
        if self._delivering or len(said.sealed) != self._group.degree:
            raise bad("shares are late, or not one for each neighbour")
        self._shares[sender] = said

    def deliver(self, receiver: int) -> Delivered:
        """4"""
        self._delivering, rows = True, {}
        for peer in self._group.neighbours(receiver):
            if peer in self._shares:
                at = self._group.neighbours(peer).index(receiver)
                rows[peer] = self._shares[peer].sealed[at].tobytes()
        return Delivered(*_table(rows, SEALED_BYTES))

    def take_masked(self, sender: int, said: Masked) -> None:
        """5"""
        if len(said.masked) != self.terms.length * self.terms.width_bytes or sender not in self._shares:
            raise bad("a vector has another length than agreed")
        if not 1 <= said.weight <= self.terms.weight_max:
            raise bad("a weight is out of bounds")
        words = _masked_words(self._group, said.weight, said.masked)
        verify(self.hellos[sender].device, said.signature, words, "a device")
        self._masked[sender] = said

    def lists(self) -> Lists:
        """6. Call it once, when no more vectors are taken."""
        dead = sorted(set(self._shares) - set(self._masked))
        self._lists = Lists(np.array(sorted(self._masked), np.uint32), np.array(dead, np.uint32))
        return self._lists

    def take_consent(self, sender: int, said: Consent) -> None:
        """7"""
        if sender not in self._masked:
            raise bad("a device consents that is not alive")
        words = _lists_words(self._group, self._lists)
        verify(self.hellos[sender].device, said.signature, words, "a device")
        self._consents[sender] = said

    def consents(self, receiver: int) -> Consents:
        """8"""
        peers = [peer for peer in self._group.neighbours(receiver) if peer in self._consents]
        return Consents(*_table({peer: self._consents[peer].signature for peer in peers}, SIGNATURE_BYTES))

    def take_revealed(self, sender: int, said: Revealed) -> None:
        """9"""
        if len(said.alive) != len(said.of_alive) or len(said.dead) != len(said.of_dead):
            raise bad("shares and devices differ in number")
        self._revealed[sender] = said

    def open(self) -> NDArray[np.int64]:
        """The sum over the alive. Raises PeerError `sum_check_failed` where a secret does not come back."""
        ring, group = self.terms.ring, self._group
        words: Any = ring.zeros(self.terms.length)
        seeds: dict[int, dict[int, bytes]] = {}
        keys: dict[int, dict[int, bytes]] = {}
        for sender, said in self._revealed.items():
            for table, peers, rows in ((seeds, said.alive, said.of_alive), (keys, said.dead, said.of_dead)):
                for peer, row in zip(peers.tolist(), rows, strict=True):
                    if peer < len(self.hellos) and sender in (around := group.neighbours(peer)):
                        table.setdefault(peer, {})[around.index(sender)] = row.tobytes()
        for alive, sent in self._masked.items():
            ring.add(words, ring.unpack(sent.masked))
            seed = self._secret(alive, seeds.get(alive, {}), self._is_seed)
            ring.subtract(words, group.self_mask(seed))
        for dead in self._lists.dead.tolist():
            key = X25519PrivateKey.from_private_bytes(self._secret(dead, keys.get(dead, {}), self._is_key))
            for peer in group.neighbours(dead):
                if peer in self._masked:  # it has put the mask on; the dead one took it off nowhere
                    change = ring.subtract if peer < dead else ring.add
                    change(words, group.pair_mask(key, dead, peer))
        return ring.lower(words)

    def _is_seed(self, device: int, secret: bytes) -> bool:
        return hashlib.sha256(_COMMIT_LABEL + secret).digest() == self._shares[device].commitment

    def _is_key(self, device: int, secret: bytes) -> bool:
        public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
        return public == self.hellos[device].masking

    def _secret(self, device: int, shares: Mapping[int, bytes], right: Any) -> bytes:
        """From any `threshold` of the shares that together give what the device is known by."""
        holders, chance = sorted(shares), random.SystemRandom()
        if len(holders) >= self.terms.threshold:
            for _ in range(_TRIES):
                chosen = chance.sample(holders, self.terms.threshold)
                try:
                    secret = combine({holder: shares[holder] for holder in chosen})
                except PeerError:
                    continue
                if right(device, secret):
                    return secret
        raise PeerError("sum_check_failed", helper=f"device {device}")
