"""Probes of a node and of the path to a partner: a measured value, ok, warn or fail, and the cure."""

from __future__ import annotations

import platform
import shutil
import sqlite3
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

from cryptography import x509

import isthmus
from isthmus.base.errors import IsthmusError
from isthmus.service.rates import Rates
from isthmus.store.folder import NodeFolder
from isthmus.wire.link import LinkState, Probe

DISK_WARN_BYTES = 2 * 2**30
CLOCK_WARN_S = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor."""

    probe: str
    value: str
    verdict: Literal["ok", "warn", "fail"] = "ok"
    cure: str = ""


class Path(Protocol):
    """What the doctor asks the link."""

    def state(self, partner_name: str) -> LinkState: ...

    async def probe(self, partner_name: str) -> Probe: ...


def examine_node(folder: NodeFolder, language: str) -> list[Finding]:
    """Everything that can be seen without a partner. Works while the node is down."""
    zh = language == "zh"
    findings = [
        Finding("isthmus", isthmus.__version__),
        Finding("python", platform.python_version()),
        Finding("sqlite", sqlite3.sqlite_version),
        Finding("tls", ssl.OPENSSL_VERSION),
        Finding("clock", datetime.now(UTC).isoformat(timespec="seconds")),
        _disk(folder, zh),
    ]
    try:
        config = folder.config()
        folder.check_modes()
        findings.append(Finding("files", "0600"))
    except IsthmusError as error:
        findings.append(Finding("files", error.sentence(language), "fail", error.hint(language)))
        return findings
    findings.append(Finding("database", config.database))
    findings.append(Finding("mode", config.mode + (f" {config.listen}" if config.listen else "")))
    if config.mode == "direct":
        findings.append(_certificate(folder, zh))
    return findings + [Finding("data", data) for data in config.data]


async def examine_partner(path: Path, partner: str, language: str, rates: Rates) -> list[Finding]:
    """Line, version, clock and sizes, measured now; plans count with the figures from now on."""
    zh = language == "zh"
    try:
        probe = await rates.measure(partner)
        state = path.state(partner)
    except IsthmusError as error:
        return [Finding(f"line to {partner}", error.sentence(language), "fail", error.hint(language))]
    way = (
        ("dials" if state.dials else "is dialled")
        if not zh
        else ("主动连接" if state.dials else "等待对方连接")
    )
    findings = [
        Finding(f"line to {partner}", f"connected, this node {way}" if not zh else f"已连接，本节点{way}")
    ]
    if probe.version is not None:
        findings.append(Finding("link version", str(probe.version)))
    if probe.round_trip_s is not None:
        findings.append(Finding("round trip", f"{probe.round_trip_s * 1000:.1f} ms"))
    if probe.clock_offset_s is not None:
        bad = abs(probe.clock_offset_s) > CLOCK_WARN_S
        cure = "校准两侧的系统时钟。" if zh else "Set the clocks of both machines."
        value = f"{probe.clock_offset_s:+.1f} s"
        findings.append(Finding("partner clock", value, "warn" if bad else "ok", cure if bad else ""))
    if probe.largest_body_bytes is not None:
        findings.append(Finding("largest body", f"{probe.largest_body_bytes // 1024} KiB"))
    for name, rate in (("up", probe.up_bytes_per_s), ("down", probe.down_bytes_per_s)):
        if rate is not None:
            findings.append(Finding(name, f"{rate * 8 / 1e6:.0f} Mbit/s"))
    return findings


def _disk(folder: NodeFolder, zh: bool) -> Finding:
    home = folder.home if folder.home.exists() else folder.home.parent
    free = shutil.disk_usage(home if home.exists() else "/").free
    if free < DISK_WARN_BYTES:
        cure = "请释放磁盘空间。" if zh else "Free some space."
        return Finding("disk", f"{free / 2**30:.1f} GiB", "warn", cure)
    return Finding("disk", f"{free / 2**30:.1f} GiB")


def _certificate(folder: NodeFolder, zh: bool) -> Finding:
    if not folder.certificate.is_file():
        cure = "从备份恢复 tls 目录。" if zh else "Restore the folder tls from a backup."
        return Finding("certificate", str(folder.certificate), "fail", cure)
    certificate = x509.load_pem_x509_certificate(folder.certificate.read_bytes())
    days = (certificate.not_valid_after_utc - datetime.now(UTC)).days
    until = certificate.not_valid_after_utc.date().isoformat()
    if days < 30:
        cure = (
            "重新签发证书并重新邀请合作方。"
            if zh
            else "Make a new certificate and invite the partners again."
        )
        return Finding("certificate", until, "warn" if days >= 0 else "fail", cure)
    return Finding("certificate", until)
