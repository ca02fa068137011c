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
_CHUNK = 1024
_Blinding = tuple[int, int]  # low and high of one hs^r


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
        low = np.concatenate([part._low for part in parts])
        return Ciphertexts(parts[0]._n, low, np.concatenate([part._high for part in parts]))


@final
class PublicKey:
    """What encrypts nothing by itself but adds and seals: the modulus `n`, and `hs` which follows from it."""

    __slots__ = ("_hs", "_pool", "_powers", "bits", "n")

    def __init__(self, n: int) -> None:
        self.n = n
        self.bits = n.bit_length()
        self._hs: int | None = None
        self._powers: _Powers | None = None
        self._pool: list[OneTime[_Blinding]] = []

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

    def _make(self, count: int) -> list[_Blinding]:
        self._powers = _powers_for(self._powers, count, self.n, self.hs, self.bits + 64, _TABLE_BYTES)
        return self._powers.draw(count)

    def _blindings(self, count: int) -> list[_Blinding]:
        ready = _take(self._pool, count)
        return ready + self._make(count - len(ready)) if count > len(ready) else ready


@final
class PrivateKey:
    """A key pair of one job. It lives in memory only: no repr of secrets, no copy, no serialiser."""

    __slots__ = ("_big_p", "_big_q", "_lift", "_p", "_pool", "_powers", "_q", "_side_p", "_side_q", "public")

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
        self._pool: list[OneTime[_Blinding]] = []

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

    def _make(self, count: int) -> list[_Blinding]:
        if not count:
            return []
        key = self.public
        bits = encryption_bits(key.bits)
        of_p, of_q = self._powers or (None, None)
        of_p = _powers_for(of_p, count, int(self._p), key.hs, bits, _TABLE_BYTES // 2)
        of_q = _powers_for(of_q, count, int(self._q), key.hs, bits, _TABLE_BYTES // 2)
        self._powers = (of_p, of_q)
        n, p, q = _big(key.n), self._p, self._q
        square_p, square_q = p * p, q * q
        made: list[_Blinding] = []
        for _ in range(count):
            exponent = secrets.randbits(bits)
            p_low, p_high = of_p.raise_to(exponent)
            q_low, q_high = of_q.raise_to(exponent)
            p_part = p_low + p * p_high
            high, low = divmod(p_part + square_p * ((q_low + q * q_high - p_part) * self._lift % square_q), n)
            made.append((low, high))
        return made


def open_sealed(public_key: PublicKey, sealed: SealedCiphertexts) -> Ciphertexts:
    """Ciphertexts that came off the wire, checked: PeerError `bad_ciphertext` for 0, 1, -1, n, non-units, range, width."""
    n = _big(public_key.n)
    numbers = _from_wire(public_key, sealed)
    pairs = [divmod(number, n) for number in numbers]
    low = [pair[1] for pair in pairs]
    if any(value == 1 or value == n - 1 for value in low):
        raise PeerError("bad_ciphertext", why="it carries no randomness")
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
    sums: list[Ciphertexts | None] = [None] * len(bin_counts)
    for feature, count in enumerate(bin_counts):
        cells = _cells(low, slope, chosen[:, feature], count, n)
        sums[feature] = _from_pairs(public_key, [(r, (h + r * (s % n)) % n) for r, h, s in cells])
    return [total for total in sums if total is not None]


def pack(public_key: PublicKey, ciphertexts: Ciphertexts, slot_bits: int) -> Ciphertexts:
    """Put sums side by side, `slots_per_ciphertext` in one: `(ceil(count / slots),)`, the first sum lowest.

    Every sum must lie in -2^(slot_bits - 1) .. 2^(slot_bits - 1) - 1; nobody can see here whether it does.
    """
    n = _same_key(public_key, ciphertexts)
    slots = slots_per_ciphertext(public_key.bits, slot_bits)
    packed: list[tuple[int, int]] = []
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


def _from_pairs(public_key: PublicKey, pairs: Sequence[tuple[int, int]]) -> Ciphertexts:
    return Ciphertexts(
        public_key.n, _objects([pair[0] for pair in pairs]), _objects([pair[1] for pair in pairs])
    )


def _same_key(public_key: PublicKey, *parts: Ciphertexts) -> int:
    if any(part._n != public_key.n for part in parts):
        raise ValueError("the ciphertexts belong to another key")
    return _big(public_key.n)


def _value(pair: tuple[int, int], m: int) -> int:
    return pair[0] + m * pair[1]


def _times(low: int, high: int, other_low: int, other_high: int, m: int) -> tuple[int, int]:
    carry, product = divmod(low * other_low, m)
    return product, (low * other_high + high * other_low + carry) % m


def _product(factors: Sequence[int], m: int) -> tuple[int, int]:
    """Low and high of the product modulo m^2 of numbers below m. Pairs first: a pair costs one reduction, not two."""
    low, high = 1, 0
    count = len(factors)
    start = count % 2
    if start:
        low = factors[0]
    if count > start and not start:
        high, low = divmod(factors[0] * factors[1], m)
        start = 2
    for place in range(start, count, 2):
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


def _cells(
    low: NDArray[np.object_], slope: NDArray[np.object_], cells: NDArray[np.int64], count: int, n: int
) -> list[tuple[int, int, int]]:
    """Low, high and sum of slopes of each cell, `(count,)`."""
    order = np.argsort(cells, kind="stable")
    ends = np.cumsum(np.bincount(cells, minlength=count)).tolist()
    low_sorted, slope_sorted = low[order].tolist(), slope[order].tolist()
    sums: list[tuple[int, int, int]] = []
    start = 0
    for end in ends:
        sums.append((*_product(low_sorted[start:end], n), sum(slope_sorted[start:end])))
        start = end
    return sums


class _Powers:
    """Powers of one base modulo m^2 from a table of windows of `window` bits."""

    __slots__ = ("_m", "_slope", "_table", "bits", "expected", "window")

    def __init__(self, m: int, base: int, bits: int, window: int, expected: int) -> None:
        self.bits = bits
        self.window = window
        self.expected = expected
        self._m = m = _big(m)
        self._table: list[list[int]] = []
        self._slope: list[list[int]] = []
        base = _big(base) % (m * m)
        for _ in range(-(-bits // window)):
            base_high, base_low = divmod(base, m)
            base_inverse = pow(base_low, -1, m)
            base_slope = base_high * base_inverse % m
            low, inverse, slope = _big(1), _big(1), _big(0)
            lows, slopes = [low], [slope]
            for _ in range((1 << window) - 1):
                carry, low = divmod(low * base_low, m)
                inverse = inverse * base_inverse % m
                slope = (slope + base_slope + carry * inverse) % m
                lows.append(low)
                slopes.append(slope)
            self._table.append(lows)
            self._slope.append(slopes)
            base = pow(base, 1 << window, m * m)

    def raise_to(self, exponent: int) -> tuple[int, int]:
        """Low and high of base^exponent."""
        m, window, mask = self._m, self.window, (1 << self.window) - 1
        factors: list[int] = []
        total = 0
        for lows, slopes in zip(self._table, self._slope, strict=True):
            digit = exponent & mask
            exponent >>= window
            factors.append(lows[digit])
            total += slopes[digit]
        low, high = _product(factors, m)
        return low, (high + low * (total % m)) % m

    def draw(self, count: int) -> list[_Blinding]:
        """Powers with `count` fresh exponents of the operating system."""
        return [self.raise_to(secrets.randbits(self.bits)) for _ in range(count)]


def _powers_for(
    present: _Powers | None, count: int, m: int, base: int, bits: int, most_bytes: int
) -> _Powers:
    """A table whose making and use cost least for the draws expected; a larger one once many more come."""
    if present is not None and count <= 8 * present.expected:
        return present
    expected = max(8 * count, 256)
    entry_bytes = 2 * (m.bit_length() // 7 + 40)
    best, best_cost = 1, math.inf
    for window in range(1, 17):
        windows = -(-bits // window)
        entries = windows << window
        cost = 1.5 * entries + expected * windows
        if cost < best_cost and entries * entry_bytes <= most_bytes:
            best, best_cost = window, cost
    return (
        present if present is not None and present.window == best else _Powers(m, base, bits, best, expected)
    )


class _Side:
    """Decryption modulo one factor p of n = p q: c^(p-1) = 1 + p (-q m) mod p^2."""

    __slots__ = ("_factor", "_p", "_square", "inverse")

    def __init__(self, p: int, q: int) -> None:
        self._p = _big(p)
        self._square = self._p * self._p
        self._factor = _big(pow(-q, -1, p))
        self.inverse = _big(pow(q, -1, p))

    def plaintexts(self, numbers: Sequence[int]) -> list[int]:
        """Plaintexts modulo p. With c = low (1 + p slope), c^(p-1) = low^(p-1) (1 - p slope)."""
        p, square = self._p, self._square
        pairs = [divmod(number % square, p) for number in numbers]
        inverses = _inverses([low for _, low in pairs], p)
        return [
            ((_secret_power(low, p - 1, square) - 1) // p - high * inverse) * self._factor % p
            for (high, low), inverse in zip(pairs, inverses, strict=True)
        ]


def _secret_power(base: int, exponent: int, modulus: int) -> int:
    return pow(base, exponent, modulus) if _gmpy2 is None else _gmpy2.powmod_sec(base, exponent, modulus)


def _take(pool: list[OneTime[_Blinding]], count: int) -> list[_Blinding]:
    return [pool.pop().take() for _ in range(min(count, len(pool)))]


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
    top = public_key.n * public_key.n
    if any(not 0 < number < top for number in numbers):
        raise PeerError("bad_ciphertext", why="it is out of range")
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
