"""The device SDK: what an app calls so that its phones take part in a fleet. Standard library, NumPy and cryptography only."""

from __future__ import annotations

from isthmus.device.config import Config, LeaderCard
from isthmus.device.keys import FileKeyStore, KeyStore
from isthmus.device.sdk import Device, Latest, Login, Ready, enrol
from isthmus.device.words import Sent
from isthmus.device.work import Told, Work
from isthmus.protocols.device_round import Conditions
from isthmus.protocols.secure_sum import HelperKey, Ticket

__all__ = [
    "Conditions",
    "Config",
    "Device",
    "FileKeyStore",
    "HelperKey",
    "KeyStore",
    "Latest",
    "LeaderCard",
    "Login",
    "Ready",
    "Sent",
    "Ticket",
    "Told",
    "Work",
    "enrol",
]
