"""What a device and the leader of a fleet say to each other, and the signed papers that both sides hold.

    device                                   leader
      |  1  enrol: population, ticket          |     once; the ticket comes from the app's own sign-in
      |--------------------------------------->|
      |  2  check-in: version, conditions      |     when the app lets it work
      |--------------------------------------->|
      |     offer: task, round | come back     |
      |<---------------------------------------|
      |  3  manifest and model, by their digest|     cached; a delta where that is shorter
      |<---------------------------------------|
      |     trains                             |
      |  4  report (protocols/secure_sum.py)   |     once; sent again it is the same bytes
      |--------------------------------------->|
      |     receipt                            |     signed
      |<---------------------------------------|

Every request is signed with the key of the device over its path and body, for this leader. A task is a manifest that its
leader has signed; its digest, the round and everything that the round shows (`Round.shown`) go into the masks of a report, so
that reports to different tasks or models do not add up. Requests hold no figure of the person: how many examples a device has
it checks by itself.

Leaks: the leader learns which device (a key) checked in, took part and fell out, and when. A device learns the model, the
task and its own receipts.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from math import hypot, sqrt
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from isthmus.base.canonical import digest
from isthmus.base.errors import ConfigError, PeerError
from isthmus.base.typed_json import plain, read, write
from isthmus.crypto.seal import PartyKey, verify
from isthmus.learn.quantise import Encoding
from isthmus.protocols.secure_sum import HelperKey, Terms

PATH: Final = "/device/v1/"
DEVICE_HEADER: Final = "Isthmus-Device"
SIGNATURE_HEADER: Final = "Isthmus-Signature"

PARAMETERS_MAX: Final = 1_000_000
JSON_MAX_BYTES: Final = 256 * 2**10
BLOB_MAX_BYTES: Final = 4 * PARAMETERS_MAX + 1024
COHORT_LEAST: Final = 20
CLIP_REACH: Final = 1000.0
"""A bound that follows the norms stays within this factor of the one that the task begins with."""
LAYER_KINDS: Final = ("layer_norm", "dense", "relu", "tanh", "embedding", "sigmoid", "softmax")

TRAIN: Final = "train"
EVALUATE: Final = "evaluate"
SCORERS: Final = ("local_only", "current", "candidate", "personal")
"""Whose scores an evaluation round measures on each device: a head of its own data alone, the model in use, the candidate, and
the candidate with the personal head on top. A task without personal heads measures no "personal"."""
METRIC_SCALE: Final = 1024
"""A metric in [0, 1] travels as a whole number of this many parts."""
METRICS: Final = ("accuracy", "auc_per_device", "hit_top3")

_REQUEST = b"isthmus/device/request/v1\0"
_MANIFEST = b"isthmus/device/manifest/v1\0"
_RELEASE = b"isthmus/device/release/v1\0"
_RECEIPT = b"isthmus/device/receipt/v1\0"
_POPULATION = b"isthmus/device/population/v1\0"
_DELTA: Final = b"D"
_WHOLE: Final = b"W"

T = TypeVar("T")


# ── papers: what is signed once and read by all ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Layer:
    """One layer of the head; `sizes`: outputs of a dense layer, rows and columns of an embedding, inputs of a layer norm."""

    kind: str
    sizes: tuple[int, ...]

    @property
    def written(self) -> str | dict[str, int | list[int]]:
        """As a task file has it: relu, {dense: 64}, {embedding: [100, 8]}."""
        if not self.sizes:
            return self.kind
        return {self.kind: self.sizes[0] if len(self.sizes) == 1 else list(self.sizes)}


@dataclass(frozen=True)
class Example:
    """What becomes an example on the device: named features and their sizes, points of each event, points of a like."""

    features: dict[str, int]
    events: dict[str, float]
    like: float
    position_correction: bool
    min_per_device: int
    keep_days: int


@dataclass(frozen=True)
class Local:
    """The training on the device."""

    epochs: int
    batch: int
    optimiser: str
    learning_rate: float
    proximal: float
    clip_norm: float
    clip_quantile: float | None
    """With it the bound follows this quantile of the norms from round to round, and a report says on which side its own lay."""
    corrected: bool
    """With control variates (SCAFFOLD): a report holds two vectors."""


@dataclass(frozen=True)
class Eligible:
    """Under which conditions a device works; a condition that is false here is not asked for."""

    charging: bool
    unmetered: bool
    idle: bool
    free_mb: int
    battery_max_c: float


@dataclass(frozen=True)
class Sums:
    """How an update becomes whole numbers. `width_bytes`: of a word of the ring, in training and in evaluation."""

    bits: int
    rotate: bool
    kept: int
    """Words of a vector that are sent, the same for all devices, chosen anew in each round; 0 is all."""
    width_bytes: int
    evaluate_width_bytes: int
    weight_max: int


@dataclass(frozen=True)
class Privacy:
    """Noise of each helper in training and in evaluation, in the ring's integers; 0 is none. The budget is per device."""

    noise_std: float
    evaluate_noise_std: float
    epsilon: float | None
    delta: float | None
    receipts: bool


@dataclass(frozen=True)
class Manifest:
    """A task, as its leader signs it and devices and helpers keep it. Times are Unix milliseconds."""

    version: int
    name: str
    purpose: str
    population: str
    leader_name: str
    leader: bytes
    authority: bytes
    helpers: tuple[HelperKey, ...]
    valid_until_ms: int
    app_version: str
    eligible: Eligible
    example: Example
    layers: tuple[Layer, ...]
    loss: str
    personal_head: bool
    parameters: int
    local: Local
    sums: Sums
    privacy: Privacy
    reports_min: int
    per_device_max: int
    min_gap_s: int
    rounds: int
    metrics: tuple[str, ...]
    """What evaluation rounds sum: a count of examples and devices, and these."""

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that name the task."""
        return hashlib.sha256(_MANIFEST + write(self)).digest()


@dataclass(frozen=True)
class Round:
    """One round of a task, `train` or `evaluate`. `models`: digests of what is trained on (one) or measured (current, candidate);
    `control`: of the server's control variate (SCAFFOLD)."""

    task: bytes
    number: int
    kind: str
    models: tuple[bytes, ...]
    control: bytes | None
    clip: float = 0.0
    """The bound on an update's norm in a training round; 0 is that of the task."""

    @cached_property
    def shown(self) -> bytes:
        """32 bytes that stand for everything a device is shown in this round; bound into its masks."""
        return digest(plain(self))


@dataclass(frozen=True)
class Release:
    """A model that devices use. `number` rises; a device takes no older one unless it was rolled back by a higher number."""

    population: str
    task: bytes
    model: bytes
    number: int


@dataclass(frozen=True)
class Receipt:
    """What the leader says it has got."""

    report: bytes
    task: bytes
    round: int
    bytes: int
    received_ms: int


Paper = Manifest | Release | Receipt


@dataclass(frozen=True)
class Signed:
    """A paper and its leader's signature."""

    paper: str
    signature: bytes


_LABELS: Final = {Manifest: _MANIFEST, Release: _RELEASE, Receipt: _RECEIPT}


def sign_paper(paper: Paper, leader: PartyKey) -> Signed:
    body = write(paper)
    return Signed(body.decode(), leader.sign(_LABELS[type(paper)] + body))


def read_paper(cls: type[T], signed: Signed, leader: bytes) -> T:
    """The paper, if `leader` (Ed25519 public key) signed it. Raises PeerError `bad_signature`, `bad_message`."""
    label = next(text for kind, text in _LABELS.items() if kind is cls)
    body = signed.paper.encode()
    verify(leader, signed.signature, label + body, "leader")
    return read_body(cls, body)


def check_manifest(manifest: Manifest) -> None:
    """What a device and a helper refuse whatever the leader has signed: PeerError `bad_message` that names the field."""
    m = manifest
    wrong = (
        ("version", m.version != 1),
        ("helpers", len(m.helpers) != 2 or len({h.signing for h in m.helpers} | {m.leader}) != 3),
        ("helpers", len({h.sealing for h in m.helpers}) != 2 or len({h.name for h in m.helpers}) != 2),
        ("reports_min", not COHORT_LEAST <= m.reports_min <= 100_000),
        ("per_device_max", not 1 <= m.per_device_max <= 50),
        ("min_gap_s", not 0 <= m.min_gap_s <= 366 * 86_400),
        ("rounds", not 1 <= m.rounds <= 1000),
        ("parameters", not 1 <= m.parameters <= PARAMETERS_MAX),
        ("layers", not 1 <= len(m.layers) <= 32 or any(each.kind not in LAYER_KINDS for each in m.layers)),
        ("local.epochs", not 1 <= m.local.epochs <= 20),
        ("local.batch", not 4 <= m.local.batch <= 256),
        ("local.clip_norm", not 0 < m.local.clip_norm <= 1e6),
        (
            "local.clip_quantile",
            m.local.clip_quantile is not None and not 0.05 <= m.local.clip_quantile <= 0.95,
        ),
        ("sums.kept", not 0 <= m.sums.kept <= m.parameters or (m.sums.kept > 0 and not m.sums.rotate)),
        ("local.learning_rate", not 0 < m.local.learning_rate <= 100),
        ("local.proximal", not 0 <= m.local.proximal <= 100),
        ("sums.bits", not 8 <= m.sums.bits <= 16),
        ("sums.width_bytes", not 2 <= m.sums.width_bytes <= 8),
        ("sums.evaluate_width_bytes", not 2 <= m.sums.evaluate_width_bytes <= 8),
        ("sums.weight_max", not 1 <= m.sums.weight_max <= 1000),
        ("privacy.noise_std", not 0 <= m.privacy.noise_std <= 2**40),
        ("privacy.evaluate_noise_std", not 0 <= m.privacy.evaluate_noise_std <= 2**40),
        ("privacy.epsilon", (m.privacy.epsilon is None) != (m.privacy.delta is None)),
        ("privacy.epsilon", m.privacy.epsilon is not None and not m.privacy.noise_std > 0),
        ("example.min_per_device", not 5 <= m.example.min_per_device <= 10_000),
        ("example.keep_days", not 1 <= m.example.keep_days <= 365),
    )
    for field, is_wrong in wrong:
        if is_wrong:
            raise PeerError("bad_message", why=f"the task's {field} is not allowed")


def terms_of(manifest: Manifest, round: Round) -> Terms:
    """What everybody agrees on in this round."""
    training = round.kind == TRAIN
    sums, privacy = manifest.sums, manifest.privacy
    return Terms(
        population=population_digest(manifest.population, manifest.leader),
        task=manifest.digest,
        round=round.number,
        model=round.shown,
        length=report_length(manifest, round),
        width_bytes=sums.width_bytes if training else sums.evaluate_width_bytes,
        reports_min=manifest.reports_min,
        weight_max=sums.weight_max if training else 1,
        per_device_max=manifest.per_device_max,
        noise_std=privacy.noise_std if training else privacy.evaluate_noise_std,
        leader=manifest.leader,
        authority=manifest.authority,
        helpers=(manifest.helpers[0], manifest.helpers[1]),
    )


def scorers_of(manifest: Manifest) -> tuple[str, ...]:
    return SCORERS if manifest.personal_head else SCORERS[:-1]


def evaluation_length(manifest: Manifest) -> int:
    """Words of a report of an evaluation round: every metric of every scorer, scorer by scorer. A device whose examples allow
    no AUC (one class only) sends half of the scale for it."""
    return len(scorers_of(manifest)) * len(manifest.metrics)


def encodings(manifest: Manifest, round: Round) -> tuple[Encoding, ...]:
    """How a training report writes its vectors, one after another: the change of the parameters, and with SCAFFOLD that of the
    control variate. The rotation, and which words are kept, follow from what the round shows."""
    one = _encoding(manifest, round.clip or manifest.local.clip_norm, round.shown)
    return (one, one) if manifest.local.corrected else (one,)


def _encoding(manifest: Manifest, clip: float, seed: bytes) -> Encoding:
    sums = manifest.sums
    return Encoding.fitted(
        manifest.parameters, sums.bits, clip, seed if sums.rotate else None, sums.kept or None
    )


def sign_of(manifest: Manifest) -> int:
    """The size of the word with which a training report says whether its update was within the bound; 0: there is none."""
    if manifest.local.clip_quantile is None:
        return 0
    # A tenth of the update's own reach makes the noise 0.5 % larger.
    return max(1, round(_encoding(manifest, manifest.local.clip_norm, bytes(32)).sensitivity / 10))


def sensitivities(manifest: Manifest) -> tuple[float, float]:
    """How far one report of weight 1 can move the sums of a training and of an evaluation round (L2, in the ring's integers)."""
    one = _encoding(manifest, manifest.local.clip_norm, bytes(32)).sensitivity
    training = hypot(one, one if manifest.local.corrected else 0.0, sign_of(manifest))
    return training, METRIC_SCALE * sqrt(evaluation_length(manifest))


def report_length(manifest: Manifest, round: Round) -> int:
    """Words of a report."""
    if round.kind == EVALUATE:
        return evaluation_length(manifest)
    return sum(encoding.words for encoding in encodings(manifest, round)) + bool(sign_of(manifest))


def population_digest(name: str, leader: bytes) -> bytes:
    """What a ticket is made out for: this population of this leader."""
    return hashlib.sha256(_POPULATION + leader + name.encode()).digest()


# ── 1 to 4: requests and answers ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Enrol:
    """1. `ticket` and `expires_ms` come from the app's sign-in and name the key that signs this request."""

    population: str
    ticket: bytes
    expires_ms: int
    app_version: str


@dataclass(frozen=True)
class Conditions:
    """How the device is, as the app says; `free_mb` is told only up to 1,000."""

    charging: bool
    unmetered: bool
    idle: bool
    free_mb: int
    battery_c: float


@dataclass(frozen=True)
class Outcome:
    """What became of the offer before: uploaded, late, too_few_examples, not_eligible, interrupted, refused, failed."""

    task: bytes
    round: int
    what: str


OUTCOMES: Final = (
    "uploaded",
    "late",
    "too_few_examples",
    "not_eligible",
    "interrupted",
    "refused",
    "failed",
)


@dataclass(frozen=True)
class CheckIn:
    """2."""

    population: str
    app_version: str
    conditions: Conditions
    outcome: Outcome | None
    release: int
    """The number of the release that the device uses; 0 is none."""


@dataclass(frozen=True)
class Offer:
    """Work for one device: upload until `deadline_ms`. The manifest is the blob that `round.task` names."""

    round: Round
    deadline_ms: int


@dataclass(frozen=True)
class Answer:
    """To a check-in. `manifest`: of the release's task, a blob. `stopped`: the kill switch of the population is thrown."""

    offer: Offer | None
    retry_after_ms: int
    release: Signed | None
    stopped: bool


@dataclass(frozen=True)
class Refused:
    """Why a request was not taken: a code of the catalogue of errors. `retry`: the same bytes may be sent again."""

    code: str
    retry: bool


def request_text(leader: bytes, path: str, body: bytes) -> bytes:
    """What a device signs in every request."""
    return _REQUEST + leader + path.encode() + b"\0" + hashlib.sha256(body).digest()


def read_body(cls: type[T], body: bytes) -> T:
    """A JSON body from outside. Raises PeerError `bad_message`."""
    if len(body) > JSON_MAX_BYTES:
        raise PeerError("bad_message", why="it is longer than allowed")
    try:
        return read(cls, body)
    except ValueError as error:
        raise PeerError("bad_message", why=str(error)[:200]) from None


# ── blobs: models by their digest ────────────────────────────────────────────────────────────────────────────────────────

Vector = NDArray[np.float32]


def vector_bytes(vector: Vector) -> bytes:
    """float32, little-endian; the digest of a model is the SHA-256 of these bytes."""
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def vector_of(body: bytes) -> Vector:
    """Raises PeerError `bad_message` for a length or a value that no model has."""
    if not 0 < len(body) <= 4 * 2 * PARAMETERS_MAX or len(body) % 4:
        raise PeerError("bad_message", why="a model has a wrong length")
    vector = np.frombuffer(body, dtype="<f4").astype(np.float32)
    if not np.isfinite(vector).all():
        raise PeerError("bad_message", why="a model has values that are not finite")
    return vector


def pack_blob(body: bytes, base: bytes | None = None) -> bytes:
    """`body` for the wire: deflated, as the bits that differ from `base` (equally long) where that is shorter."""
    whole = _WHOLE + _deflate(body)
    if base is None or len(base) != len(body):
        return whole
    delta = _DELTA + _deflate(_shuffled(_xor(body, base)))
    return min(whole, delta, key=len)


def unpack_blob(packed: bytes, name: bytes | None, base: bytes | None = None) -> bytes:
    """The blob whose SHA-256 is `name`; None for a signed task, which shows by itself whether it is the one that was asked for.

    Raises PeerError `content_mismatch`, `bad_message`.
    """
    if not packed or packed[:1] not in (_WHOLE, _DELTA) or (packed[:1] == _DELTA and base is None):
        raise PeerError("bad_message", why="a blob is packed in an unknown way")
    body = _inflate(packed[1:])
    if packed[:1] == _DELTA and base is not None:
        if len(body) != len(base):
            raise PeerError("bad_message", why="a delta does not fit what it is for")
        body = _xor(_unshuffled(body), base)
    if name is not None and hashlib.sha256(body).digest() != name:
        raise PeerError("content_mismatch", what="a blob")
    return body


def _xor(one: bytes, other: bytes) -> bytes:
    return np.bitwise_xor(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)).tobytes()


def _shuffled(body: bytes) -> bytes:
    """Highest bytes of all words together: they are alike, so they deflate well."""
    if len(body) % 4:
        return body
    return np.frombuffer(body, np.uint8).reshape(-1, 4).T.tobytes()


def _unshuffled(body: bytes) -> bytes:
    if len(body) % 4:
        return body
    return np.frombuffer(body, np.uint8).reshape(4, -1).T.tobytes()


def _deflate(body: bytes) -> bytes:
    return zlib.compress(body, 6)


def _inflate(body: bytes) -> bytes:
    machine = zlib.decompressobj()
    try:
        found = machine.decompress(body, 2 * BLOB_MAX_BYTES)
    except zlib.error:
        raise PeerError("bad_message", why="a blob is not deflated") from None
    if not machine.eof or machine.unused_data:
        raise PeerError("bad_message", why="a blob is longer than allowed, or cut")
    return found


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def meets(version: str, rule: str) -> bool:
    """Whether an app's version (numbers and points) meets a rule such as ">=8.2", "==8.3.1" or "" for any."""
    if not rule:
        return True
    sign, wanted = rule[:2], rule[2:]
    have, want = _numbers(version), _numbers(wanted)
    size = max(len(have), len(want))
    have, want = have + (0,) * (size - len(have)), want + (0,) * (size - len(want))
    if sign == ">=":
        return have >= want
    if sign == "==":
        return have == want
    raise ConfigError("out_of_bounds", field="fleet.app_version", value=rule[:40], allowed=">=1.2 or ==1.2.3")


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    if not 1 <= len(parts) <= 6 or not all(p.isascii() and p.isdigit() and len(p) <= 9 for p in parts):
        raise PeerError("bad_message", why="an app's version is not numbers and points")
    return tuple(map(int, parts))
