"""The only form in which ciphertexts may cross a line."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray


@final
class SealedCiphertexts:
    """Ciphertexts with fresh randomness, `(count, width)` bytes. Made by `seal_for_wire` of a cipher, or read off the wire.

    A message field of this type accepts nothing else, so a sum that still carries the partner's randomness cannot be
    sent by mistake.
    """

    __slots__ = ("_rows",)

    def __init__(self, rows: NDArray[np.uint8], *, freshly_randomised: bool) -> None:
        if not freshly_randomised:
            raise ValueError("only freshly randomised ciphertexts may cross a line")
        if rows.ndim != 2 or rows.dtype != np.uint8:
            raise TypeError("sealed ciphertexts are rows of bytes")
        self._rows = rows

    @property
    def rows(self) -> NDArray[np.uint8]:
        """`(count, width)` bytes, each row one little-endian ciphertext."""
        return self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"SealedCiphertexts({self._rows.shape[0]} x {self._rows.shape[1]} bytes)"
