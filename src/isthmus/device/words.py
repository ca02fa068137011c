"""What left this device, in words that a person can read: English and Chinese."""

from __future__ import annotations

import functools
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
        t = self.told
        chosen = functools.partial(_choose, language)
        when = f"{datetime.fromtimestamp(t.sealed_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
        what = (
            chosen("how well the model ranks here", "模型在本机的排序效果")
            if t.kind == EVALUATE
            else chosen("what the model could learn here", "模型在本机可学到的内容")
        )
        sent = chosen(
            f'{when}: {t.bytes:,} bytes to {t.leader} for "{t.purpose}" (task {t.task}, round {t.round}): {what}.',
            f"{when}：为“{t.purpose}”（任务 {t.task}，第 {t.round} 轮）向 {t.leader} 发送 {t.bytes:,} 字节：{what}。",
        )
        fate = chosen("It was not confirmed that it arrived.", "尚未确认送达。")
        hidden = chosen(
            f"Nobody can read them alone: they count only in a sum over at least {t.floor} devices, which "
            f"{' and '.join(t.helpers)} must both open.",
            f"任何人都无法单独读取其内容：它只计入至少 {t.floor} 台设备的总和，且须由 {' 和 '.join(t.helpers)} 共同解开。",
        )
        time = chosen(
            f"This was time {t.times} of at most {t.times_most}.",
            f"这是第 {t.times} 次，最多 {t.times_most} 次。",
        )
        budget = (
            chosen(
                f"Of the privacy budget {t.epsilon:g} of this task, {t.spent:.3g} is used up at most.",
                f"本任务的隐私预算为 {t.epsilon:g}，至多已用 {t.spent:.3g}。",
            )
            if t.spent is not None and t.epsilon is not None
            else chosen("No noise was added to the sum.", "求和结果未加噪声。")
        )
        parts = [sent, *([] if self.taken else [fate]), hidden, time, budget]
        return chosen(" ", "").join(parts)


def _choose(language: str, en: str, zh: str) -> str:
    return zh if language == "zh" else en
