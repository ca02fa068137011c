"""Messages: a kind number and fixed-width fields, little-endian. No names of classes or types on the wire, no code.

A message is a frozen dataclass with a `KIND` and fields annotated with one of the encodings below:

    @dataclass(frozen=True)
    class Points(Message):
        KIND = 0x0101
        last: Annotated[bool, Flag()]
        points: Annotated[NDArray[np.uint8], Array("u1", None, 32)]

Whatever does not decode to exactly such a message is a PeerError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Protocol, Self, get_type_hints

import numpy as np

from isthmus.base.errors import PeerError
from isthmus.crypto.sealed import SealedCiphertexts

MESSAGE_MAX_BYTES = 64 * 2**20
ROWS_IN_SETS_MAX = 32 * 2**20
_KIND = struct.Struct("<H")
_LENGTH = struct.Struct("<I")


def bad(why: str) -> PeerError:
    return PeerError("bad_message", why=why)


class Reader:
    """Reads a body front to back; asking for more than is there is a PeerError."""

    def __init__(self, body: bytes) -> None:
        self._view = memoryview(body)
        self._at = 0

    def take(self, size_bytes: int) -> memoryview:
        if size_bytes < 0 or self._at + size_bytes > len(self._view):
            raise bad("it is shorter than it says")
        part = self._view[self._at : self._at + size_bytes]
        self._at += size_bytes
        return part

    def end(self) -> None:
        if self._at != len(self._view):
            raise bad("it is longer than it says")


class Encoding(Protocol):
    def write(self, value: Any) -> bytes: ...

    def read(self, source: Reader) -> Any: ...


@dataclass(frozen=True)
class Number:
    """One number; `code` as in the struct module (B H I Q q d)."""

    code: str

    def write(self, value: Any) -> bytes:
        return struct.pack("<" + self.code, value)

    def read(self, source: Reader) -> Any:
        return struct.unpack("<" + self.code, source.take(struct.calcsize("<" + self.code)))[0]


@dataclass(frozen=True)
class Flag:
    """True or false in one byte, 1 or 0."""

    def write(self, value: Any) -> bytes:
        return b"\x01" if value else b"\x00"

    def read(self, source: Reader) -> bool:
        byte = source.take(1)[0]
        if byte > 1:
            raise bad("a flag is neither 0 nor 1")
        return byte == 1


@dataclass(frozen=True)
class Raw:
    """Exactly `size_bytes` bytes."""

    size_bytes: int

    def write(self, value: Any) -> bytes:
        if len(value) != self.size_bytes:
            raise ValueError(f"expected {self.size_bytes} bytes")
        return bytes(value)

    def read(self, source: Reader) -> bytes:
        return bytes(source.take(self.size_bytes))


@dataclass(frozen=True)
class Blob:
    """At most `max_bytes` bytes."""

    max_bytes: int

    def write(self, value: Any) -> bytes:
        if len(value) > self.max_bytes:
            raise ValueError(f"at most {self.max_bytes} bytes")
        return _LENGTH.pack(len(value)) + bytes(value)

    def read(self, source: Reader) -> bytes:
        (size,) = _LENGTH.unpack(source.take(4))
        if size > self.max_bytes:
            raise bad("a field is longer than allowed")
        return bytes(source.take(size))


@dataclass(frozen=True)
class Text:
    """UTF-8 text of at most `max_bytes` bytes, all of it printable: it ends in logs and on terminals."""

    max_bytes: int

    def write(self, value: Any) -> bytes:
        return Blob(self.max_bytes).write(value.encode())

    def read(self, source: Reader) -> str:
        try:
            text = Blob(self.max_bytes).read(source).decode()
        except UnicodeDecodeError:
            raise bad("a text is not UTF-8") from None
        if not text.isprintable():
            raise bad("a text holds signs that are no text")
        return text


class Array:
    """A numpy array of one dtype; `shape` gives each dimension, None where any size is allowed."""

    def __init__(self, dtype: str, *shape: int | None) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.shape = shape

    def write(self, value: Any) -> bytes:
        array = np.ascontiguousarray(value, dtype=self.dtype)
        if array.ndim != len(self.shape) or any(
            w is not None and w != g for w, g in zip(self.shape, array.shape, strict=True)
        ):
            raise ValueError(f"expected shape {self.shape}, got {array.shape}")
        return struct.pack(f"<{array.ndim}I", *array.shape) + array.tobytes()

    def read(self, source: Reader) -> Any:
        shape = struct.unpack(f"<{len(self.shape)}I", source.take(4 * len(self.shape)))
        if any(want is not None and want != got for want, got in zip(self.shape, shape, strict=True)):
            raise bad("an array has another shape than agreed")
        count = 1
        for size in shape:
            count *= size
        body = source.take(count * self.dtype.itemsize)
        return (
            np.frombuffer(body, dtype=self.dtype)
            .reshape(shape)
            .astype(self.dtype.newbyteorder("="), copy=False)
        )


class RowSets:
    """A list of sets of row numbers, each ascending, `(size,)` int64: as gaps of a byte or as bits, whichever is shorter.

    A gap byte of 255 says: 255 further, and on. Together the sets hold at most ROWS_IN_SETS_MAX rows.
    """

    def write(self, value: Any) -> bytes:
        parts = [_LENGTH.pack(len(value))]
        for rows in value:
            gaps, bits = _as_gaps(rows), int(rows[-1]) // 8 + 1 if len(rows) else 0
            if len(gaps) <= bits or not len(rows):
                parts += [b"\x00", _LENGTH.pack(len(gaps)), gaps]
            else:
                marks = np.zeros(8 * bits, dtype=np.uint8)
                marks[rows] = 1
                parts += [b"\x01", _LENGTH.pack(bits), np.packbits(marks).tobytes()]
        return b"".join(parts)

    def read(self, source: Reader) -> list[Any]:
        (count,) = _LENGTH.unpack(source.take(4))
        sets: list[Any] = []
        left = ROWS_IN_SETS_MAX
        for _ in range(count):
            form = source.take(1)[0]
            (size,) = _LENGTH.unpack(source.take(4))
            body = np.frombuffer(source.take(size), dtype=np.uint8)
            if form > 1 or size > ROWS_IN_SETS_MAX:
                raise bad("a set of rows has a form that does not exist")
            rows = _from_gaps(body) if form == 0 else np.flatnonzero(np.unpackbits(body))
            left -= len(rows)
            if left < 0:
                raise bad("sets of rows are larger than any may be")
            sets.append(rows)
        return sets


def _as_gaps(rows: Any) -> bytes:
    gaps = np.diff(rows, prepend=-1)
    if (gaps <= 0).any():
        raise ValueError("rows are not ascending")
    more, rest = np.divmod(gaps, 255)
    ends = np.cumsum(more + 1) - 1
    body = np.full(int(ends[-1]) + 1 if len(ends) else 0, 255, dtype=np.uint8)
    body[ends] = rest
    return body.tobytes()


def _from_gaps(body: Any) -> Any:
    ends = body != 255
    zeros = np.flatnonzero(body == 0)
    if len(body) and (not ends[-1] or (zeros == 0).any() or ends[zeros - 1].any()):
        raise bad("a set of rows does not ascend")
    return np.cumsum(body, dtype=np.int64)[ends] - 1


class Sealed:
    """Freshly randomised ciphertexts, each at most `max_width` bytes wide. A raw ciphertext cannot be put here."""

    def __init__(self, max_width: int) -> None:
        self.max_width = max_width

    def write(self, value: Any) -> bytes:
        if not isinstance(value, SealedCiphertexts):
            raise TypeError("only sealed ciphertexts may cross a line")
        return struct.pack("<II", *value.rows.shape) + value.rows.tobytes()

    def read(self, source: Reader) -> SealedCiphertexts:
        count, width = struct.unpack("<II", source.take(8))
        if not 0 < width <= self.max_width:
            raise bad("ciphertexts are wider than agreed")
        rows = np.frombuffer(source.take(count * width), dtype=np.uint8).reshape(count, width)
        return SealedCiphertexts(rows, freshly_randomised=True)


@dataclass(frozen=True)
class Message:
    """Base of all messages."""

    KIND: ClassVar[int]
    _layout: ClassVar[tuple[tuple[str, Encoding], ...]]

    def encode(self) -> bytes:
        parts = [_KIND.pack(self.KIND)]
        parts += [encoding.write(getattr(self, name)) for name, encoding in layout(type(self))]
        body = b"".join(parts)
        if len(body) > MESSAGE_MAX_BYTES:
            raise ValueError("the message is too long; send it in chunks")
        return body

    @classmethod
    def decode(cls, body: bytes) -> Self:
        source = Reader(body)
        (kind,) = _KIND.unpack(source.take(2))
        if kind != cls.KIND:
            raise bad(f"kind {kind:#06x} came where {cls.KIND:#06x} is due")
        values = {name: encoding.read(source) for name, encoding in layout(cls)}
        source.end()
        return cls(**values)


def layout(cls: type[Message]) -> tuple[tuple[str, Encoding], ...]:
    """Name and encoding of each field, in order; worked out once per class."""
    known: tuple[tuple[str, Encoding], ...] | None = cls.__dict__.get("_layout")
    if known is None:
        hints = get_type_hints(cls, include_extras=True)
        known = tuple((f.name, hints[f.name].__metadata__[0]) for f in fields(cls))
        cls._layout = known
    return known


@dataclass(frozen=True)
class Abort(Message):
    """The sender has stopped; `code` is that of its error and all that is said."""

    KIND: ClassVar[int] = 0x0001
    code: Annotated[str, Text(64)]


def kind_of(body: bytes) -> int:
    """The kind number of an encoded message."""
    return int(_KIND.unpack(Reader(body).take(2))[0])
