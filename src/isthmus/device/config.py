"""What an app knows of its fleet before it speaks to anybody: built into the app, and the measure of everything that comes.

{"population": "album-phones", "app_version": "8.2", "leader": {"name": "cloud-co", "address": "fleet.example:8443",
 "key": "<hex>", "certificate": "-----BEGIN CERTIFICATE----- ..."}, "authority": "<hex>",
 "helpers": [{"name": "album-app", "signing": "<hex>", "sealing": "<hex>"}, ...], "epsilon_most": 4.0}
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from isthmus.base.errors import ConfigError, PeerError
from isthmus.base.typed_json import read
from isthmus.protocols.device_round import meets
from isthmus.protocols.secure_sum import HelperKey


@dataclass(frozen=True)
class LeaderCard:
    """Where the leader is, its key (Ed25519) and the one TLS certificate (PEM) that it may show."""

    name: str
    address: str
    key: bytes
    certificate: str

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)


@dataclass(frozen=True)
class Config:
    """`helpers`: all that this app accepts, each of another organisation; a task names two of them.

    `epsilon_most`: what all tasks together may cost this device, which counts by itself; None takes any task.

    Raises ConfigError `out_of_bounds` for what cannot be.
    """

    population: str
    app_version: str
    leader: LeaderCard
    authority: bytes
    helpers: tuple[HelperKey, ...]
    epsilon_most: float | None

    def __post_init__(self) -> None:
        keys = [key for helper in self.helpers for key in (helper.signing, helper.sealing)]
        host, _, port = self.leader.address.rpartition(":")
        wrong = (
            ("population", self.population, "a name", not self.population),
            ("leader.address", self.leader.address[:80], "HOST:PORT",
             not host or not port.isdigit() or not 0 < int(port) < 65536),
            ("leader.key", len(self.leader.key), "32 bytes", len(self.leader.key) != 32),
            ("authority", len(self.authority), "32 bytes", len(self.authority) != 32),
            ("helpers", len(self.helpers), "two or more, no two alike in name or key",
             len(self.helpers) < 2 or len({h.name for h in self.helpers}) != len(self.helpers)
             or len({*keys, self.leader.key}) != len(keys) + 1 or any(len(key) != 32 for key in keys)),
        )  # fmt: skip
        for field, value, allowed, is_wrong in wrong:
            if is_wrong:
                raise ConfigError("out_of_bounds", field=field, value=value, allowed=allowed)
        try:
            meets(self.app_version, "")
            meets(self.app_version, ">=0")
        except PeerError:
            raise ConfigError(
                "out_of_bounds",
                field="app_version",
                value=self.app_version[:40],
                allowed="numbers and points",
            ) from None
        try:
            ssl.PEM_cert_to_DER_cert(self.leader.certificate)
        except ValueError:
            raise ConfigError(
                "out_of_bounds", field="leader.certificate", value="no certificate", allowed="PEM"
            ) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Config:
        """Raises ConfigError `bad_document` or `out_of_bounds`."""
        body = text.encode() if isinstance(text, str) else text
        try:
            return read(cls, body)
        except ValueError as error:
            raise ConfigError("bad_document", where="the app's fleet file", why=str(error)[:200]) from None
