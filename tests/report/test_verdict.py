"""The first sentences say what the interval allows, and no more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.report.sample import bare_report, feature_owner_report, regression_report, sample_report

from isthmus.learn.metrics import GainInterval
from isthmus.report.model import Language, Report, Words
from isthmus.report.verdict import notes, verdict


def _with(gain: GainInterval | None) -> Report:
    report = sample_report(1200)
    assert report.metrics is not None
    return replace(report, metrics=replace(report.metrics, gain=gain))


def test_an_interval_above_zero_shows_the_gain() -> None:
    first, second, third = verdict(_with(GainInterval(0.05, 0.04, 0.06, 100)), "en")
    assert "river-bank alone" in first
    assert "+0.0400 to +0.0600" in second
    assert "so the gain is shown" in second
    assert "do not rely" not in third


@pytest.mark.parametrize(("low", "high"), [(-0.01, 0.02), (0.0, 0.02), (-0.02, 0.0)])
@pytest.mark.parametrize(("language", "words"), [("en", "no gain is shown"), ("zh", "尚不能证明")])
def test_an_interval_that_includes_zero_shows_no_gain(
    low: float, high: float, language: Language, words: str
) -> None:
    _, second, third = verdict(_with(GainInterval(0.01, low, high, 100)), language)
    assert words in second
    assert ("do not rely" if language == "en" else "不宜据此决策") in third


def test_an_interval_below_zero_says_that_the_joint_model_is_worse() -> None:
    gain = GainInterval(-0.02, -0.03, -0.01, 100)
    assert "worse" in verdict(_with(gain), "en")[1]
    assert "更差" in verdict(_with(gain), "zh")[1]


def test_without_an_interval_nothing_is_claimed() -> None:
    _, second, third = verdict(_with(None), "en")
    assert "cannot tell" in second
    assert "do not rely" in third


def test_the_third_sentence_gives_the_bads_of_the_riskiest_tenth() -> None:
    report = sample_report(1200)
    assert report.metrics is not None
    joint = report.metrics.joint
    third = verdict(report, "en")[2]
    assert f"{joint.worst_tenth_capture:.1%} of all bad cases" in third  # type: ignore[union-attr]


def test_a_number_as_label_is_judged_by_its_error() -> None:
    first, second, third = verdict(regression_report(), "en")
    assert "RMSE" in first
    assert "so the gain is shown" in second
    assert "mean absolute error" in third


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_edition_without_metrics_says_why(language: Language) -> None:
    _, second, _ = verdict(feature_owner_report(), language)
    assert ("stay with the label owner" if language == "en" else "仅由标签方持有") in second


def test_generated_data_and_small_samples_are_named_first() -> None:
    report = replace(sample_report(999), notes=(Words("resumed once", "恢复过一次"),))
    assert [n.split(":")[0] for n in notes(report, "en")] == [
        "Generated data",
        "Small sample",
        "resumed once",
    ]
    assert "999" in notes(report, "zh")[1]
    assert notes(replace(sample_report(1000), generated_data=False), "en") == ()
    assert len(notes(bare_report(), "en")) == 1
