"""The charts of a report: each has a title, one sentence, a drawing, and its figures as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from isthmus.learn.metrics import CalibrationBin, Evaluation, Histogram, RocPoint
from isthmus.report import svg
from isthmus.report.model import Column, Importance, Language, Measured, Report, said
from isthmus.report.numbers import change, four, percent, seconds, size, two, whole
from isthmus.report.words import METRIC_NAMES, STAGES, known, page

MOST_ROWS = 15
MOST_WOE = 5

Table = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart. `legend` pairs a class of the drawing with its name; the table's numbers start at column `texts`."""

    key: str
    title: str
    sentence: str
    drawing: str
    header: tuple[str, ...]
    rows: Table
    legend: tuple[tuple[str, str], ...] = ()
    texts: int = 1


def _of(measured: Measured | None) -> Evaluation | None:
    return measured if isinstance(measured, Evaluation) else None


class Figures:
    """Draws the figures of one report in one language."""

    def __init__(self, report: Report, language: Language) -> None:
        self.report = report
        self.language = language
        self.en = language == "en"
        self.party_style = {report.parties.label: "p1"}
        for place, name in enumerate(report.parties.feature):
            self.party_style[name] = f"p{min(place + 2, 4)}"

    def word(self, key: str) -> str:
        return page(key, self.language)

    def say(self, en: str, zh: str) -> str:
        return en if self.en else zh

    def interval(self) -> str | None:
        """A small drawing of the gain's interval against zero."""
        metrics = self.report.metrics
        if metrics is None or metrics.gain is None:
            return None
        gain = metrics.gain
        return svg.interval(self.word("fig_interval"), gain.low, gain.gain, gain.high)

    def evaluation(self) -> list[Figure]:
        metrics = self.report.metrics
        if metrics is None:
            return []
        calibration = self._calibration([("s2", "alone", metrics.alone), ("s1", "joint", metrics.joint)])
        alone, joint = _of(metrics.alone), _of(metrics.joint)
        if alone is None or joint is None:
            return [calibration]
        curves = [("s2", "alone", alone), ("s1", "joint", joint)]
        pooled = _of(metrics.pooled)
        if pooled is not None:
            curves.append(("s3", "pooled", pooled))
        return [
            self._ks(joint, alone),
            self._roc(curves),
            self._gain(curves),
            self._lift(alone, joint),
            self._histogram(joint),
            calibration,
        ]

    def _ks(self, joint: Evaluation, alone: Evaluation) -> Figure:
        best = next((p for p in joint.roc if p.threshold == joint.ks_threshold), joint.roc[-1])
        lines = [
            svg.Line("bad", tuple((p.share, p.tpr) for p in joint.roc)),
            svg.Line("good", tuple((p.share, p.fpr) for p in joint.roc)),
        ]
        drawing = svg.line_chart(
            self.word("fig_ks"),
            _share_axis(self.word("x_share")),
            _share_axis(self.word("y_caught")),
            lines,
            [(best.share, best.fpr, best.tpr, f"KS {joint.ks:.4f}")],
        )
        sentence = self.say(
            f"At a score of {joint.ks_threshold:.4f} the joint model has found {best.tpr:.1%} of the bads and "
            f"{best.fpr:.1%} of the goods: KS {joint.ks:.4f}, against {alone.ks:.4f} alone.",
            f"切点 {joint.ks_threshold:.4f} 处，累计坏样本占比 {best.tpr:.1%}，累计好样本占比 {best.fpr:.1%}，"
            f"KS 为 {joint.ks:.4f}；单方模型为 {alone.ks:.4f}。",
        )
        rows = tuple(
            (percent(p.share), four(p.threshold), percent(p.tpr), percent(p.fpr), four(p.tpr - p.fpr))
            for p in _at_shares(joint.roc)
        )
        header = ("x_share", "threshold", "tpr", "fpr")
        legend = (("bad", self.word("bads")), ("good", self.word("goods")))
        if self.language == "zh":
            legend = (("bad", "坏样本"), ("good", "好样本"))
        return Figure(
            "ks",
            self.word("fig_ks"),
            sentence,
            drawing,
            (*map(self.word, header), "KS"),
            rows,
            legend,
            0,
        )

    def _curves(
        self, curves: Sequence[tuple[str, str, Evaluation]], place: Callable[[RocPoint], float]
    ) -> list[svg.Line]:
        chance = svg.Line("s0", ((0.0, 0.0), (1.0, 1.0)))
        return [chance, *(svg.Line(s, tuple((place(p), p.tpr) for p in e.roc)) for s, _, e in curves)]

    def _legend(self, curves: Sequence[tuple[str, str, Measured]], zero: str) -> tuple[tuple[str, str], ...]:
        return *((style, self.word(name)) for style, name, _ in reversed(curves)), ("s0", self.word(zero))

    def _roc(self, curves: Sequence[tuple[str, str, Evaluation]]) -> Figure:
        alone, joint = curves[0][2], curves[1][2]
        axes = _share_axis(self.word("x_goods")), _share_axis(self.word("y_bads"))
        drawing = svg.line_chart(self.word("fig_roc"), *axes, self._curves(curves, lambda p: p.fpr))
        sentence = self.say(
            f"The area under the curve is {joint.auc:.4f} joint and {alone.auc:.4f} alone; upwards and left is better.",
            f"曲线下面积：联合模型 {joint.auc:.4f}，单方模型 {alone.auc:.4f}；曲线越靠近左上角，区分度越高。",
        )
        grid = [k / 10 for k in range(11)]
        rows = tuple(
            (percent(at), *(percent(_read(e.roc, lambda p: p.fpr, at)) for _, _, e in curves)) for at in grid
        )
        header = (self.word("fpr"), *(f"{self.word('tpr')}: {self.word(n)}" for _, n, _ in curves))
        return Figure(
            "roc", self.word("fig_roc"), sentence, drawing, header, rows, self._legend(curves, "chance"), 0
        )

    def _gain(self, curves: Sequence[tuple[str, str, Evaluation]]) -> Figure:
        alone, joint = curves[0][2], curves[1][2]
        axes = _share_axis(self.word("x_share")), _share_axis(self.word("y_bads"))
        drawing = svg.line_chart(self.word("fig_gain"), *axes, self._curves(curves, lambda p: p.share))
        at_20 = [_read(e.roc, lambda p: p.share, 0.2) for e in (joint, alone)]
        sentence = self.say(
            f"Looking at the riskiest 20 % finds {at_20[0]:.1%} of the bads with the joint model, "
            f"{at_20[1]:.1%} alone.",
            f"取风险最高的 20% 样本，联合模型可覆盖 {at_20[0]:.1%} 的坏样本，单方模型为 {at_20[1]:.1%}。",
        )
        grid = [0.01, 0.05, *(k / 10 for k in range(1, 11))]
        rows = tuple(
            (percent(at), *(percent(_read(e.roc, lambda p: p.share, at)) for _, _, e in curves))
            for at in grid
        )
        header = (self.word("share_of_rows"), *(self.word(n) for _, n, _ in curves))
        return Figure(
            "gain", self.word("fig_gain"), sentence, drawing, header, rows, self._legend(curves, "chance"), 0
        )

    def _lift(self, alone: Evaluation, joint: Evaluation) -> Figure:
        by_alone, by_joint = ({b.band: b for b in e.bands} for e in (alone, joint))
        places = range(1, 11)
        series = [
            svg.Bars(style, tuple(bands[k].lift if k in bands else 0.0 for k in places))
            for style, bands in (("p1", by_joint), ("muted", by_alone))
        ]
        top = svg.nice(0.0, max(max(s.heights) for s in series))[1]
        drawing = svg.bar_chart(
            self.word("fig_lift"),
            self.word("x_band"),
            [str(k) for k in places],
            svg.Axis(self.word("lift"), 0.0, top, lambda v: f"{v:g}"),
            series,
            level=1.0,
        )
        first = joint.bands[0], alone.bands[0]
        sentence = self.say(
            f"The riskiest band is {first[0].lift:.2f} times as bad as the whole book with the joint model, "
            f"{first[1].lift:.2f} times alone.",
            f"风险最高一段的坏账率为整体的 {first[0].lift:.2f} 倍（联合模型），单方模型为 {first[1].lift:.2f} 倍。",
        )
        rows = tuple(
            (str(k), *(two(b[k].lift if k in b else None) for b in (by_joint, by_alone))) for k in places
        )
        legend = (("p1", self.word("joint")), ("muted", self.word("alone")))
        header = (self.word("band"), self.word("joint"), self.word("alone"))
        return Figure("lift", self.word("fig_lift"), sentence, drawing, header, rows, legend, 0)

    def _histogram(self, joint: Evaluation) -> Figure:
        found: Histogram = joint.histogram
        totals = sum(found.goods), sum(found.bads)
        goods = tuple(n / totals[0] for n in found.goods)
        bads = tuple(n / totals[1] for n in found.bads)
        top = svg.nice(0.0, max(*goods, *bads))[1]
        drawing = svg.bar_chart(
            self.word("fig_histogram"),
            self.word("x_score"),
            [f"{e:.2f}" for e in found.edges[:-1]],
            svg.Axis(self.word("share"), 0.0, top, _axis_percent),
            [svg.Bars("good", goods), svg.Bars("bad", bads)],
            touching=True,
        )
        sentence = self.say(
            "Shares within goods and within bads: the less the two shapes overlap, the better the score separates.",
            "分别以好、坏样本总数为 100%；两个分布重叠越少，模型区分度越高。",
        )
        rows = tuple(
            (four(low), four(high), whole(g), whole(b))
            for low, high, g, b in zip(
                found.edges[:-1], found.edges[1:], found.goods, found.bads, strict=True
            )
        )
        legend = (("goodbar", self.word("goods")), ("badbar", self.word("bads")))
        if self.language == "zh":
            legend = (("goodbar", "好样本"), ("badbar", "坏样本"))
        header = tuple(map(self.word, ("score_from", "score_to", "goods", "bads")))
        return Figure("histogram", self.word("fig_histogram"), sentence, drawing, header, rows, legend, 0)

    def _calibration(self, curves: Sequence[tuple[str, str, Measured]]) -> Figure:
        values = [v for _, _, e in curves for b in e.calibration for v in (b.predicted, b.observed)]
        binary = isinstance(curves[0][2], Evaluation)
        low, high = svg.nice(0.0 if binary else min(values), max(values))
        write = _axis_percent if binary else svg.decimals(low, high)
        lines = [svg.Line("s0", ((low, low), (high, high)))]
        for style, _, e in curves:
            lines.append(svg.Line(style, tuple((b.predicted, b.observed) for b in e.calibration), dots=True))
        drawing = svg.line_chart(
            self.word("fig_calibration"),
            svg.Axis(self.word("x_predicted"), low, high, write),
            svg.Axis(self.word("observed"), low, high, write),
            lines,
        )
        joint = curves[1][2]
        gap = _gap(joint.calibration)
        shown = f"{100 * gap:.1f}" if binary else f"{gap:.4f}"
        sentence = self.say(
            f"On average the joint prediction is {shown}{' points' if binary else ''} off what came; "
            "dots above the diagonal were riskier than predicted."
            if binary
            else f"Bin by bin the joint prediction is {shown} off what came, on average.",
            f"各分箱中联合模型预测与实际平均相差 {shown}{' 个百分点' if binary else ''}；"
            f"位于对角线上方表示实际{'风险' if binary else '值'}高于预测。",
        )
        write_table = percent if binary else four
        rows = tuple(
            (self.word(name), whole(b.rows), write_table(b.predicted), write_table(b.observed))
            for _, name, e in reversed(curves)
            for b in e.calibration
        )
        header = (self.word("measure"), self.word("rows"), self.word("predicted"), self.word("observed"))
        return Figure(
            "calibration",
            self.word("fig_calibration"),
            sentence,
            drawing,
            header,
            rows,
            self._legend(curves, "ideal"),
        )

    def stability(self) -> list[Figure]:
        figures = []
        found = self.report.score_psi
        if found is not None:
            top = svg.nice(0.0, max(*found.expected, *found.actual))[1]
            names = [str(k + 1) for k in range(len(found.expected) - found.missing)]
            names += [self.word("missing")] * found.missing
            drawing = svg.bar_chart(
                self.word("fig_psi"),
                self.word("x_score_bin"),
                names,
                svg.Axis(self.word("share"), 0.0, top, _axis_percent),
                [svg.Bars("muted", found.expected), svg.Bars("p1", found.actual)],
            )
            sentence = self.say(
                f"The PSI of the score is {found.value:.4f}: {_stable(found.value, True)}.",
                f"评分 PSI 为 {found.value:.4f}：{_stable(found.value, False)}。",
            )
            rows = tuple(
                (name, percent(e), percent(a), four(c))
                for name, e, a, c in zip(
                    names, found.expected, found.actual, found.contributions, strict=True
                )
            )
            header = tuple(map(self.word, ("bin", "train", "test", "part")))
            legend = (("muted", self.word("train")), ("p1", self.word("test")))
            figures.append(Figure("psi", self.word("fig_psi"), sentence, drawing, header, rows, legend))
        measured = [(c, c.psi) for c in self.report.columns if c.psi is not None]
        if measured:
            measured.sort(key=lambda pair: -pair[1])
            shifted = sum(v > 0.25 for _, v in measured)
            sentence = self.say(
                f"{shifted} of {len(measured)} columns are above 0.25 between train and test.",
                f"训练集与测试集之间，{len(measured)} 个特征中有 {shifted} 个 PSI 高于 0.25。",
            )
            triples = [(c.party, c.name, v) for c, v in measured]
            figures.append(self._ranking("psi_columns", "fig_psi_columns", sentence, triples, "psi", four))
        return figures

    def _ranking(
        self,
        key: str,
        title: str,
        sentence: str,
        values: Sequence[tuple[str, str, float]],
        measure: str,
        write: Callable[[float], str],
    ) -> Figure:
        shown = [
            svg.RankRow(self.party_style.get(party, "p4"), name, value, write(value))
            for party, name, value in values[:MOST_ROWS]
        ]
        present = {party for party, _, _ in values[:MOST_ROWS]}
        legend = tuple((style, name) for name, style in self.party_style.items() if name in present)
        rows = tuple((party, name, write(value)) for party, name, value in values)
        header = (self.word("party"), self.word("column"), self.word(measure))
        if len(values) > MOST_ROWS:
            sentence += self.say(
                f" The first {MOST_ROWS} of {len(values)} are drawn.",
                f"图中展示前 {MOST_ROWS} 个（共 {len(values)} 个）。",
            )
        drawing = svg.ranking(self.word(title), shown)
        return Figure(key, self.word(title), sentence, drawing, header, rows, legend, 2)

    def columns(self) -> list[Figure]:
        ranked = [(c, c.iv) for c in self.report.columns if c.iv is not None]
        if not ranked:
            return []
        ranked.sort(key=lambda pair: -pair[1])
        best = ranked[0][0]
        partners = sum(c.party != self.report.parties.label for c, _ in ranked[:10])
        sentence = self.say(
            f"The strongest column is {best.name}; partners hold {partners} of the first "
            f"{min(10, len(ranked))}.",
            f"预测力最强的特征是 {best.name}；前 {min(10, len(ranked))} 个特征中特征方占 {partners} 个。",
        )
        triples = [(c.party, c.name, v) for c, v in ranked]
        figures = [self._ranking("iv", "fig_iv", sentence, triples, "iv", four)]
        binned = [c for c, _ in ranked if c.woe is not None]
        figures += [self._woe(place, column) for place, column in enumerate(binned[:MOST_WOE])]
        return figures

    def _woe(self, place: int, column: Column) -> Figure:
        assert column.woe is not None
        total = sum(column.woe.totals)
        shares = tuple(n / total for n in column.woe.totals)
        rates = column.woe.bad_rates
        shown = tuple((k + 0.5, r) for k, r in enumerate(rates) if r is not None)
        share_top = svg.nice(0.0, max(shares))[1]
        rate_top = svg.nice(0.0, max(r for _, r in shown))[1]
        title = f"{self.word('fig_woe')}{' ' if self.en else ''}{column.name}"
        drawing = svg.bar_chart(
            title,
            self.word("x_bin"),
            [str(k + 1) for k in range(len(shares))],
            svg.Axis(self.word("share_of_rows"), 0.0, share_top, _axis_percent),
            [svg.Bars("pale", shares)],
            overlay=(
                svg.Line("bad", shown, dots=True),
                svg.Axis(self.word("bad_rate"), 0.0, rate_top, _axis_percent),
            ),
        )
        worst = max(range(len(rates)), key=lambda k: rates[k] or 0.0)
        sentence = self.say(
            f"IV {column.iv or column.woe.iv:.4f}; the riskiest bin is {worst + 1} ({column.labels[worst]}) with a bad "
            f"rate of {rates[worst] or 0.0:.1%}.",
            f"IV 为 {column.iv or column.woe.iv:.4f}；风险最高的是第 {worst + 1} 箱（{column.labels[worst]}），"
            f"坏账率 {rates[worst] or 0.0:.1%}。",
        )
        legend = (
            ("pale", self.say("share of rows (left)", "样本占比（左轴）")),
            ("bad", self.say("bad rate (right)", "坏账率（右轴）")),
        )
        header, rows = self.woe_table(column)
        return Figure(f"woe-{place}", title, sentence, drawing, header, rows, legend, 2)

    def woe_table(self, column: Column) -> tuple[tuple[str, ...], Table]:
        """Header and rows of one column's bins."""
        header = tuple(map(self.word, ("bin", "value", "rows", "bads", "bad_rate", "woe", "iv_part")))
        woe = column.woe
        if woe is None:
            return header, ()
        cells = zip(
            column.labels, woe.totals, woe.positives, woe.bad_rates, woe.woe, woe.contributions, strict=True
        )
        return header, tuple(
            (str(k), label, whole(n), whole(p), percent(r), change(w), four(c))
            for k, (label, n, p, r, w, c) in enumerate(cells, 1)
        )

    def explanation(self) -> list[Figure]:
        figures = []
        if self.report.importance:
            total = sum(i.splits for i in self.report.importance)
            partner = sum(i.splits for i in self.report.importance if i.party != self.report.parties.label)
            gain = sum(i.gain_share for i in self.report.importance if i.party != self.report.parties.label)
            sentence = self.say(
                f"Partners' columns won {partner:,} of {total:,} splits and {gain:.1%} of the gain in fit.",
                f"特征方的特征赢得 {total:,} 次分裂中的 {partner:,} 次，贡献 {gain:.1%} 的增益。",
            )
            drawing = svg.ranking(
                self.word("fig_party"),
                [
                    svg.RankRow(
                        self.party_style.get(i.party, "p4"), i.party, i.gain_share, percent(i.gain_share)
                    )
                    for i in self.report.importance
                ],
            )
            header = tuple(map(self.word, ("party", "splits", "gain_share")))
            rows = tuple((i.party, whole(i.splits), percent(i.gain_share)) for i in self.report.importance)
            legend = tuple((self.party_style.get(i.party, "p4"), i.party) for i in self.report.importance)
            figures.append(Figure("party", self.word("fig_party"), sentence, drawing, header, rows, legend))
        if self.report.column_importance:
            ranked: list[Importance] = sorted(self.report.column_importance, key=lambda i: -i.gain_share)
            top = sum(i.gain_share for i in ranked[:5])
            sentence = self.say(
                f"The first {min(5, len(ranked))} columns carry {top:.1%} of the gain in fit.",
                f"前 {min(5, len(ranked))} 个特征合计贡献 {top:.1%} 的增益。",
            )
            triples = [(i.party, i.column or "", i.gain_share) for i in ranked]
            figures.append(self._ranking("column", "fig_column", sentence, triples, "gain_share", percent))
        return figures

    def training(self) -> list[Figure]:
        figures = []
        history = self.report.history
        if history is not None and history.train:
            name = METRIC_NAMES[history.metric]
            lines = [svg.Line("s2", tuple((k + 1.0, v) for k, v in enumerate(history.train)))]
            legend: tuple[tuple[str, str], ...] = (("s2", self.word("train")),)
            if history.valid:
                lines.append(svg.Line("s1", tuple((k + 1.0, v) for k, v in enumerate(history.valid))))
                legend = (("s1", self.word("valid")), *legend)
            values = (*history.train, *history.valid)
            low, high = svg.nice(min(values), max(values))
            drawing = svg.line_chart(
                self.word("fig_history"),
                svg.Axis(self.word("x_tree"), 0.0, float(len(history.train)) + 0.5, lambda v: f"{v:g}"),
                svg.Axis(name, low, high, svg.decimals(low, high)),
                lines,
            )
            kept = history.best if history.best is not None else len(history.train)
            last = history.valid or history.train
            sentence = self.say(
                f"{name} after each tree; {kept} trees were kept, at {last[min(kept, len(last)) - 1]:.4f} on "
                f"{'validation' if history.valid else 'training'} rows.",
                f"每增加一棵树后的 {name}；最终保留 {kept} 棵，"
                f"{'验证' if history.valid else '训练'}集 {name} 为 {last[min(kept, len(last)) - 1]:.4f}。",
            )
            rows = tuple(
                (str(k), four(t), four(v))
                for k, (t, v) in enumerate(zip_longest(history.train, history.valid), 1)
            )
            header = tuple(map(self.word, ("trees", "train", "valid")))
            figures.append(
                Figure("history", self.word("fig_history"), sentence, drawing, header, rows, legend, 0)
            )
        figures += self._stages()
        figures += self._bytes()
        return figures

    def _stages(self) -> Iterator[Figure]:
        stages = self.report.cost.stages
        if not stages:
            return
        names = [known(said(s.stage, self.language), STAGES, self.language) for s in stages]
        longest = max(range(len(stages)), key=lambda k: stages[k].wall_s)
        sentence = self.say(
            f"The longest stage is {names[longest]}, {stages[longest].wall_s:,.1f} of "
            f"{self.report.cost.wall_s:,.1f} seconds.",
            f"耗时最长的阶段是{names[longest]}：{stages[longest].wall_s:,.1f} 秒，"
            f"全程 {self.report.cost.wall_s:,.1f} 秒。",
        )
        drawing = svg.ranking(
            self.word("fig_stages"),
            [
                svg.RankRow("p1", name, s.wall_s, seconds(s.wall_s) + self.say(" s", " 秒"))
                for name, s in zip(names, stages, strict=True)
            ],
        )
        rows = tuple(
            (name, seconds(s.wall_s), seconds(s.wait_s)) for name, s in zip(names, stages, strict=True)
        )
        header = tuple(map(self.word, ("stage", "seconds", "waiting")))
        yield Figure("stages", self.word("fig_stages"), sentence, drawing, header, rows)

    def _bytes(self) -> Iterator[Figure]:
        kinds = sorted(self.report.traffic.kinds, key=lambda k: -k.size_bytes)
        if not kinds:
            return
        total = sum(k.size_bytes for k in kinds)
        sentence = self.say(
            f"{size(total)} crossed the line in all; {kinds[0].kind} is {kinds[0].size_bytes / max(total, 1):.1%} of it.",
            f"全程通信量 {size(total)}；其中 {kinds[0].kind} 占 {kinds[0].size_bytes / max(total, 1):.1%}。",
        )
        drawing = svg.ranking(
            self.word("fig_bytes"),
            [
                svg.RankRow(
                    self.party_style.get(k.sender, "p4"), k.kind, float(k.size_bytes), size(k.size_bytes)
                )
                for k in kinds[:MOST_ROWS]
            ],
        )
        rows = tuple(
            (k.kind, k.sender, whole(k.count), size(k.size_bytes), whole(k.size_bytes)) for k in kinds
        )
        header = tuple(map(self.word, ("message_kind", "sender", "count", "size", "size_bytes")))
        senders = {k.sender for k in kinds}
        legend = tuple((style, name) for name, style in self.party_style.items() if name in senders)
        yield Figure("bytes", self.word("fig_bytes"), sentence, drawing, header, rows, legend, 2)


def _share_axis(name: str) -> svg.Axis:
    return svg.Axis(name, 0.0, 1.0, _axis_percent)


def _axis_percent(value: float) -> str:
    return f"{100 * value:.6g}%"


def _read(points: Sequence[RocPoint], place: Callable[[RocPoint], float], at: float) -> float:
    """The share of bads where the curve passes `at`, between points on a straight line; the upper end of a step."""
    before = points[0]
    for point in points[1:]:
        if place(point) > at:
            gap = place(point) - place(before)
            return before.tpr + (point.tpr - before.tpr) * (at - place(before)) / gap
        before = point
    return before.tpr


def _at_shares(points: Sequence[RocPoint]) -> list[RocPoint]:
    """The points nearest to each twentieth of the rows."""
    found = [min(points[1:], key=lambda p: abs(p.share - k / 20)) for k in range(1, 21)]
    return sorted(set(found), key=lambda p: p.share)


def _gap(bins: Sequence[CalibrationBin]) -> float:
    return sum(b.rows * abs(b.predicted - b.observed) for b in bins) / sum(b.rows for b in bins)


def _stable(value: float, en: bool) -> str:
    if value < 0.1:
        return "train and test look alike" if en else "训练集与测试集分布一致"
    if value <= 0.25:
        return "worth a look" if en else "分布有一定变化，需关注"
    return "the population has shifted" if en else "客群已明显漂移"
