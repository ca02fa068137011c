"""Probes of a node and of the path to a partner: a measured value, ok, warn or fail, and the cure."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import platform
import shutil
import socket
import sqlite3
import ssl
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from cryptography import x509

import isthmus
from isthmus.base.errors import IsthmusError
from isthmus.service.rates import Rates
from isthmus.store.folder import NodeConfig, NodeFolder
from isthmus.store.records import StoredPartner
from isthmus.wire.envelope import BODY_MAX_BYTES
from isthmus.wire.link import Link, Probe

DISK_WARN_BYTES = 2 * 2**30
CLOCK_WARN_S = 60.0
POLL_S = 20.0
"""For how long the link is silent at most; a path that cuts earlier makes it begin anew again and again."""

_BORN = datetime(2026, 1, 1, tzinfo=UTC)
_SQLITE_MENDED = (3, 51, 3)
_KNOCK_S = 2.0

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor."""

    probe: str
    value: str
    verdict: Verdict = "ok"
    cure: str = ""


class Words:
    """The language of a report."""

    def __init__(self, language: str) -> None:
        self._zh = language == "zh"

    def __call__(self, en: str, zh: str) -> str:
        return zh if self._zh else en


def examine_node(folder: NodeFolder, language: str) -> list[Finding]:
    """Everything that can be seen without a partner. Works while the node is down; may wait for sockets."""
    say = Words(language)
    findings = [
        Finding("isthmus", isthmus.__version__),
        _python(say),
        _cpu(say),
        _sqlite(say),
        Finding("tls", ssl.OPENSSL_VERSION),
        _clock(say),
        _disk(folder, say),
    ]
    try:
        config = folder.config()
        folder.check_modes()
        findings.append(Finding("files", "0600"))
    except IsthmusError as error:
        findings.append(Finding("files", error.sentence(language), "fail", error.hint(language)))
        return findings
    findings.append(Finding("database", config.database))
    findings.append(Finding("mode", " ".join(filter(None, (config.mode, config.listen or config.relay)))))
    if config.mode == "direct":
        findings.append(_own_certificate(folder, say))
    if config.mode == "relay" and folder.relay_certificate.is_file():
        findings.append(_certificate("relay certificate", folder.relay_certificate.read_bytes(), say))
    findings += _ports(folder, config, say)
    if config.proxy:
        findings.append(_reachable("proxy", config.proxy, say))
    return findings + [_data(data, say) for data in config.data]


async def examine_partner(
    link: Link, rates: Rates, partner: StoredPartner, config: NodeConfig, language: str, idle_s: float = 0.0
) -> list[Finding]:
    """The path to a partner, measured now, a silence of `idle_s` included; plans count with the figures from now on."""
    say = Words(language)
    findings = []
    if partner.address is not None:
        findings.append(await _name(partner.address, config.proxy, say))
        findings.append(Finding("proxy of calls", config.proxy or say("none", "无")))
    if partner.certificate_der is not None:
        findings.append(_certificate("partner certificate", partner.certificate_der, say))
    try:
        probe = await rates.measure(partner.name, idle_s)
        state = link.state(partner.name)
    except IsthmusError as error:
        probes = {
            "tls_intercepted": "tls path",
            "proxy_refused": "proxy of calls",
            "version_gap": "link version",
        }
        name = probes.get(error.code, f"line to {partner.name}")
        kept = [finding for finding in findings if finding.probe != name]
        return [*kept, Finding(name, error.sentence(language), "fail", error.hint(language))]
    if state.dials:
        findings.append(
            Finding(
                "tls path", say("not opened by anybody: the pinned certificate", "未被拆解：与固定的证书一致")
            )
        )
    way = say("dials", "主动连接") if state.dials else say("is dialled", "等待对方连接")
    line = say(f"connected, this node {way}", f"已连接，本节点{way}")
    findings.append(Finding(f"line to {partner.name}", line))
    return findings + _measured(probe, say)


def _measured(probe: Probe, say: Words) -> list[Finding]:
    findings = []
    if probe.version is not None:
        findings.append(
            Finding("link version", say(f"{probe.version}, the same at both", f"{probe.version}，双方一致"))
        )
    if probe.clock_offset_s is not None:
        bad = abs(probe.clock_offset_s) > CLOCK_WARN_S
        cure = say("Set the clocks of both machines.", "校准两侧的系统时钟。") if bad else ""
        findings.append(
            Finding("partner clock", f"{probe.clock_offset_s:+.1f} s", "warn" if bad else "ok", cure)
        )
    if probe.largest_body_bytes is not None:
        findings.append(_body(probe.largest_body_bytes, say))
    if probe.begins_s is not None and probe.comes_s is not None:
        findings.append(_buffering(probe.begins_s, probe.comes_s, say))
    if probe.held_s is not None or probe.cut_s is not None:
        findings.append(_idle(probe, say))
    if probe.round_trip_s is not None:
        findings.append(Finding("round trip", f"{probe.round_trip_s * 1000:.1f} ms"))
    for name, rate in (("up", probe.up_bytes_per_s), ("down", probe.down_bytes_per_s)):
        if rate is not None:
            findings.append(Finding(name, f"{rate * 8 / 1e6:.{1 if rate < 1.25e6 else 0}f} Mbit/s"))
    return findings


def _body(largest: int, say: Words) -> Finding:
    value = f"{largest // 1024} KiB"
    if largest >= BODY_MAX_BYTES:
        return Finding("largest body", value)
    cure = say(
        "A gateway limits bodies: have it let 1 MiB through (nginx: client_max_body_size 2m).",
        "链路上的网关限制了请求体：请放行 1 MiB（nginx：client_max_body_size 2m）。",
    )
    return Finding("largest body", value, "fail", cure)


def _buffering(begins_s: float, comes_s: float, say: Words) -> Finding:
    """Where something in between collects a large answer before it passes it on, the answer comes late and then all at once."""
    whole_s = begins_s + comes_s
    value = say(
        f"{begins_s:.2f} s of {whole_s:.2f} s until it begins",
        f"{whole_s:.2f} 秒中等待 {begins_s:.2f} 秒后开始",
    )
    if whole_s >= 0.3 and comes_s < 0.1 * whole_s:
        cure = say(
            "A gateway seems to collect answers before it passes them on; have that turned off (nginx: proxy_buffering off).",
            "链路上的网关可能缓冲应答：请关闭缓冲（nginx：proxy_buffering off）。",
        )
        return Finding("buffering", value, "warn", cure)
    if whole_s < 0.3:
        return Finding("buffering", say("the line is too fast to see any", "线路很快，不受影响"))
    return Finding("buffering", say("none seen", "未发现"))


def _idle(probe: Probe, say: Words) -> Finding:
    if probe.cut_s is None:
        return Finding("idle cut", say(f"none within {probe.held_s:.0f} s", f"{probe.held_s:.0f} 秒内无切断"))
    value = say(f"after {probe.cut_s:.0f} s", f"{probe.cut_s:.0f} 秒后切断")
    if probe.cut_s > POLL_S + 1:
        return Finding("idle cut", value)
    cure = say(
        "Something cuts silent lines: have it wait for 60 s at least (nginx: proxy_read_timeout 60s).",
        "链路上有设备切断空闲连接：请将其空闲超时设为至少 60 秒（nginx：proxy_read_timeout 60s）。",
    )
    return Finding("idle cut", value, "warn", cure)


async def _name(address: str, proxy: str | None, say: Words) -> Finding:
    host = urlsplit(address.removeprefix("relay+")).hostname or ""
    if _is_address(host):
        return Finding("name", say(f"{host}, an address", f"{host}（IP 地址）"))
    if proxy:
        return Finding("name", say(f"{host}, looked up by the proxy", f"{host}，由代理解析"))
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        cure = say("Have the name entered in DNS, or in /etc/hosts.", "请在 DNS 或 /etc/hosts 中登记该名称。")
        return Finding("name", say(f"{host} is not known", f"无法解析 {host}"), "fail", cure)
    return Finding("name", f"{host} = {', '.join(sorted({str(entry[4][0]) for entry in found})[:3])}")


def _python(say: Words) -> Finding:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 14):
        return Finding("python", version)
    return Finding("python", version, "warn", say("Use Python 3.11 to 3.14.", "请使用 Python 3.11 至 3.14。"))


def _cpu(say: Words) -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    value = say(
        f"{cores} cores, {platform.machine()}, load {load:.1f}",
        f"{cores} 核，{platform.machine()}，负载 {load:.1f}",
    )
    if load > 2 * cores:
        cure = say(
            "Other programs keep the machine busy; jobs will take longer than planned.",
            "其他程序占用较多，作业会比计划慢。",
        )
        return Finding("cpu", value, "warn", cure)
    return Finding("cpu", value)


def _sqlite(say: Words) -> Finding:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= _SQLITE_MENDED:
        return Finding("sqlite", version)
    note = say(
        "Before 3.51.3 SQLite can lose writes where several connections write; this node has one, so nothing is to be done.",
        "3.51.3 之前的 SQLite 在多连接写入时可能丢失数据；本节点只用一个连接，无需处理。",
    )
    return Finding("sqlite", version, "ok", note)


def _clock(say: Words) -> Finding:
    now = datetime.now(UTC)
    value = now.isoformat(timespec="seconds")
    if now < _BORN:
        return Finding(
            "clock", value, "fail", say("The clock is years behind; set it.", "系统时钟落后数年，请校准。")
        )
    return Finding("clock", value)


def _disk(folder: NodeFolder, say: Words) -> Finding:
    home = folder.home if folder.home.exists() else folder.home.parent
    free = shutil.disk_usage(home if home.exists() else "/").free
    if free < DISK_WARN_BYTES:
        return Finding("disk", f"{free / 2**30:.1f} GiB", "warn", say("Free some space.", "请释放磁盘空间。"))
    return Finding("disk", f"{free / 2**30:.1f} GiB")


def _data(data: str, say: Words) -> Finding:
    if os.access(Path(data), os.R_OK | os.X_OK):
        return Finding("data", data)
    return Finding(
        "data", data, "fail", say("The folder is gone or cannot be read.", "目录不存在或无法读取。")
    )


def _own_certificate(folder: NodeFolder, say: Words) -> Finding:
    if not folder.certificate.is_file():
        cure = say("Restore the folder tls from a backup.", "从备份恢复 tls 目录。")
        return Finding("certificate", str(folder.certificate), "fail", cure)
    return _certificate("certificate", folder.certificate.read_bytes(), say)


def _certificate(probe: str, certificate: bytes, say: Words) -> Finding:
    """Until when a certificate (PEM or DER) is good: a word at 30 days, at 7 and at the last."""
    load = (
        x509.load_pem_x509_certificate if certificate.startswith(b"-----") else x509.load_der_x509_certificate
    )
    until = load(certificate).not_valid_after_utc
    days = (until - datetime.now(UTC)).days
    value = say(f"{days} days left, until {until.date()}", f"剩余 {days} 天，至 {until.date()}")
    if days > 30:
        return Finding(probe, value)
    new = say(
        "make a new certificate and join again with a new invitation",
        "请签发新证书，并用新的邀请函重新建立关系",
    )
    if days > 7:
        return Finding(probe, value, "warn", say(f"Within a month: {new}.", f"一个月内{new}。"))
    if days >= 1:
        return Finding(probe, value, "warn", say(f"This week: {new}.", f"本周内{new}。"))
    return Finding(probe, value, "fail", say(f"Now: {new}.", f"立即{new}。"))


def _ports(folder: NodeFolder, config: NodeConfig, say: Words) -> list[Finding]:
    """Who listens where: the link's port is the only one that others may reach."""
    findings = []
    running = folder.announced()
    if running is not None:
        findings.append(Finding("command port", f"127.0.0.1:{running['port']}"))
    elif config.control_port:
        findings.append(_free("command port", "127.0.0.1", config.control_port, say))
    if config.listen:
        host, _, port = config.listen.rpartition(":")
        host = host.strip("[]")
        if running is None:
            findings.append(_free("link port", host, int(port), say))
        else:
            findings.append(_answers(folder, host, int(running.get("link_port") or port), say))
    return findings


def _free(probe: str, host: str, port: int, say: Words) -> Finding:
    value = f"{host}:{port}"
    try:
        with socket.create_server((host, port), family=_family(host)):
            pass
    except OSError as error:
        cure = say(
            "Choose another port or stop the program that uses it.", "请更换端口，或停止占用它的程序。"
        )
        return Finding(probe, f"{value}: {error.strerror}", "fail", cure)
    return Finding(probe, say(f"{value}, free", f"{value}，可用"))


def _answers(folder: NodeFolder, host: str, port: int, say: Words) -> Finding:
    """Whether it is this node that answers on its own port."""
    value = f"{host}:{port}"
    knock = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((knock, port), _KNOCK_S) as plain,
            context.wrap_socket(plain, server_hostname=knock) as secured,
        ):
            shown = secured.getpeercert(binary_form=True) or b""
            spoken = secured.version()
    except OSError as error:
        cure = say(
            "The node does not answer on its own port; read its log.", "节点未在该端口应答，请查看日志。"
        )
        return Finding("link port", f"{value}: {error.strerror or 'no answer'}", "fail", cure)
    own = ssl.PEM_cert_to_DER_cert(folder.certificate.read_text("ascii"))
    if shown != own:
        cure = say("Another program has this port, or the certificate was changed while the node ran.",
                   "端口被其他程序占用，或运行期间证书被更换。")  # fmt: skip
        return Finding(
            "link port", say(f"{value} shows another certificate", f"{value} 出示了其他证书"), "fail", cure
        )
    return Finding("link port", f"{value}, {spoken}")


def _reachable(probe: str, url: str, say: Words) -> Finding:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), _KNOCK_S):
            return Finding(probe, url)
    except OSError as error:
        cure = say(
            "Check address and port of the proxy in config.yaml.", "请检查 config.yaml 中代理的地址和端口。"
        )
        return Finding(probe, f"{url}: {error.strerror or 'no answer'}", "fail", cure)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
