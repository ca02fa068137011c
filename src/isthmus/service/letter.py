"""The request to a network team: one page of text with what has to be let through, and how."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from isthmus.store.folder import NodeConfig

_WIDTH = 90


@dataclass(frozen=True, slots=True)
class Way:
    """A partner, and where this node calls it; None where it is called."""

    partner: str
    address: str | None


def write_letter(config: NodeConfig, ways: Sequence[Way], language: str) -> str:
    """In English or Chinese, at most about fifty lines for a few partners."""
    rows = _rows(config, ways, language)
    listing = "\n".join(f"  {number}. {row}" for number, row in enumerate(rows, 1))
    return _page(config.party, listing, language)


def _rows(config: NodeConfig, ways: Sequence[Way], language: str) -> list[str]:
    zh, rows = language == "zh", []
    through = (
        f" 经代理 {config.proxy}"
        if zh and config.proxy
        else f", through the proxy {config.proxy}"
        if config.proxy
        else ""
    )
    if config.listen:
        names = "、".join(w.partner for w in ways) if zh else ", ".join(w.partner for w in ways)
        who = names or ("合作方（待定）" if zh else "partners (to be named)")
        rows.append(
            f"入站：{who} -> 本节点 {config.listen}（公布地址 {config.address}），TCP，TLS 1.3"
            if zh
            else f"Inbound: {who} -> this node, {config.listen} (announced as {config.address}), TCP, TLS 1.3"
        )
    targets = {w.address.removeprefix("relay+"): w.partner for w in ways if w.address}
    if config.relay:
        targets[config.relay] = "中继" if zh else "the relay"
    for address, partner in sorted(targets.items()):
        parts = urlsplit(address)
        place = f"{parts.hostname}:{parts.port}"
        rows.append(
            f"出站：本节点 -> {partner}，{place}，TCP，TLS 1.3{through}"
            if zh
            else f"Outbound: this node -> {partner}, {place}, TCP, TLS 1.3{through}"
        )
    if not rows:
        rows.append(
            f"出站：本节点 -> 合作方地址（收到邀请函后补充），TCP，TLS 1.3{through}"
            if zh
            else f"Outbound: this node -> the partner's address (to be filled in with the invitation), TCP, TLS 1.3{through}"
        )
    return rows


def _page(party: str, listing: str, language: str) -> str:
    if language == "zh":
        return f"""致网络管理部门的申请

机构：{party}
事由：与其他机构联合建模所需的网络连接

用途说明：本服务器上的 Isthmus 程序与合作方的程序交换加密的中间结果。
数据表和客户记录始终保存在本方服务器。每条消息在 TLS 之内另行签名并端到端加密。

申请放行的连接：
{listing}

技术要求：
  - 仅需上述 TCP 端口；未列入站规则的，无需任何入站端口。
  - 途中不拆解 TLS。程序只接受一张固定的证书，其他证书一律拒绝；请将上述目标排除在内容检查之外。
  - 放行 1 MiB 的请求体和应答体（nginx：client_max_body_size 2m）。内容已加密，外观为随机字节，
    要求可读内容的过滤规则需放行。
  - 请求最长等待应答 20 秒：空闲超时请设为 60 秒以上（nginx：proxy_read_timeout 60s）。
  - 应答随到随转，不做缓冲（nginx：proxy_buffering off）。
  - 使用代理时：允许对上述地址发起 HTTP CONNECT，并保持长连接。
  - 每个合作方同时约 16 个连接；作业运行期间流量为突发，可达线路上限。

验证方法：在服务器上执行 isthmus doctor --partner 名称 --idle-s 30，
逐项测量以上各点，并指出需要调整的设置。

不需要：从外部访问本方数据库、VPN，以及未列出的域名。

联系人：______________________    日期：______________    审批：______________________
"""
    points = (
        "One TCP port each way as listed; no other port, no inbound rule where none is listed.",
        "TLS is not opened on the way. The node accepts one pinned certificate and refuses any other, so an inspecting gateway "
        "stops the connection. Exempt these destinations from inspection.",
        "Request and answer bodies of 1 MiB pass (nginx: client_max_body_size 2m). They are encrypted and look like random "
        "bytes; filters that expect readable content must let them pass.",
        "A request may wait 20 s for its answer: idle time-outs of 60 s or more (nginx: proxy_read_timeout 60s).",
        "Answers are passed on as they come, not collected first (nginx: proxy_buffering off).",
        "Where a proxy is used: HTTP CONNECT to the listed places, for connections that stay open.",
        "About 16 connections at a time for each partner; traffic is bursts of up to the full line rate while a job runs.",
    )
    body = "\n".join(
        textwrap.fill(text, _WIDTH, initial_indent="  - ", subsequent_indent="    ") for text in points
    )
    return f"""Request to the network team

Party: {party}
Subject: a connection for joint model training with another institution

What it is: the program Isthmus on this server exchanges encrypted intermediate results with the
program of our partner. Tables and customer records stay on our server. Every message is signed and
encrypted end to end, inside TLS.

Connections to let through:
{listing}

What they need:
{body}

How to check it: on the server, `isthmus doctor --partner NAME --idle-s 30` measures each of these
points and names the setting that stands in the way.

Not needed: access to our databases from outside, a VPN, or DNS names beyond those listed.

Contact: ______________________    Date: ______________    Approved by: ______________________
"""
