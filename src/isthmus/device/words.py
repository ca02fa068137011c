"""What left this device, in words that a person can read: English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from isthmus.device.work import Told
from isthmus.protocols.device_round import EVALUATE


@dataclass(frozen=True, slots=True)
class Sent:
    """One report. `taken`: whether the leader has confirmed that it has it."""

    told: Told
    taken: bool

    def words(self, language: str = "en") -> str:
        """A few sentences; `language` is en or zh."""
        return _chinese(self) if language == "zh" else _english(self)


def _day(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _english(sent: Sent) -> str:
    t = sent.told
    what = "how well the model ranks" if t.kind == EVALUATE else "what the model could learn here"
    fate = "" if sent.taken else " It was not confirmed that it arrived."
    noise = (
        f" Of the privacy budget {t.epsilon:g} of this task, {t.spent:.3g} is used up at most."
        if t.spent is not None and t.epsilon is not None
        else " The sum had no noise added."
    )
    return (
        f'{_day(t.sealed_ms)}: {t.bytes:,} bytes to {t.leader} for "{t.purpose}" (task {t.task}, round {t.round}): {what}.{fate} '
        f"Nobody can read them alone: they count only in a sum over at least {t.floor} devices, which {' and '.join(t.helpers)} "
        f"must both open. This was time {t.times} of at most {t.times_most}.{noise}"
    )


def _chinese(sent: Sent) -> str:
    t = sent.told
    what = "模型在本机的排序效果" if t.kind == EVALUATE else "模型在本机可学到的内容"
    fate = "" if sent.taken else "尚未确认送达。"
    noise = (
        f"本任务的隐私预算为 {t.epsilon:g}，至多已用 {t.spent:.3g}。"
        if t.spent is not None and t.epsilon is not None
        else "求和结果未加噪声。"
    )
    return (
        f"{_day(t.sealed_ms)}：为“{t.purpose}”（任务 {t.task}，第 {t.round} 轮）向 {t.leader} "
        f"发送 {t.bytes:,} 字节：{what}。{fate}"
        f"任何人都无法单独读取其内容：它只计入至少 {t.floor} 台设备的总和，且须由 {' 和 '.join(t.helpers)} 共同解开。"
        f"这是第 {t.times} 次，最多 {t.times_most} 次。{noise}"
    )
