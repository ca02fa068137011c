"""The same figures as plain data, at paths that stay."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.report.sample import bare_report, feature_owner_report, regression_report, sample_report

from isthmus.learn.metrics import Evaluation, RegressionEvaluation
from isthmus.report.json import to_json
from isthmus.report.model import Metrics
from isthmus.report.verdict import verdict


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document[name]
    return document


def test_the_promised_paths_hold_the_exact_figures() -> None:
    report = sample_report(1200)
    assert isinstance(report.metrics, Metrics)
    alone, joint = report.metrics.alone, report.metrics.joint
    assert isinstance(alone, Evaluation)
    assert isinstance(joint, Evaluation)
    found = to_json(report)
    wanted = {
        "rows.label": 27_000,
        "rows.feature": [27_000],
        "rows.common": 24_310,
        "metrics.alone.auc": alone.auc,
        "metrics.alone.ks": alone.ks,
        "metrics.joint.auc": joint.auc,
        "metrics.joint.ks": joint.ks,
        "gain.auc": joint.auc - alone.auc,
        "gain.ks": joint.ks - alone.ks,
        "bytes.sent_by_label": 412_337_120,
        "bytes.sent_by_feature": 96_554_008,
        "rounds": 318,
        "cpu_s": 71.42,
        "wall_s": 48.3,
        "peak_mb": 612.5,
    }
    assert {path: _at(found, path) for path in wanted} == wanted
    assert found["verdict"]["zh"] == list(verdict(report, "zh"))


def test_a_number_as_label_has_an_rmse_and_no_auc() -> None:
    report = regression_report()
    assert report.metrics is not None
    joint = report.metrics.joint
    assert isinstance(joint, RegressionEvaluation)
    found = to_json(report)
    assert found["metrics"]["joint"]["rmse"] == joint.rmse
    assert "auc" not in found["metrics"]["joint"]
    assert found["gain"]["rmse"] == found["metrics"]["alone"]["rmse"] - joint.rmse


@pytest.mark.parametrize("make", [sample_report, regression_report, feature_owner_report, bare_report])
def test_every_report_is_strict_json_and_comes_back_the_same(make: Any) -> None:
    found = to_json(make())
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_is_absent_is_null_or_empty() -> None:
    found = to_json(bare_report())
    assert found["metrics"] is None
    assert found["gain"] is None
    assert found["columns"] == []
    assert "pooled" not in to_json(sample_report(1200, pooled=False))["metrics"]


def test_two_kinds_of_label_do_not_mix() -> None:
    binary, number = sample_report(1200).metrics, regression_report().metrics
    assert binary is not None
    assert number is not None
    with pytest.raises(ValueError):
        Metrics(alone=binary.alone, joint=number.joint)
