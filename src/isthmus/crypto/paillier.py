"""Paillier encryption: the cipher of the baseline engine.

    key         n = p q, p and q prime and 3 mod 4
    base        hs = h^n mod n^2, h = -x^2 mod n, x = SHAKE256(n): both sides derive it, nobody sends it
    ciphertext  (1 + m n) hs^r mod n^2, r fresh from the operating system and used once
    sum         product mod n^2

Source: Damgard, Jurik, Nielsen, "A generalization of Paillier's public-key system with applications to electronic
voting", Int. J. Inf. Secur. 9 (2010), the variant with a fixed base. They draw r of half the bits of n.

How long r is. Encryption is read by somebody who cannot factor n; r has `encryption_bits(bits)` = twice the security
level of n (NIST SP 800-57 part 1, table 2) and some margin, so that the best generic attack on a short exponent
(Pollard's lambda, 2^(r/2) steps: van Oorschot, Wiener, EUROCRYPT 1996) costs no less than factoring. The assumption is
that hs^r with short r looks like hs^r with long r (Koshiba, Kurosawa, PKC 2004). Sealing is read by the owner of the
key, who knows p and q and every r that went in and could take logarithms modulo p. There r has 64 bits more than any
order modulo n^2, so a sealed ciphertext is within 2^-64 of a uniform one with the same plaintext: no assumption needed.

How it is fast. A number c modulo m^2 is kept as c = low + m high, and inputs of long products as low (1 + m slope):
then slopes only add, and a product step works on numbers of half the size. That holds for m = n and, where the key is
at hand, for p and q. gmpy2 is used where installed; the results are the same. Neither path runs in constant time.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, SupportsIndex, final

import numpy as np
from cryptography.hazmat.primitives.asymmetric import rsa
from numpy.typing import NDArray

from isthmus.base.errors import ConfigError, PeerError
from isthmus.crypto.onetime import OneTime
from isthmus.crypto.sealed import SealedCiphertexts

try:
    _gmpy2: Any = importlib.import_module("gmpy2")
except ImportError:
    _gmpy2 = None

MINIMUM_BITS = 2048
ALLOWED_BITS = tuple(range(MINIMUM_BITS, 4097, 256))
_TABLE_BYTES = 64 * 2**20
_EXPECTED = 4  # a table is made for so many times the first batch, and anew once a batch is larger than that
_CHUNK = 1024
_Pair = tuple[int, int]  # low and high of one number
_Cell = tuple[int, int, int]  # low, high and sum of slopes
_CELL_COST = 1.5  # merging two cells against adding one row


def encryption_bits(bits: int) -> int:
    """Length in bits of the exponent r that encrypts under a key of `bits` bits."""
    return 256 if bits <= 3072 else 320


def slots_per_ciphertext(bits: int, slot_bits: int) -> int:
    """How many signed sums of `slot_bits` bits one ciphertext of a key of `bits` bits carries."""
    if not 2 <= slot_bits <= bits - 2:
        raise ValueError(f"a slot has 2 to {bits - 2} bits")
    return (bits - 2) // slot_bits


@final
class Ciphertexts:
    """Ciphertexts inside one party, sums included: `(count,)`. They have no form as bytes; `seal_for_wire` gives one."""

    __slots__ = ("_high", "_low", "_n", "_slope")

    def __init__(
        self,
        n: int,
        low: NDArray[np.object_],
        high: NDArray[np.object_],
        slope: NDArray[np.object_] | None = None,
    ) -> None:
        self._n = n
        self._low = low
        self._high = high
        self._slope = slope

    def __len__(self) -> int:
        return len(self._low)

    def __repr__(self) -> str:
        return f"Ciphertexts({len(self)})"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("unsealed ciphertexts are not serialised")

    def take(self, indexes: NDArray[np.int64]) -> Ciphertexts:
        """The ciphertexts at these places, in this order."""
        slope = None if self._slope is None else self._slope[indexes]
        return Ciphertexts(self._n, self._low[indexes], self._high[indexes], slope)

    @staticmethod
    def join(parts: Sequence[Ciphertexts]) -> Ciphertexts:
        """All parts (at least one, of one key) one after the other."""
        if len({part._n for part in parts}) != 1:
            raise ValueError("ciphertexts of one key can be joined")
        slopes = [part._slope for part in parts if part._slope is not None]
        return Ciphertexts(
            parts[0]._n,
            np.concatenate([part._low for part in parts]),
            np.concatenate([part._high for part in parts]),
            np.concatenate(slopes) if len(slopes) == len(parts) else None,
        )


@final
class PublicKey:
    """What encrypts nothing by itself but adds and seals: the modulus `n`, and `hs` which follows from it."""

    __slots__ = ("_expected", "_hs", "_pool", "_powers", "bits", "n")

    def __init__(self, n: int) -> None:
        self.n = n
        self.bits = n.bit_length()
        self._hs: int | None = None
        self._powers: _Powers | None = None
        self._expected = 0
        self._pool: list[OneTime[_Pair]] = []

    @property
    def hs(self) -> int:
        """The n-th residue whose powers blind: nobody chose it."""
        if self._hs is None:
            size = (self.bits + 7) // 8
            name = b"isthmus/paillier/base/v1" + self.n.to_bytes(size, "little")
            x = int.from_bytes(hashlib.shake_256(name).digest(size + 16), "little") % self.n
            self._hs = int(pow(_big(-x * x % self.n), self.n, _big(self.n * self.n)))
        return self._hs

    @property
    def width(self) -> int:
        """Bytes of one sealed ciphertext."""
        return (self.bits + 3) // 4

    def __repr__(self) -> str:
        return f"PublicKey({self.bits} bits, {self.fingerprint()[:16]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.n == self.n

    def __hash__(self) -> int:
        return hash(self.n)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a public key is sent with encode, without its prepared secrets")

    def encode(self) -> bytes:
        """n, little-endian, `bits / 8` bytes."""
        return self.n.to_bytes((self.bits + 7) // 8, "little")

    @staticmethod
    def decode(data: bytes) -> PublicKey:
        """The key that a partner sent; PeerError `bad_key` unless `check` passes."""
        if len(data) * 8 not in ALLOWED_BITS:
            raise PeerError("bad_key", why=f"{len(data)} bytes is not a length of a key")
        key = PublicKey(int.from_bytes(data, "little"))
        key.check()
        return key

    def fingerprint(self) -> str:
        """SHA-256 of the encoded key, in hex."""
        return hashlib.sha256(self.encode()).hexdigest()

    def check(self) -> None:
        """Refuse a key whose structure is wrong: PeerError `bad_key`.

        What can be seen without the factors: length, parity, factors below 2^16 (CVE-2023-33241), primes, powers. That
        n has two large factors is not shown by this.
        """
        n = self.n
        if self.bits not in ALLOWED_BITS:
            raise PeerError("bad_key", why=f"{self.bits} bits is not an allowed length")
        if n % 4 != 1:
            raise PeerError("bad_key", why="the modulus is not 1 mod 4")
        if math.gcd(n, _small_primes_product()) != 1:
            raise PeerError("bad_key", why="the modulus has a small factor")
        if any(_root(n, k) ** k == n for k in _small_primes(self.bits // 16 + 1)):
            raise PeerError("bad_key", why="the modulus is a power")
        if _is_probable_prime(n):
            raise PeerError("bad_key", why="the modulus is prime")
        if self.hs % n in (0, 1, n - 1) or math.gcd(self.hs, n) != 1:
            raise PeerError("bad_key", why="the modulus has no usable base")

    def prepare(self, count: int) -> None:
        """Make blinding for `count` later seals ahead, in idle time; each is used once, in this process."""
        self._pool.extend(OneTime(blinding) for blinding in self._make(count))

    def _make(self, count: int) -> list[_Pair]:
        if not count:
            return []
        if self._powers is None or count > self._expected:
            self._expected = _EXPECTED * count
            shape = _best_shape(self.bits + 64, self._expected, _TABLE_BYTES // _entry_bytes(self.bits))
            if self._powers is None or self._powers.shape != shape:
                self._powers = _Powers(self.n, self.hs, shape)
        powers = self._powers
        return [powers.raise_to(powers.shape.digits()) for _ in range(count)]

    def _blindings(self, count: int) -> list[_Pair]:
        ready = _take(self._pool, count)
        return ready + self._make(count - len(ready))


@final
class PrivateKey:
    """A key pair of one job. It lives in memory only: no repr of secrets, no copy, no serialiser."""

    __slots__ = ("_expected", "_lift", "_p", "_pool", "_powers", "_q", "_side_p", "_side_q", "public")

    def __init__(self, p: int, q: int) -> None:
        """From two primes that are 3 mod 4; ConfigError `out_of_bounds` below the floor."""
        _check_bits((p * q).bit_length())
        if p == q or p % 4 != 3 or q % 4 != 3 or math.gcd(p * q, (p - 1) * (q - 1)) != 1:
            raise ValueError("the factors are two primes that are 3 mod 4")
        self.public = PublicKey(p * q)
        self._p = _big(p)
        self._q = _big(q)
        self._lift = _big(pow(p * p, -1, q * q))
        self._side_p = _Side(p, q)
        self._side_q = _Side(q, p)
        self._powers: tuple[_Powers, _Powers] | None = None
        self._expected = 0
        self._pool: list[OneTime[_Pair]] = []

    @staticmethod
    def generate(bits: int) -> PrivateKey:
        """A fresh key, n exactly `bits` long. ConfigError `out_of_bounds` for a length outside `ALLOWED_BITS`."""
        _check_bits(bits)
        primes: list[int] = []
        while True:  # two keys are needed on average: half of the primes are 3 mod 4
            numbers = rsa.generate_private_key(public_exponent=65537, key_size=bits).private_numbers()
            primes += [prime for prime in (numbers.p, numbers.q) if prime % 4 == 3]
            if len(primes) < 2:
                continue
            p, q = primes[:2]
            if (p * q).bit_length() == bits and abs(p - q).bit_length() > bits // 2 - 100:
                return PrivateKey(p, q)
            del primes[0]

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.bits} bits)"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a private key is neither copied nor serialised")

    def prepare(self, count: int) -> None:
        """Make blinding for `count` later encryptions ahead, in idle time; each is used once, in this process."""
        self._pool.extend(OneTime(blinding) for blinding in self._make(count))

    def encrypt_for_wire(self, values: Sequence[int]) -> SealedCiphertexts:
        """Encrypt signed integers below n / 2 in size, each with randomness of its own."""
        n = self.public.n
        half = n // 2
        if any(not -half < value < half for value in values):
            raise ValueError("a plaintext is below half of the modulus in size")
        ready = _take(self._pool, len(values))
        ready += self._make(len(values) - len(ready))
        big_n = _big(n)
        fresh = (
            low + big_n * ((high + low * value) % big_n)
            for (low, high), value in zip(ready, values, strict=True)
        )
        return _to_wire(fresh, len(values), self.public.width)

    def decrypt(self, sealed: SealedCiphertexts) -> list[int]:
        """The signed plaintexts, in order. PeerError `bad_ciphertext` for what cannot be a ciphertext."""
        numbers = _from_wire(self.public, sealed)
        half = self.public.n // 2
        by_p = self._side_p.plaintexts(numbers)
        by_q = self._side_q.plaintexts(numbers)
        joined = (
            p_part + self._p * ((q_part - p_part) * self._side_q.inverse % self._q)
            for p_part, q_part in zip(by_p, by_q, strict=True)
        )
        return [int(value) - self.public.n if value > half else int(value) for value in joined]

    def decrypt_packed(self, sealed: SealedCiphertexts, count: int, slot_bits: int) -> list[int]:
        """The `count` signed sums that `pack` put together. PeerError `bad_ciphertext` if they are not that many."""
        slots = slots_per_ciphertext(self.public.bits, slot_bits)
        if len(sealed) != -(-count // slots):
            raise PeerError("bad_ciphertext", why=f"{len(sealed)} ciphertexts for {count} sums")
        top = 1 << (slot_bits - 1)
        values: list[int] = []
        for packed in self.decrypt(sealed):
            rest = packed
            for _ in range(min(slots, count - len(values))):
                value = ((rest + top) & (2 * top - 1)) - top
                rest = (rest - value) >> slot_bits
                values.append(value)
            if rest:
                raise PeerError("bad_ciphertext", why="a packed answer is longer than its slots")
        return values

    def _make(self, count: int) -> list[_Pair]:
        if not count:
            return []
        key = self.public
        if self._powers is None or count > self._expected:
            self._expected = _EXPECTED * count
            most = _TABLE_BYTES // (2 * _entry_bytes(key.bits // 2))
            shape = _best_shape(encryption_bits(key.bits), self._expected, most)
            if self._powers is None or self._powers[0].shape != shape:
                self._powers = (_Powers(self._p, key.hs, shape), _Powers(self._q, key.hs, shape))
        of_p, of_q = self._powers
        n, p, q = _big(key.n), self._p, self._q
        square_p, square_q = p * p, q * q
        made: list[_Pair] = []
        for _ in range(count):
            digits = of_p.shape.digits()
            p_part = _value(of_p.raise_to(digits), p)
            q_part = _value(of_q.raise_to(digits), q)
            high, low = divmod(p_part + square_p * ((q_part - p_part) * self._lift % square_q), n)
            made.append((low, high))
        return made


def open_sealed(public_key: PublicKey, sealed: SealedCiphertexts) -> Ciphertexts:
    """Ciphertexts that came off the wire, checked: PeerError `bad_ciphertext` for 0, 1, -1, n, non-units, range, width."""
    n = _big(public_key.n)
    numbers = _from_wire(public_key, sealed)
    pairs = [divmod(number, n) for number in numbers]
    low = [pair[1] for pair in pairs]
    slope = [pair[0] * inverse % n for pair, inverse in zip(pairs, _inverses(low, n), strict=True)]
    return Ciphertexts(public_key.n, _objects(low), _objects([pair[0] for pair in pairs]), _objects(slope))


def seal_for_wire(public_key: PublicKey, ciphertexts: Ciphertexts) -> SealedCiphertexts:
    """The same plaintexts under randomness that is uniform and fresh, `(count, width)` bytes: the only way out."""
    n = _same_key(public_key, ciphertexts)
    ready = public_key._blindings(len(ciphertexts))
    pairs = zip(ciphertexts._low, ciphertexts._high, ready, strict=True)
    fresh = (_value(_times(low, high, *blinding, n), n) for low, high, blinding in pairs)
    return _to_wire(fresh, len(ciphertexts), public_key.width)


def add(public_key: PublicKey, first: Ciphertexts, second: Ciphertexts) -> Ciphertexts:
    """Sums place by place, both `(count,)`."""
    n = _same_key(public_key, first, second)
    pairs = zip(first._low, first._high, second._low, second._high, strict=True)
    return _from_pairs(public_key, [_times(*pair, n) for pair in pairs])


def sum_into_bins(
    public_key: PublicKey,
    ciphertexts: Ciphertexts,
    bins: NDArray[Any],
    rows: NDArray[np.int64],
    bin_counts: Sequence[int],
) -> list[Ciphertexts]:
    """For each feature the sums over `rows` in each bin: a list of `(bin_counts[feature],)`.

    `ciphertexts` holds one for each row of `bins` (all rows, features; whole numbers from 0). The sum of an empty bin
    is the ciphertext 1, which shows that it is empty until it is sealed.
    """
    n = _same_key(public_key, ciphertexts)
    if bins.shape != (len(ciphertexts), len(bin_counts)):
        raise ValueError("bins have a row for each ciphertext and a column for each bin count")
    slope = _slopes(ciphertexts, n)[rows]
    low = ciphertexts._low[rows]
    chosen = bins[rows].astype(np.int64)
    if len(rows) and bool(((chosen < 0) | (chosen >= np.asarray(bin_counts))).any()):
        raise ValueError("a bin lies outside its count")
    sums: dict[int, list[_Cell]] = {}
    for group in _groups(bin_counts, len(rows)):
        sums.update(_sum_group(low, slope, chosen, group, bin_counts, n))
    return [
        _from_pairs(public_key, [(r, (h + r * (s % n)) % n) for r, h, s in sums[feature]])
        for feature in range(len(bin_counts))
    ]


def pack(public_key: PublicKey, ciphertexts: Ciphertexts, slot_bits: int) -> Ciphertexts:
    """Put sums side by side, `slots_per_ciphertext` in one: `(ceil(count / slots),)`, the first sum lowest.

    Every sum must lie in -2^(slot_bits - 1) .. 2^(slot_bits - 1) - 1; nobody can see here whether it does.
    """
    n = _same_key(public_key, ciphertexts)
    slots = slots_per_ciphertext(public_key.bits, slot_bits)
    packed: list[_Pair] = []
    for start in range(0, len(ciphertexts), slots):
        group = list(
            zip(
                ciphertexts._low[start : start + slots], ciphertexts._high[start : start + slots], strict=True
            )
        )
        low, high = group.pop()
        while group:
            for _ in range(slot_bits):
                carry, square = divmod(low * low, n)
                high = (2 * low * high + carry) % n
                low = square
            low, high = _times(low, high, *group.pop(), n)
        packed.append((low, high))
    return _from_pairs(public_key, packed)


# Arithmetic modulo m^2 on numbers low + m high.


def _big(value: int) -> int:
    return value if _gmpy2 is None else _gmpy2.mpz(value)


def _objects(values: Sequence[int]) -> NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _from_pairs(public_key: PublicKey, pairs: Sequence[_Pair]) -> Ciphertexts:
    return Ciphertexts(
        public_key.n, _objects([pair[0] for pair in pairs]), _objects([pair[1] for pair in pairs])
    )


def _same_key(public_key: PublicKey, *parts: Ciphertexts) -> int:
    if any(part._n != public_key.n for part in parts):
        raise ValueError("the ciphertexts belong to another key")
    return _big(public_key.n)


def _value(pair: _Pair, m: int) -> int:
    return pair[0] + m * pair[1]


def _times(low: int, high: int, other_low: int, other_high: int, m: int) -> _Pair:
    carry, product = divmod(low * other_low, m)
    return product, (low * other_high + high * other_low + carry) % m


def _product(factors: Sequence[int], m: int, low: int = 1, high: int = 0) -> _Pair:
    """Low and high modulo m^2 of low + m high times numbers below m. By pairs: a pair costs one reduction, not two."""
    start = len(factors) % 2
    if start:
        carry, product = divmod(low * factors[0], m)
        high = (high * factors[0] + carry) % m
        low = product
    for place in range(start, len(factors), 2):
        other_high, other_low = divmod(factors[place] * factors[place + 1], m)
        carry, product = divmod(low * other_low, m)
        high = (low * other_high + high * other_low + carry) % m
        low = product
    return low, high


def _inverses(values: Sequence[int], m: int) -> list[int]:
    """Inverses modulo m by one inversion for each chunk; PeerError `bad_ciphertext` where there is none."""
    found: list[int] = []
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        running = [_big(1)]
        for value in chunk:
            running.append(running[-1] * value % m)
        try:
            inverse = pow(running.pop(), -1, m)
        except (ValueError, ZeroDivisionError):
            raise PeerError("bad_ciphertext", why="it is not a unit") from None
        part: list[int] = []
        for value, before in zip(reversed(chunk), reversed(running), strict=True):
            part.append(inverse * before % m)
            inverse = inverse * value % m
        found.extend(reversed(part))
    return found


def _slopes(ciphertexts: Ciphertexts, n: int) -> NDArray[np.object_]:
    if ciphertexts._slope is None:
        inverses = _inverses(ciphertexts._low.tolist(), n)
        ciphertexts._slope = _objects(
            [high * inverse % n for high, inverse in zip(ciphertexts._high, inverses, strict=True)]
        )
    return ciphertexts._slope


def _groups(bin_counts: Sequence[int], rows: int) -> list[list[int]]:
    """Features that are summed together: first the rows into joint cells, then the cells into the bins of each feature.

    With f features and c cells that costs rows + f c products instead of f rows.
    """
    groups: list[list[int]] = []
    group: list[int] = []
    cells = 1
    for feature in sorted(range(len(bin_counts)), key=lambda place: bin_counts[place]):
        more = cells * bin_counts[feature]
        size = len(group)
        joint = size + 1
        cost_now = (rows + (_CELL_COST * size * cells if size > 1 else 0)) / max(size, 1)
        if size and (rows + _CELL_COST * joint * more) / joint < cost_now:
            group.append(feature)
            cells = more
        else:
            group = [feature]
            groups.append(group)
            cells = bin_counts[feature]
    return groups


def _sum_group(
    low: NDArray[np.object_],
    slope: NDArray[np.object_],
    bins: NDArray[np.int64],
    group: list[int],
    bin_counts: Sequence[int],
    n: int,
) -> dict[int, list[_Cell]]:
    """Cells `(bin_counts[feature],)` of each feature of the group."""
    shape = [bin_counts[feature] for feature in group]
    joint = np.zeros(len(low), dtype=np.int64)
    for feature, size in zip(group, shape, strict=True):
        joint = joint * size + bins[:, feature]
    cells = _cells(low, slope, joint, math.prod(shape), n)
    if len(group) == 1:
        return {group[0]: cells}
    occupied = np.unique(joint)
    places = np.unravel_index(occupied, shape)
    sums: dict[int, list[_Cell]] = {}
    for feature, size, place in zip(group, shape, places, strict=True):
        totals: list[_Cell] = [(1, 0, 0)] * size
        for target, cell in zip(place.tolist(), occupied.tolist(), strict=True):
            r, h, s = cells[cell]
            total = totals[target]
            totals[target] = (*_times(total[0], total[1], r, h, n), total[2] + s)
        sums[feature] = totals
    return sums


def _cells(
    low: NDArray[np.object_], slope: NDArray[np.object_], cells: NDArray[np.int64], count: int, n: int
) -> list[_Cell]:
    """Low, high and sum of slopes of each cell, `(count,)`."""
    order = np.argsort(cells, kind="stable")
    ends = np.cumsum(np.bincount(cells, minlength=count)).tolist()
    low_sorted, slope_sorted = low[order].tolist(), slope[order].tolist()
    sums: list[_Cell] = []
    start = 0
    for end in ends:
        sums.append((*_product(low_sorted[start:end], n), sum(slope_sorted[start:end])))
        start = end
    return sums


@dataclass(frozen=True, slots=True)
class _Shape:
    """A comb: exponents of `teeth * columns` bits, `columns` = `blocks * steps`; a table of 2^teeth for each block."""

    teeth: int
    blocks: int
    steps: int

    def digits(self) -> list[list[int]]:
        """A fresh exponent as `(steps, blocks)` digits of `teeth` bits, from the operating system."""
        teeth, mask = self.teeth, (1 << self.teeth) - 1
        pool = secrets.randbits(teeth * self.blocks * self.steps)
        return [
            [pool >> teeth * (step * self.blocks + block) & mask for block in range(self.blocks)]
            for step in range(self.steps)
        ]


def _best_shape(bits: int, expected: int, entries: int) -> _Shape:
    """The comb whose table and `expected` powers cost least, with at most so many table entries."""
    best, best_cost = _Shape(1, 1, bits), math.inf
    for teeth in range(1, 17):
        for steps in range(1, -(-bits // teeth) + 1):
            blocks = -(-bits // (teeth * steps))
            size = blocks << teeth
            cost = 1.6 * size + expected * (blocks * steps + 1.1 * steps)
            if cost < best_cost and size <= entries:
                best, best_cost = _Shape(teeth, blocks, steps), cost
    return best


class _Powers:
    """Powers of one base modulo m^2 by a comb (Lim, Lee, CRYPTO 1994): product over steps t, blocks k and teeth i.

    Digit (t, k) stands for the bits at i * columns + k * steps + t of the exponent.
    """

    __slots__ = ("_low", "_m", "_slope", "shape")

    def __init__(self, m: int, base: int, shape: _Shape) -> None:
        self.shape = shape
        self._m = m = _big(m)
        square = m * m
        columns = shape.blocks * shape.steps
        teeth = [_big(base) % square]
        for _ in range(shape.teeth - 1):
            teeth.append(pow(teeth[-1], 1 << columns, square))
        self._low: list[list[int]] = []
        self._slope: list[list[int]] = []
        for _ in range(shape.blocks):
            lows, inverses, slopes = [_big(1)], [_big(1)], [_big(0)]
            for tooth in teeth:
                tooth_high, tooth_low = divmod(tooth, m)
                tooth_inverse = pow(tooth_low, -1, m)
                tooth_slope = tooth_high * tooth_inverse % m
                for place in range(len(lows)):
                    carry, low = divmod(lows[place] * tooth_low, m)
                    inverse = inverses[place] * tooth_inverse % m
                    lows.append(low)
                    inverses.append(inverse)
                    slopes.append((slopes[place] + tooth_slope + carry * inverse) % m)
            self._low.append(lows)
            self._slope.append(slopes)
            teeth = [pow(tooth, 1 << shape.steps, square) for tooth in teeth]

    def raise_to(self, digits: list[list[int]]) -> _Pair:
        """Low and high of the base to the exponent with these digits, `(steps, blocks)`."""
        m = self._m
        low, high, total = _big(1), _big(0), _big(0)
        for step, row in enumerate(reversed(digits)):
            if step:
                carry, product = divmod(low * low, m)
                high = (2 * low * high + carry) % m
                low = product
            factors = [lows[digit] for lows, digit in zip(self._low, row, strict=True)]
            total = 2 * total + sum(slopes[digit] for slopes, digit in zip(self._slope, row, strict=True))
            low, high = _product(factors, m, low, high)
        return low, (high + low * (total % m)) % m


class _Side:
    """Decryption modulo one factor p of n = p q: c^(p-1) = 1 + p (-q m) mod p^2."""

    __slots__ = ("_blind", "_factor", "_p", "_square", "inverse")

    def __init__(self, p: int, q: int) -> None:
        self._p = _big(p)
        self._square = self._p * self._p
        self._factor = _big(pow(-q, -1, p))
        self.inverse = _big(pow(q, -1, p))
        # A p-th power modulo p^2 is a zero: multiplied in, and squared after each use, it hides what is raised (T30).
        self._blind = pow(_big(secrets.randbelow(p - 2) + 2), self._p, self._square)

    def _blinded(self, number: int) -> _Pair:
        blind = self._blind
        self._blind = blind * blind % self._square
        return divmod(number * blind % self._square, self._p)

    def plaintexts(self, numbers: Sequence[int]) -> list[int]:
        """Plaintexts modulo p. With c = low (1 + p slope), c^(p-1) = low^(p-1) (1 - p slope)."""
        p, square = self._p, self._square
        pairs = [self._blinded(number) for number in numbers]
        inverses = _inverses([low for _, low in pairs], p)
        return [
            ((_secret_power(low, p - 1, square) - 1) // p - high * inverse) * self._factor % p
            for (high, low), inverse in zip(pairs, inverses, strict=True)
        ]


def _secret_power(base: int, exponent: int, modulus: int) -> int:
    return pow(base, exponent, modulus) if _gmpy2 is None else _gmpy2.powmod_sec(base, exponent, modulus)


def _entry_bytes(bits: int) -> int:
    """Memory of one table entry modulo a number of `bits` bits: two integers and their places."""
    return 2 * (bits // 7 + 40)


def _take(pool: list[OneTime[_Pair]], count: int) -> list[_Pair]:
    taken: list[_Pair] = []
    while len(taken) < count:
        try:
            secret = pool.pop()  # one atomic step: another thread may take from the same pool
        except IndexError:
            break
        taken.append(secret.take())
    return taken


# Bytes.


def _to_wire(numbers: Any, count: int, width: int) -> SealedCiphertexts:
    data = b"".join(int(number).to_bytes(width, "little") for number in numbers)
    return SealedCiphertexts(
        np.frombuffer(data, dtype=np.uint8).reshape(count, width), freshly_randomised=True
    )


def _from_wire(public_key: PublicKey, sealed: SealedCiphertexts) -> list[int]:
    rows = sealed.rows
    if rows.shape[1] != public_key.width:
        raise PeerError("bad_ciphertext", why=f"{rows.shape[1]} bytes instead of {public_key.width}")
    numbers = [_big(int.from_bytes(row.tobytes(), "little")) for row in rows]
    n = _big(public_key.n)
    top = n * n
    if any(not 0 < number < top for number in numbers):
        raise PeerError("bad_ciphertext", why="it is out of range")
    if any(number % n in (1, n - 1) for number in numbers):
        raise PeerError("bad_ciphertext", why="it carries no randomness")
    return numbers


# Number theory for keys.


def _check_bits(bits: int) -> None:
    if bits not in ALLOWED_BITS:
        raise ConfigError(
            "out_of_bounds",
            field="crypto.paillier_bits",
            value=bits,
            allowed=f"{ALLOWED_BITS[0]} to {ALLOWED_BITS[-1]} in steps of 256",
        )


def _small_primes(limit: int) -> list[int]:
    sieve = np.ones(limit, dtype=bool)
    sieve[:2] = False
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = False
    return [int(prime) for prime in np.flatnonzero(sieve)]


@cache
def _small_primes_product() -> int:
    return math.prod(_small_primes(1 << 16))


def _root(n: int, k: int) -> int:
    """Floor of the k-th root of n, by Newton."""
    guess = 1 << -(-n.bit_length() // k)
    while True:
        closer = ((k - 1) * guess + n // guess ** (k - 1)) // k
        if closer >= guess:
            return guess
        guess = closer


def _is_probable_prime(n: int) -> bool:
    """Miller-Rabin with random bases: true for every prime, true for a product of large primes with chance below 4^-4."""
    odd = n - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    for _ in range(4):
        power = int(pow(_big(secrets.randbelow(n - 3) + 2), odd, _big(n)))
        if power in (1, n - 1):
            continue
        if all((power := power * power % n) != n - 1 for _ in range(twos - 1)):
            return False
    return True
