"""The words of the page in both languages, and the glossary."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.report.model import Language, Words

PAGE: dict[str, Words] = {
    "title": Words("Joint model report", "联合建模报告"),
    "prepared_for": Words("Edition for", "本版供"),
    "created": Words("Created", "生成时间"),
    "purpose": Words("Purpose", "用途"),
    "label_owner": Words("Label owner", "标签方"),
    "feature_owner": Words("Feature owner", "特征方"),
    "contents": Words("Contents", "目录"),
    "sec_result": Words("Result", "结论"),
    "sec_sample": Words("Sample", "样本"),
    "sec_evaluation": Words("Evaluation", "模型评估"),
    "sec_stability": Words("Stability", "稳定性"),
    "sec_columns": Words("Columns and bins", "特征与分箱"),
    "sec_explanation": Words("What drives the score", "特征重要性"),
    "sec_training": Words("Training and cost", "训练过程与开销"),
    "sec_leaks": Words("Who learned what", "各方获知的信息"),
    "sec_governance": Words("Governance", "治理与留痕"),
    "sec_glossary": Words("Glossary", "术语表"),
    "gain": Words("Gain in AUC", "AUC 提升"),
    "gain_rmse": Words("RMSE saved", "RMSE 降幅"),
    "interval_95": Words("95 % interval", "95% 置信区间"),
    "no_interval": Words("no interval computed", "未计算置信区间"),
    "auc_joint": Words("AUC, joint", "联合模型 AUC"),
    "ks_joint": Words("KS, joint", "联合模型 KS"),
    "rmse_joint": Words("RMSE, joint", "联合模型 RMSE"),
    "mae_joint": Words("Mean abs. error, joint", "联合模型平均绝对误差"),
    "r2_joint": Words("R², joint", "联合模型 R²"),
    "worst_tenth": Words("Bads found in worst 10 %", "最差 10% 坏样本捕获率"),
    "alone_short": Words("alone", "单方"),
    "alone": Words("Label owner alone", "标签方单方模型"),
    "joint": Words("Joint model", "联合模型"),
    "pooled": Words("Pooled data", "明文合并建模"),
    "pooled_note": Words(
        "Pooled data is what no party may have; shown in demonstrations as the yardstick.",
        "“明文合并建模”仅在演示中作为对照，实际业务中任何一方都不得持有合并数据。",
    ),
    "measure": Words("Measure", "指标"),
    "change": Words("Joint − alone", "联合 − 单方"),
    "auc": Words("AUC", "AUC"),
    "gini": Words("Gini", "Gini 系数"),
    "ks": Words("KS", "KS"),
    "ks_threshold": Words("Score cut-off at KS", "KS 对应的评分切点"),
    "log_loss": Words("Log loss", "对数损失"),
    "worst_capture": Words("Share of bads in worst 10 %", "最差 10% 坏样本捕获率"),
    "worst_rate": Words("Bad rate in worst 10 %", "最差 10% 坏账率"),
    "rmse": Words("RMSE", "RMSE"),
    "mae": Words("Mean absolute error", "平均绝对误差"),
    "r2": Words("R²", "R²"),
    "mean_actual": Words("Mean, actual", "实际均值"),
    "mean_predicted": Words("Mean, predicted", "预测均值"),
    "points": Words("pp", "百分点"),
    "direction": Words(
        "The score is the predicted probability of a bad case: higher is riskier. All figures are from the test rows.",
        "评分为预测的坏样本概率，分值越高风险越大。以下指标均在测试集上计算。",
    ),
    "direction_regression": Words("All figures are from the test rows.", "以下指标均在测试集上计算。"),
    "rows": Words("Rows", "样本数"),
    "party": Words("Party", "参与方"),
    "shared_of_own": Words("Shared with all", "共有占比"),
    "common_rows": Words("Shared rows", "共有样本"),
    "split": Words("Split", "数据集"),
    "train": Words("Train", "训练集"),
    "valid": Words("Validation", "验证集"),
    "test": Words("Test", "测试集"),
    "bad_rate": Words("Bad rate", "坏账率"),
    "bands_title": Words("Gain and lift table, joint model", "联合模型评分分段表"),
    "bands_note": Words(
        "Ten bands of equal size, riskiest first. Rows with one score stay together, so bands may differ in size.",
        "按评分由高到低等分为十段；评分相同的样本不拆分，各段样本数可能略有差异。",
    ),
    "bands_20": Words("The same in 20 bands", "按二十段展示"),
    "band": Words("Band", "分段"),
    "score_range": Words("Score", "评分区间"),
    "bads": Words("Bads", "坏样本数"),
    "goods": Words("Goods", "好样本数"),
    "lift": Words("Lift", "提升度"),
    "cum_rows": Words("Cum. rows", "累计样本占比"),
    "cum_bads": Words("Cum. bads", "累计坏样本占比"),
    "cum_lift": Words("Cum. lift", "累计提升度"),
    "column": Words("Column", "特征"),
    "bins": Words("Bins", "分箱数"),
    "bin": Words("Bin", "分箱"),
    "share": Words("Share", "占比"),
    "woe": Words("WOE", "WOE"),
    "iv": Words("IV", "IV"),
    "iv_part": Words("IV part", "IV 贡献"),
    "psi": Words("PSI", "PSI"),
    "all_columns": Words("All columns used", "全部入模特征"),
    "bin_tables": Words("Bins of every column", "全部分箱明细"),
    "woe_note": Words(
        "WOE is ln(share of goods / share of bads): below zero is riskier than average. "
        "A bin without goods or without bads counts half a row in the empty cell.",
        "WOE = ln(好样本占比 / 坏样本占比)，小于零表示风险高于平均水平；好或坏样本数为零的分箱按 0.5 行平滑。",
    ),
    "alias_note": Words(
        "Columns of a partner appear under an alias; only their owner knows the name.",
        "合作方特征仅以别名显示，真实名称只有其所有方知晓。",
    ),
    "dropped": Words("Columns left out", "未入模特征"),
    "reason": Words("Reason", "原因"),
    "splits": Words("Splits won", "分裂次数"),
    "gain_share": Words("Share of gain", "增益占比"),
    "wall": Words("Elapsed", "总耗时"),
    "cpu": Words("CPU time", "CPU 时间"),
    "peak": Words("Peak memory", "内存峰值"),
    "rounds": Words("Rounds", "通信轮次"),
    "sent_by_label": Words("Sent by label owner", "标签方发送"),
    "sent_by_feature": Words("Sent by feature owners", "特征方发送"),
    "stage": Words("Stage", "阶段"),
    "seconds": Words("Seconds", "耗时（秒）"),
    "waiting": Words("of which waiting", "其中等待（秒）"),
    "message_kind": Words("Message kind", "消息类型"),
    "sender": Words("Sender", "发送方"),
    "count": Words("Count", "条数"),
    "size": Words("Size", "大小"),
    "size_bytes": Words("Bytes", "字节数"),
    "engine": Words("Engine", "加密引擎"),
    "key_bits": Words("Key bits", "密钥长度（位）"),
    "trees": Words("Trees", "树的棵数"),
    "depth": Words("Depth", "树深度"),
    "max_bins": Words("Bins", "最大分箱数"),
    "parameters": Words("All parameters", "全部参数"),
    "parameter": Words("Parameter", "参数"),
    "value": Words("Value", "取值"),
    "learns_label": Words("Label owner learns", "标签方获知"),
    "learns_feature": Words("Feature owner learns", "特征方获知"),
    "leak_note": Words(
        "Raw data never left its owner. This is all that the other side could see.",
        "原始数据始终未离开所有方；下表列出对方可见的全部信息。",
    ),
    "digest": Words("Digest of the job file", "作业文件摘要"),
    "signature": Words("Signed by", "签署方"),
    "fingerprint": Words("Key fingerprint", "密钥指纹"),
    "signed": Words("Signed", "签署时间"),
    "component": Words("Component", "组件"),
    "version": Words("Version", "版本"),
    "table": Words("Figures as a table", "查看数据表"),
    "chance": Words("chance", "随机"),
    "ideal": Words("ideal", "理想"),
    "x_share": Words("Share of rows, riskiest first", "样本占比（按风险由高到低）"),
    "y_caught": Words("Share found", "累计占比"),
    "y_bads": Words("Share of bads", "坏样本占比"),
    "x_goods": Words("Share of goods above the cut-off", "切点以上好样本占比（FPR）"),
    "x_band": Words("Band, riskiest first", "评分分段（按风险由高到低）"),
    "x_predicted": Words("Predicted", "预测值"),
    "observed": Words("Observed", "实际值"),
    "predicted": Words("Predicted", "预测值"),
    "x_score": Words("Score", "评分"),
    "score_from": Words("Score from", "评分下限"),
    "score_to": Words("Score to", "评分上限"),
    "x_tree": Words("Trees", "树的棵数"),
    "x_bin": Words("Bin", "分箱"),
    "x_score_bin": Words("Score bin of the training rows", "训练集评分分箱"),
    "tpr": Words("Share of bads", "坏样本占比（TPR）"),
    "fpr": Words("Share of goods", "好样本占比（FPR）"),
    "threshold": Words("Cut-off", "切点"),
    "part": Words("Contribution", "贡献"),
    "share_of_rows": Words("Share of rows", "样本占比"),
    "missing": Words("missing", "缺失"),
    "fig_interval": Words("Gain and its interval", "提升幅度与置信区间"),
    "fig_ks": Words("KS: how far goods and bads lie apart", "KS 曲线"),
    "fig_roc": Words("ROC", "ROC 曲线"),
    "fig_gain": Words("Gain: bads found by depth", "累计捕获曲线（Gain）"),
    "fig_lift": Words("Lift by band", "分段提升度（Lift）"),
    "fig_calibration": Words("Calibration", "概率校准"),
    "fig_histogram": Words("Scores of goods and bads", "好坏样本评分分布"),
    "fig_psi": Words("Scores: train against test", "评分稳定性：训练集与测试集"),
    "fig_psi_columns": Words("PSI of columns", "特征 PSI"),
    "fig_history": Words("Metric per tree", "逐棵树的指标变化"),
    "fig_iv": Words("Information value of columns", "特征 IV 排序"),
    "fig_woe": Words("Bins of", "分箱："),
    "fig_party": Words("Importance by party", "各方贡献"),
    "fig_column": Words("Importance by column", "特征重要性排序"),
    "fig_stages": Words("Seconds per stage", "各阶段耗时"),
    "fig_bytes": Words("Bytes by message kind", "各类消息通信量"),
    "footer": Words("One file, no script, no outside address.", "单一文件，无脚本，不访问任何外部地址。"),
}

REASONS: dict[str, Words] = {
    "constant": Words("one value only", "取值恒定"),
    "empty": Words("no values", "全部为空"),
    "sparse_bins": Words("bins with too few rows", "分箱样本数不足"),
    "low_iv": Words("information value too low", "IV 过低"),
    "duplicate": Words("same as another column", "与其他特征重复"),
}

STAGES: dict[str, Words] = {
    "link": Words("link", "建立连接"),
    "align": Words("align", "样本对齐"),
    "profile": Words("profile", "数据画像"),
    "bin": Words("bin", "特征分箱"),
    "select": Words("select", "特征筛选"),
    "train": Words("train", "模型训练"),
    "trees": Words("trees", "树模型训练"),
    "baseline": Words("baseline", "单方基线"),
    "evaluate": Words("evaluate", "模型评估"),
    "score": Words("score", "评分"),
    "report": Words("report", "生成报告"),
}

METRIC_NAMES = {"auc": "AUC", "log_loss": "log loss", "rmse": "RMSE"}


@dataclass(frozen=True, slots=True)
class Term:
    """One entry of the glossary."""

    name: Words
    meaning: Words


GLOSSARY: tuple[Term, ...] = (
    Term(
        Words("AUC", "AUC"),
        Words(
            "Chance that a random bad case scores above a random good one; 0.5 is chance, 1 is perfect.",
            "随机抽取一个坏样本与一个好样本，坏样本评分更高的概率；0.5 相当于随机，1 为完全区分。",
        ),
    ),
    Term(
        Words("Gini", "Gini 系数"),
        Words("2 × AUC − 1.", "2 × AUC − 1，区分度的另一种表示。"),
    ),
    Term(
        Words("KS", "KS"),
        Words(
            "Largest distance between the shares of bads and goods above one cut-off (Kolmogorov-Smirnov).",
            "各切点上累计坏样本占比与累计好样本占比之差的最大值，衡量模型区分度。",
        ),
    ),
    Term(
        Words("Gain table", "累计捕获率（Gain）"),
        Words(
            "Share of all bads found when the riskiest x % of rows are looked at.",
            "按风险由高到低取前 x% 样本时，能够覆盖的坏样本比例。",
        ),
    ),
    Term(
        Words("Lift", "提升度（Lift）"),
        Words(
            "Bad rate of a band divided by the bad rate of all rows; 1 is no better than chance.",
            "某一分段的坏账率与整体坏账率之比；1 表示与随机无异。",
        ),
    ),
    Term(
        Words("Bad rate", "坏账率"),
        Words("Bad cases divided by rows.", "坏样本数除以样本总数。"),
    ),
    Term(
        Words("95 % interval", "95% 置信区间"),
        Words(
            "Range of the gain over repeated draws of the test rows; if it includes zero, no gain is shown.",
            "对测试样本反复有放回抽样所得提升幅度的区间；若包含零，则不能证明存在提升。",
        ),
    ),
    Term(
        Words("Calibration", "概率校准"),
        Words(
            "Whether a predicted 10 % comes true in 10 % of cases.",
            "预测概率与实际坏账率的一致程度，例如预测 10% 的客群实际坏账率是否约为 10%。",
        ),
    ),
    Term(
        Words("Log loss", "对数损失"),
        Words(
            "Mean penalty of the predicted probabilities; lower is better.",
            "预测概率的平均惩罚，数值越低越好。",
        ),
    ),
    Term(
        Words("RMSE", "均方根误差（RMSE）"),
        Words(
            "Root of the mean squared error, in the unit of the label; lower is better.",
            "误差平方均值的平方根，单位与标签一致，数值越低越好。",
        ),
    ),
    Term(
        Words("WOE", "证据权重（WOE）"),
        Words(
            "Weight of evidence of a bin: ln(share of goods / share of bads).",
            "分箱的证据权重：ln(好样本占比 / 坏样本占比)，越低风险越高。",
        ),
    ),
    Term(
        Words("IV", "信息价值（IV）"),
        Words(
            "Information value of a column: under 0.02 useless, 0.1 to 0.3 medium, above 0.3 strong.",
            "特征的信息价值：低于 0.02 基本无预测力，0.1 至 0.3 中等，高于 0.3 较强。",
        ),
    ),
    Term(
        Words("PSI", "群体稳定性指标（PSI）"),
        Words(
            "Population stability index: under 0.1 stable, 0.1 to 0.25 worth a look, above 0.25 shifted.",
            "衡量分布是否漂移：低于 0.1 稳定，0.1 至 0.25 需关注，高于 0.25 明显漂移。",
        ),
    ),
    Term(
        Words("Joint model", "联合模型"),
        Words(
            "Trained on columns of several parties; each keeps its data and its half of the model.",
            "使用多方特征共同训练的模型；各方数据不出域，并各自保存模型的一部分。",
        ),
    ),
    Term(
        Words("Alias", "特征别名"),
        Words(
            "Name under which a partner's column appears here, such as data-co.f003.",
            "合作方特征在本报告中的代号，例如 data-co.f003。",
        ),
    ),
)


def page(key: str, language: Language) -> str:
    """One text of the page."""
    return PAGE[key].in_(language)


def known(text: str, table: dict[str, Words], language: Language) -> str:
    """A code in words if the table has it, else the text itself."""
    return table[text].in_(language) if text in table else text
