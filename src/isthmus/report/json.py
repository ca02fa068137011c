"""The report as plain data, figures exact. Paths are stable: rows.common, metrics.joint.auc, bytes.sent_by_label, …"""

from __future__ import annotations

import math
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from isthmus.learn.metrics import Evaluation
from isthmus.report.model import Measured, Metrics, Report, Words
from isthmus.report.verdict import notes, verdict

FORMAT = "isthmus-report/1"


def _plain(value: Any) -> Any:
    """Dataclasses, tuples and words as what JSON knows; a number that JSON has no word for becomes None."""
    if isinstance(value, Words):
        return {"en": value.en, "zh": value.zh}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _measured(found: Measured) -> dict[str, Any]:
    result: dict[str, Any] = _plain(found)
    if isinstance(found, Evaluation):
        result["gini"] = found.gini
    return result


def _metrics(metrics: Metrics) -> dict[str, Any]:
    result = {"alone": _measured(metrics.alone), "joint": _measured(metrics.joint)}
    if metrics.pooled is not None:
        result["pooled"] = _measured(metrics.pooled)
    return result


def _gain(metrics: Metrics) -> dict[str, Any]:
    interval = None if metrics.gain is None else asdict(metrics.gain)
    alone, joint = metrics.alone, metrics.joint
    if isinstance(alone, Evaluation) and isinstance(joint, Evaluation):
        return {"auc": joint.auc - alone.auc, "ks": joint.ks - alone.ks, "interval": interval}
    assert not isinstance(alone, Evaluation)
    assert not isinstance(joint, Evaluation)
    return {"rmse": alone.rmse - joint.rmse, "interval": interval}


def to_json(report: Report) -> dict[str, Any]:
    """The report as dicts, lists, strings and finite numbers."""
    return {
        "format": FORMAT,
        "job": {"name": report.name, "purpose": report.purpose, "created": report.created},
        "notes": {language: list(notes(report, language)) for language in ("en", "zh")},
        "verdict": {language: list(verdict(report, language)) for language in ("en", "zh")},
        "generated_data": report.generated_data,
        "small_sample": report.small_sample,
        "parties": _plain(report.parties),
        "rows": _plain(report.rows),
        "metrics": None if report.metrics is None else _metrics(report.metrics),
        "gain": None if report.metrics is None else _gain(report.metrics),
        "bytes": {
            "sent_by_label": report.traffic.sent_by_label,
            "sent_by_feature": report.traffic.sent_by_feature,
            "kinds": _plain(report.traffic.kinds),
        },
        "rounds": report.traffic.rounds,
        "cpu_s": report.cost.cpu_s,
        "wall_s": report.cost.wall_s,
        "peak_mb": report.cost.peak_mb,
        "stages": _plain(report.cost.stages),
        "settings": {**_plain(report.settings), "parameters": dict(report.settings.parameters)},
        "columns": _plain(report.columns),
        "dropped": _plain(report.dropped),
        "score_psi": _plain(report.score_psi),
        "history": _plain(report.history),
        "importance": {"parties": _plain(report.importance), "columns": _plain(report.column_importance)},
        "leaks": _plain(report.leaks),
        "governance": {**_plain(report.governance), "versions": dict(report.governance.versions)},
    }
