"""A leader for one device, over real TLS, that says whatever a test wants; it holds the helpers' keys, so it can read reports."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.base.typed_json import read, write
from isthmus.crypto.hpke import SealingKey
from isthmus.crypto.seal import PartyKey, verify
from isthmus.device import Conditions, Config, Device, FileKeyStore, HelperKey, LeaderCard, Ticket, enrol
from isthmus.learn.head import Head
from isthmus.protocols import secure_sum
from isthmus.protocols.device_round import (
    DEVICE_HEADER,
    PATH,
    SIGNATURE_HEADER,
    Answer,
    CheckIn,
    Eligible,
    Enrol,
    Example,
    Layer,
    Local,
    Manifest,
    Offer,
    Privacy,
    Receipt,
    Refused,
    Release,
    Round,
    Signed,
    Sums,
    pack_blob,
    population_digest,
    request_text,
    sign_paper,
    terms_of,
    vector_bytes,
)
from isthmus.protocols.secure_sum import Report, ticket
from isthmus.wire.https import make_certificate

READY = Conditions(charging=True, unmetered=True, idle=True, free_mb=1000, battery_c=20.0)
FAR_MS = 4_000_000_000_000
SEED = bytes(range(32))
INPUTS = 3


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, tzinfo=UTC)

    def monotonic_s(self) -> float:
        return self.at.timestamp()

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    @property
    def ms(self) -> int:
        return round(self.at.timestamp() * 1000)


@dataclass
class FakeLeader:
    """`offer` and `release` are what the next check-ins are answered with; `reply`, if set, answers in its place."""

    folder: Path
    clock: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key, self.authority = PartyKey.generate(), PartyKey.generate()
        self.helper_keys = [(PartyKey.generate(), SealingKey.generate()) for _ in range(2)]
        self.certificate, tls_key = make_certificate("leader", ["127.0.0.1"])
        (self.folder / "tls.pem").write_bytes(self.certificate)
        (self.folder / "tls.key").write_bytes(tls_key)
        self.port = 0
        self.offer: Offer | None = None
        self.release: Signed | None = None
        self.stopped = False
        self.reply: Callable[[str, bytes], tuple[int, bytes] | None] = lambda path, body: None
        self.asked: list[str] = []
        self.check_ins: list[CheckIn] = []
        self.enrolled: set[bytes] = set()
        self.reports: list[bytes] = []
        self.forgotten: list[bytes] = []
        self.blobs: dict[bytes, bytes] = {}
        self.based: list[str] = []

    # --- papers ---

    @property
    def helpers(self) -> tuple[HelperKey, HelperKey]:
        first, second = (
            HelperKey(name, signing.public, sealing.public)
            for name, (signing, sealing) in zip(("album-app", "audit-house"), self.helper_keys, strict=True)
        )
        return first, second

    def manifest(self, **changed: Any) -> Manifest:
        made = Manifest(
            version=1,
            name="taste",
            purpose="Rank photos by how much a person will like them",
            population="phones",
            leader_name="cloud-co",
            leader=self.key.public,
            authority=self.authority.public,
            helpers=self.helpers,
            valid_until_ms=self.clock.ms + 90 * 86_400_000,
            app_version=">=8.2",
            eligible=Eligible(True, True, True, 50, 40.0),
            example=Example({"embedding": INPUTS}, {"share": 1.0, "delete": -1.0}, 1.0, False, 10, 30),
            layers=(Layer("layer_norm", (INPUTS,)), Layer("dense", (1,)), Layer("sigmoid", ())),
            loss="bce",
            personal_head=True,
            parameters=2 * INPUTS + INPUTS + 1,
            local=Local(3, 4, "sgd", 0.5, 0.0, 1.0, None, False),
            sums=Sums(12, False, 0, 4, 4, 1),
            privacy=Privacy(0.0, 0.0, None, None, True),
            reports_min=20,
            per_device_max=4,
            min_gap_s=0,
            rounds=10,
            metrics=("accuracy", "auc_per_device"),
        )
        return replace(made, **changed)

    def head(self, manifest: Manifest) -> Head:
        return Head.from_layers([each.written for each in manifest.layers], INPUTS, manifest.loss)

    def keep(self, vector: NDArray[np.floating[Any]]) -> bytes:
        body = vector_bytes(vector.astype(np.float32))
        name = hashlib.sha256(body).digest()
        self.blobs[name] = pack_blob(body)
        return name

    def show(self, manifest: Manifest, number: int = 1, kind: str = "train", model: Any = None) -> Offer:
        """Signs a task and offers a round of it."""
        self.blobs[manifest.digest] = pack_blob(write(sign_paper(manifest, self.key)))
        if model is None:
            model = self.head(manifest).init(SEED)
        models = (self.keep(model),) * (1 if kind == "train" else 2)
        control = (
            self.keep(np.zeros(manifest.parameters)) if manifest.local.corrected and kind == "train" else None
        )
        shown = Round(manifest.digest, number, kind, models, control)
        self.offer = Offer(shown, self.clock.ms + 3_600_000)
        return self.offer

    def publish(self, manifest: Manifest, model: NDArray[np.float32], number: int) -> None:
        self.blobs[manifest.digest] = pack_blob(write(sign_paper(manifest, self.key)))
        self.release = sign_paper(Release("phones", manifest.digest, self.keep(model), number), self.key)

    def opened(self, manifest: Manifest, offer: Offer, body: bytes) -> NDArray[np.int64]:
        """What is in a report: both helpers' masks taken off."""
        report, terms = Report.decode(body), terms_of(manifest, offer.round)
        words = terms.ring.unpack(report.masked)
        for place, (_, sealing) in enumerate(self.helper_keys):
            seed = sealing.open(
                report.sealed[place].tobytes(), secure_sum._seed_words(terms, report.id, place)
            )
            words = words - secure_sum._mask_of(terms, report.id, seed)
        cut = words & words.dtype.type(256**terms.width_bytes - 1)
        return terms.ring.lower(cut)

    # --- the device's side ---

    def config(self, **changed: Any) -> Config:
        card = LeaderCard("cloud-co", f"127.0.0.1:{self.port}", self.key.public, self.certificate.decode())
        return replace(Config("phones", "8.2", card, self.authority.public, self.helpers, None), **changed)

    def login(self, device: bytes) -> Ticket:
        return ticket(self.authority, population_digest("phones", self.key.public), device, FAR_MS)

    def device(self, name: str = "phone", config: Config | None = None) -> Device:
        folder = self.folder / name
        keystore = FileKeyStore(folder / "device.key")
        return enrol(config or self.config(), keystore, self.login, folder, self.clock)

    # --- the listener ---

    @contextmanager
    def listening(self) -> Iterator[FakeLeader]:
        leader = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers["Content-Length"])))

            def do_GET(self) -> None:
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                device = bytes.fromhex(self.headers[DEVICE_HEADER])
                signed = request_text(leader.key.public, self.path, body)
                verify(device, bytes.fromhex(self.headers[SIGNATURE_HEADER]), signed, "a device")
                found = leader.answer(device, self.path, body)
                if found is None:
                    self.close_connection = True
                    return
                self.send_response(found[0])
                self.send_header("Content-Length", str(len(found[1])))
                self.end_headers()
                self.wfile.write(found[1])

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda request, address: None  # type: ignore[method-assign, assignment]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.folder / "tls.pem", self.folder / "tls.key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, device: bytes, path: str, body: bytes) -> tuple[int, bytes] | None:
        """Status and body; None breaks the connection off."""
        self.asked.append(path)
        if (said := self.reply(path, body)) is not None:
            return said if said[0] else None
        what = path.removeprefix(PATH)
        if what == "enrol":
            read(Enrol, body)
            self.enrolled.add(device)
            return 200, b""
        if device not in self.enrolled:
            return 401, write(Refused("unknown_device", False))
        if what == "check-in":
            self.check_ins.append(read(CheckIn, body))
            return 200, write(Answer(self.offer, 60_000, self.release, self.stopped))
        if what == "reports":
            self.reports.append(body)
            report = Report.decode(body)
            receipt = Receipt(report.id, report.task, report.round, len(report.masked), self.clock.ms)
            return 200, write(sign_paper(receipt, self.key))
        if what == "forget":
            self.forgotten.append(device)
            self.enrolled.discard(device)
            return 200, b""
        name, _, base = what.removeprefix("blobs/").partition("?from=")
        if base:
            self.based.append(base)
        found = self.blobs.get(bytes.fromhex(name))
        return (200, found) if found else (404, write(Refused("not_found", False)))


def live(device: Device, items: int = 40, seed: int = 3) -> NDArray[np.float64]:
    """A person who shares what points along the first axis; gives the features."""
    x = np.random.default_rng(seed).normal(size=(items, INPUTS))
    for i, features in enumerate(x):
        kept = device.observe(
            f"photo-{i}", {"embedding": features.tolist()}, "share" if features[0] > 0 else "shown"
        )
        assert kept
    return x
