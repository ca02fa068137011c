"""The first words of a report: what must be known before any figure, and the result in three plain sentences."""

from __future__ import annotations

from isthmus.learn.metrics import Evaluation, GainInterval, RegressionEvaluation
from isthmus.report.model import SMALL_TEST_ROWS, Language, Metrics, Report, said
from isthmus.report.numbers import change


def notes(report: Report, language: Language) -> tuple[str, ...]:
    """What a reader must know before the figures: generated data, a small sample, and the job's own notes."""
    en = language == "en"
    found = []
    if report.generated_data:
        found.append(
            "Generated data: no figure here says anything about real customers."
            if en
            else "本报告使用模拟生成的数据，所有指标均不代表真实客户。"
        )
    if report.small_sample:
        found.append(
            f"Small sample: {report.rows.test:,} test rows (under {SMALL_TEST_ROWS:,}), so every figure is uncertain."
            if en
            else f"样本量偏小：测试集仅 {report.rows.test:,} 行（不足 {SMALL_TEST_ROWS:,} 行），各项指标的不确定性较大。"
        )
    return *found, *(said(note, language) for note in report.notes)


def verdict(report: Report, language: Language) -> tuple[str, str, str]:
    """Gain, its interval, and what it means for the riskiest tenth. Says so where no gain is shown."""
    metrics = report.metrics
    if metrics is None:
        return _without_metrics(report, language)
    if isinstance(metrics.alone, Evaluation) and isinstance(metrics.joint, Evaluation):
        return _binary(report, metrics, metrics.alone, metrics.joint, language)
    assert isinstance(metrics.alone, RegressionEvaluation)
    assert isinstance(metrics.joint, RegressionEvaluation)
    return _regression(report, metrics, metrics.alone, metrics.joint, language)


def is_shown(gain: GainInterval | None) -> bool:
    """Whether the whole interval lies on one side of 0."""
    return gain is not None and (gain.low > 0 or gain.high < 0)


def _interval(gain: GainInterval | None, unit: str, language: Language) -> str:
    en = language == "en"
    if gain is None:
        return (
            "No interval was computed, so this report cannot tell the difference from chance."
            if en
            else "本次未计算置信区间，因此无法判断该差异是否由抽样波动造成。"
        )
    low, high = change(gain.low), change(gain.high)
    if gain.low > 0:
        return (
            f"The 95 % interval of the gain runs from {low} to {high} {unit}; it lies above zero, so the gain is shown."
            if en
            else f"{unit} 提升的 95% 置信区间为 {low} 至 {high}，整体大于零，提升在统计上成立。"
        )
    if gain.high < 0:
        return (
            f"The 95 % interval runs from {low} to {high} {unit}; it lies below zero: the joint model is worse here."
            if en
            else f"{unit} 差异的 95% 置信区间为 {low} 至 {high}，整体小于零：联合模型在该样本上更差。"
        )
    return (
        f"The 95 % interval runs from {low} to {high} {unit} and includes zero: on these rows no gain is shown."
        if en
        else f"{unit} 差异的 95% 置信区间为 {low} 至 {high}，包含零：在该样本上尚不能证明联合模型有提升。"
    )


def _binary(
    report: Report, metrics: Metrics, alone: Evaluation, joint: Evaluation, language: Language
) -> tuple[str, str, str]:
    en = language == "en"
    difference = change(joint.auc - alone.auc)
    owner = report.parties.label
    first = (
        f"On the same {joint.rows:,} test rows the joint model reaches an AUC of {joint.auc:.4f}, "
        f"{owner} alone {alone.auc:.4f}: a difference of {difference}."
        if en
        else f"在相同的 {joint.rows:,} 行测试样本上，联合模型的 AUC 为 {joint.auc:.4f}，"
        f"{owner} 单方模型为 {alone.auc:.4f}，相差 {difference}。"
    )
    third = (
        f"The riskiest 10 % of cases hold {joint.worst_tenth_capture:.1%} of all bad cases by the joint score "
        f"(bad rate {joint.worst_tenth_bad_rate:.1%}), {alone.worst_tenth_capture:.1%} by {owner} alone "
        f"({alone.worst_tenth_bad_rate:.1%})"
        if en
        else f"按联合模型评分，风险最高的 10% 客户覆盖全部坏样本的 {joint.worst_tenth_capture:.1%}"
        f"（坏账率 {joint.worst_tenth_bad_rate:.1%}）；单方模型为 {alone.worst_tenth_capture:.1%}"
        f"（坏账率 {alone.worst_tenth_bad_rate:.1%}）"
    )
    return first, _interval(metrics.gain, "AUC", language), third + _caution(metrics.gain, language)


def _regression(
    report: Report,
    metrics: Metrics,
    alone: RegressionEvaluation,
    joint: RegressionEvaluation,
    language: Language,
) -> tuple[str, str, str]:
    en = language == "en"
    owner = report.parties.label
    difference = change(alone.rmse - joint.rmse)
    first = (
        f"On the same {joint.rows:,} test rows the joint model errs by an RMSE of {joint.rmse:.4f}, "
        f"{owner} alone by {alone.rmse:.4f}: alone minus joint is {difference}."
        if en
        else f"在相同的 {joint.rows:,} 行测试样本上，联合模型的 RMSE 为 {joint.rmse:.4f}，"
        f"{owner} 单方模型为 {alone.rmse:.4f}，单方减联合为 {difference}。"
    )
    third = (
        f"The mean absolute error is {joint.mae:.4f} with the joint model, {alone.mae:.4f} alone"
        if en
        else f"联合模型的平均绝对误差为 {joint.mae:.4f}，单方模型为 {alone.mae:.4f}"
    )
    return first, _interval(metrics.gain, "RMSE", language), third + _caution(metrics.gain, language)


def _caution(gain: GainInterval | None, language: Language) -> str:
    if is_shown(gain):
        return "." if language == "en" else "。"
    return (
        "; do not rely on this difference before a larger sample confirms it."
        if language == "en"
        else "；在更大样本验证之前，不宜据此决策。"
    )


def _without_metrics(report: Report, language: Language) -> tuple[str, str, str]:
    names = ", ".join(report.parties.feature)
    if language == "en":
        return (
            f"{report.parties.label} and {names} trained a joint model on {report.rows.common:,} shared rows.",
            "Labels and scores stay with the label owner, so this edition holds no quality figures.",
            "It shows this party's own columns, the cost of the job and what each party learned.",
        )
    return (
        f"{report.parties.label} 与 {'、'.join(report.parties.feature)} 基于 {report.rows.common:,} 行共有样本完成联合建模。",
        "标签与评分仅由标签方持有，因此本版报告不含模型效果指标。",
        "本报告展示本方特征、作业开销以及各方获知的信息。",
    )
