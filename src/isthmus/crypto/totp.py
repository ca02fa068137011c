"""One-time codes of an authenticator app: TOTP (RFC 6238) over HOTP (RFC 4226), with SHA-1, steps of 30 s and six digits, which
is what every such app speaks. SHA-1 is used as a keyed function here (HMAC), where its collisions do not matter.
"""

from __future__ import annotations

import base64
import hmac
import struct
from urllib.parse import quote

STEP_S = 30
DIGITS = 6
SECRET_BYTES = 20


def code_at(secret: bytes, step: int, digits: int = DIGITS) -> str:
    """The code of one step: section 5.3 of RFC 4226."""
    mac = hmac.digest(secret, struct.pack(">Q", step), "sha1")
    at = mac[-1] & 15
    number = struct.unpack(">I", mac[at : at + 4])[0] & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def step_of(secret: bytes, code: str, now_s: float, used: int) -> int | None:
    """The step whose code this is, among the one of `now_s` (Unix time) and its two neighbours; None if it is none of them,
    or one that is not above `used`: a code opens once."""
    now = int(now_s) // STEP_S
    found = None
    for step in (now - 1, now, now + 1):
        if hmac.compare_digest(code_at(secret, step).encode(), code.encode()) and step > used:
            found = step
    return found


def app_text(secret: bytes) -> str:
    """The secret as people type it into an app: base 32, without padding."""
    return base64.b32encode(secret).decode().rstrip("=")


def app_address(secret: bytes, party: str, name: str) -> str:
    """The `otpauth` address that apps read."""
    return f"otpauth://totp/{quote(f'{party}:{name}')}?secret={app_text(secret)}&issuer={quote(party)}"
