"""The report as one HTML file: no script, no outside address, light and dark, prints on A4, reads at 390 px."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from isthmus.learn.metrics import Evaluation, RegressionEvaluation
from isthmus.report import numbers
from isthmus.report.figures import Figure, Figures
from isthmus.report.model import Language, Metrics, Report, said
from isthmus.report.svg import HATCH
from isthmus.report.verdict import is_shown, notes, verdict
from isthmus.report.words import GLOSSARY, REASONS, known, page

Cells = tuple[str, ...]


def render_html(report: Report, language: Language) -> str:
    """The whole page as text."""
    environment = Environment(
        loader=PackageLoader("isthmus.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = Figures(report, language)
    interval = figures.interval()
    return environment.get_template("report.html").render(
        report=report,
        language=language,
        t=lambda key: page(key, language),
        said=lambda text: said(text, language),
        reason=lambda text: known(said(text, language), REASONS, language),
        number=numbers,
        notes=notes(report, language),
        verdict=verdict(report, language),
        tiles=_tiles(report.metrics, language),
        comparison=_comparison(report.metrics, language),
        binary=report.metrics is not None and isinstance(report.metrics.joint, Evaluation),
        interval=None if interval is None else Markup(interval),
        evaluation=_drawn(figures.evaluation()),
        stability=_drawn(figures.stability()),
        column_figures=_drawn(figures.columns()),
        explanation=_drawn(figures.explanation()),
        training=_drawn(figures.training()),
        woe_tables=[(c, *figures.woe_table(c)) for c in report.columns if c.woe is not None],
        party_style=figures.party_style,
        glossary=[(g.name.in_(language), g.meaning.in_(language)) for g in GLOSSARY],
        hatch=Markup(HATCH),
        print_digest="".join(c for c in report.governance.job_digest if c in "0123456789abcdef"),
    )


def _drawn(figures: list[Figure]) -> list[dict[str, Any]]:
    return [
        {
            "key": f.key,
            "title": f.title,
            "sentence": f.sentence,
            "drawing": Markup(f.drawing),
            "header": f.header,
            "rows": f.rows,
            "legend": f.legend,
            "texts": f.texts,
        }
        for f in figures
    ]


def _tiles(metrics: Metrics | None, language: Language) -> list[dict[str, str]]:
    """The figures that come first: name, figure, what to read beside it, and how it is coloured."""
    if metrics is None:
        return []
    gain, alone, joint = metrics.gain, metrics.alone, metrics.joint
    beside = page("alone_short", language)

    def tile(key: str, figure: str, note: str, tone: str = "") -> dict[str, str]:
        return {"name": page(key, language), "figure": figure, "note": note, "tone": tone}

    if gain is None:
        note = page("no_interval", language)
    else:
        note = f"{page('interval_95', language)} {numbers.change(gain.low)}\u00a0…\u00a0{numbers.change(gain.high)}"
    if isinstance(alone, Evaluation) and isinstance(joint, Evaluation):
        change = joint.auc - alone.auc
        return [
            tile("gain", numbers.change(change), note, _tone(metrics)),
            tile("auc_joint", numbers.four(joint.auc), f"{beside} {numbers.four(alone.auc)}"),
            tile(
                "ks_joint",
                numbers.four(joint.ks),
                f"{beside} {numbers.four(alone.ks)} ({numbers.change(joint.ks - alone.ks)})",
            ),
            tile(
                "worst_tenth",
                numbers.percent(joint.worst_tenth_capture),
                f"{beside} {numbers.percent(alone.worst_tenth_capture)}",
            ),
        ]
    assert isinstance(alone, RegressionEvaluation)
    assert isinstance(joint, RegressionEvaluation)
    return [
        tile("gain_rmse", numbers.change(alone.rmse - joint.rmse), note, _tone(metrics)),
        tile("rmse_joint", numbers.four(joint.rmse), f"{beside} {numbers.four(alone.rmse)}"),
        tile("mae_joint", numbers.four(joint.mae), f"{beside} {numbers.four(alone.mae)}"),
        tile("r2_joint", numbers.four(joint.r2), f"{beside} {numbers.four(alone.r2)}"),
    ]


def _tone(metrics: Metrics) -> str:
    if not is_shown(metrics.gain) or metrics.gain is None:
        return "unsure"
    return "up" if metrics.gain.low > 0 else "down"


def _comparison(metrics: Metrics | None, language: Language) -> tuple[Cells, list[Cells]] | None:
    """Header and rows of the table that sets the models side by side."""
    if metrics is None:
        return None
    names = ["alone", "joint", "change"] + ["pooled"] * (metrics.pooled is not None)
    header = (page("measure", language), *(page(name, language) for name in names))
    rows: list[Cells] = []
    models = [metrics.alone, metrics.joint] + ([metrics.pooled] if metrics.pooled is not None else [])
    binary = isinstance(metrics.joint, Evaluation)
    fields = (
        (
            ("auc", "auc", "four"),
            ("gini", "gini", "four"),
            ("ks", "ks", "four"),
            ("worst_capture", "worst_tenth_capture", "percent"),
            ("worst_rate", "worst_tenth_bad_rate", "percent"),
            ("log_loss", "log_loss", "four"),
            ("ks_threshold", "ks_threshold", "plain"),
        )
        if binary
        else (
            ("rmse", "rmse", "four"),
            ("mae", "mae", "four"),
            ("r2", "r2", "four"),
            ("mean_predicted", "mean_predicted", "plain"),
            ("mean_actual", "mean_actual", "plain"),
        )
    )
    for key, field, kind in fields:
        values: list[float | None] = [getattr(model, field) for model in models]
        write = numbers.percent if kind == "percent" else numbers.four
        alone, joint = values[0], values[1]
        if kind == "plain" or alone is None or joint is None:
            difference = ""
        else:
            difference = numbers.change(joint - alone)
            if kind == "percent":
                difference = numbers.points(joint - alone, page("points", language))
        rows.append(
            (page(key, language), write(alone), write(joint), difference, *(write(v) for v in values[2:]))
        )
    return header, rows
