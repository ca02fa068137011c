"""Writes tests/vectors/secagg_plus.json, which another implementation of a device replays.

    python -m tests.protocols.secagg_plus_vectors

Every key and seed is SHA-256 of "isthmus/vectors/" and a label that the file names; devices stand in the order of their public
keys, each draws the keepers that follow it there, and the other coefficients of a polynomial are digests as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from isthmus.crypto.sharing import PRIME, evaluate
from isthmus.protocols import secagg_plus
from isthmus.protocols.secagg_plus import Device
from tests.cohorts import Fleet
from tests.sums import NOW_MS, secret

FILE = Path(__file__).parents[1] / "vectors" / "secagg_plus.json"
GONE, TOLD = 7, 0
"""The device that drops out after it has shared, and the one that the file tells of."""


class Fixed(Device):
    """Secrets, keepers and polynomials follow from the device's own key."""

    def fix(self, n: int) -> None:
        self.n = n
        private = [
            X25519PrivateKey.from_private_bytes(secret(f"secagg {what} key {n}"))
            for what in ("mask", "share")
        ]
        self._secrets = (private[0], private[1], secret(f"secagg seed {n}"))

    def _draw(self, others: list[int]) -> list[int]:
        count = self.terms.devices
        return sorted((self._own + 1 + step) % count for step in range(self.terms.degree))

    def _split(self, secret_: bytes) -> list[bytes]:
        others = [
            int.from_bytes(secret(f"secagg coefficient {secret_.hex()} {at}"), "little") % PRIME
            for at in range(1, self.terms.threshold)
        ]
        return evaluate(
            [int.from_bytes(secret_, "little"), *others], [keeper + 1 for keeper in self._keepers]
        )


def sharing() -> list[dict[str, Any]]:
    found = []
    for threshold, points in ((2, [1, 2, 3]), (4, [3, 9, 20, 300, 65535])):
        value = int.from_bytes(secret(f"shared {threshold}"), "little")
        others = [int.from_bytes(secret(f"coefficient {at}"), "little") for at in range(1, threshold)]
        shares = evaluate([value, *others], points)
        found.append(
            {
                "secret": secret(f"shared {threshold}").hex(),
                "threshold": threshold,
                "shares": [[p, s.hex()] for p, s in zip(points, shares, strict=True)],
            }
        )
    return found


def bad_shares() -> list[dict[str, Any]]:
    good, above = secret("share") + b"\0", PRIME.to_bytes(33, "little")
    return [
        {"why": "a number above the field", "shares": [[1, good.hex()], [2, above.hex()]]},
        {"why": "a byte short", "shares": [[1, good.hex()], [2, good[:-1].hex()]]},
        {"why": "the point of the secret", "shares": [[0, good.hex()], [2, good.hex()]]},
        {
            "why": "no secret of 32 bytes",
            "shares": [[p, s.hex()] for p, s in zip([1, 2], evaluate([2**256, 5], [1, 2]), strict=True)],
        },
    ]


def made() -> dict[str, Any]:
    fleet = Fleet(count=21, kind=Fixed)
    for n, device in enumerate(fleet.devices):
        assert isinstance(device, Fixed)
        device.fix(n)
    cohort, told, publics = fleet.cohort, fleet.devices[TOLD], [k.public for k in fleet.party]
    mask_key, share_key, seed = told._secrets or (None, None, b"")
    assert mask_key is not None
    assert share_key is not None
    keys = [device.keys() for device in fleet.devices]
    for one in keys:
        cohort.add_keys(one, NOW_MS)
    roster = cohort.roster()
    shares = [device.share(roster, NOW_MS) for device in fleet.devices]
    for public, sent in zip(publics, shares, strict=True):
        cohort.add_shares(public, sent)
    dealt = cohort.deal()
    masked = {}
    for n, (public, device) in enumerate(zip(publics, fleet.devices, strict=True)):
        if n != GONE:
            masked[n] = device.mask(dealt[public], fleet.values(n), fleet.weight(n))
            cohort.add_masked(public, masked[n])
    survivors = cohort.survivors()
    agreed = {n: fleet.devices[n].agree(survivors) for n in masked}
    for n, sent_ in agreed.items():
        cohort.add_agreed(publics[n], sent_)
    agreement = cohort.agreement()
    openings = {n: fleet.devices[n].open(agreement) for n in masked}
    for n, opening in openings.items():
        cohort.add_opening(publics[n], opening)
    opened = cohort.open().tolist()
    assert opened == fleet.sum_of(masked)
    others = sorted({*dealt[publics[TOLD]].senders.tolist(), *told._keepers})
    terms = fleet.terms
    return {
        "now_ms": NOW_MS,
        "what": "what one of 21 devices says and hears; the one with the number 7 shares and then drops out. A secret of "
        "32 bytes is SHA-256('isthmus/vectors/' + label): 'leader', 'authority' and 'device N' (Ed25519, numbered anew by public "
        "key), 'secagg mask key N' and 'secagg share key N' (X25519), 'secagg seed N', 'population', 'task', 'model' (digests). "
        "'common' is an X25519 secret; numbers count from 0, points of shares are numbers plus 1.",
        "terms": {
            "encoded": terms.encode().hex(),
            "digest": terms.digest.hex(),
            "length": terms.length,
            "width_bytes": terms.width_bytes,
            "devices": terms.devices,
            "degree": terms.degree,
            "threshold": terms.threshold,
        },
        "devices": [{"device": public.hex()} for public in publics],
        "roster": roster.encode().hex(),
        "device": {
            "device": publics[TOLD].hex(),
            "mask_key": mask_key.private_bytes_raw().hex(),
            "share_key": share_key.private_bytes_raw().hex(),
            "seed": seed.hex(),
            "keys": keys[TOLD].encode().hex(),
            "session": roster.session.hex(),
            "keepers": told._keepers,
            "shares": shares[TOLD].encode().hex(),
            "dealt": dealt[publics[TOLD]].encode().hex(),
            "pairs": [
                {
                    "number": n,
                    "device": publics[n].hex(),
                    "common": secagg_plus._common(mask_key, keys[n].mask_key).hex(),
                }
                for n in others
            ],
            "share_commons": {
                str(n): secagg_plus._common(share_key, keys[n].share_key).hex() for n in others
            },
            "values": fleet.values(TOLD).tolist(),
            "weight": fleet.weight(TOLD),
            "masked": masked[TOLD].encode().hex(),
            "survivors": survivors.encode().hex(),
            "agreed": agreed[TOLD].encode().hex(),
            "agreement": agreement.encode().hex(),
            "opening": openings[TOLD].encode().hex(),
        },
        "sum": opened,
        "sharing": sharing(),
        "bad_shares": bad_shares(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), indent=1) + "\n", "utf-8")
