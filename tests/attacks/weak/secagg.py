"""Devices and terms of sums without a helper that leave out one rule each; everything else is the product's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from isthmus.crypto.sharing import SHARE_BYTES
from isthmus.protocols.secagg_plus import Device, Phase, Terms


class AnyTerms(Terms):
    """Takes any number of keepers and any threshold."""

    def __post_init__(self) -> None: ...


class Patient(Device):
    """Takes every step as often as it is asked, and keeps its secrets."""

    @contextmanager
    def _step(self, due: Phase) -> Iterator[tuple[X25519PrivateKey, X25519PrivateKey, bytes]]:
        assert self._secrets is not None
        yield self._secrets


class Credulous(Device):
    """Asks for nobody's signature and no quorum before it opens."""

    def _signed(self, numbers: list[int], signatures: NDArray[np.uint8], words: bytes) -> None: ...

    def _enough(self, numbers: list[int]) -> list[int]:
        return numbers


class Obedient(Device):
    """Lets the leader say who keeps its shares."""

    told: list[int]

    def _draw(self, others: list[int]) -> list[int]:
        return self.told


class TwoLists(Device):
    """Is told who is alive and who is dead, and does not compare the lists."""

    def open_lists(self, alive: list[int], dead: list[int]) -> tuple[dict[int, bytes], dict[int, bytes]]:
        """Shares of seeds and of mask keys, by owner."""
        assert self._secrets is not None
        _, share_key, _ = self._secrets
        bodies = {
            n: self._cipher(share_key, n, to=False).decrypt(bytes(12), sealed, None)
            for n, sealed in self._kept.items()
        }
        seeds = {n: body[SHARE_BYTES:] for n, body in bodies.items() if n in alive}
        return seeds, {n: body[:SHARE_BYTES] for n, body in bodies.items() if n in dead}
