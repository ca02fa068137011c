"""What a job will do before it does it: stages, engine and cost, who learns what, which kinds of messages will cross."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from isthmus.jobs.engine import Choice, Facts
from isthmus.jobs.reason import Words, notes_of, reason_of
from isthmus.jobs.room import Room, rooms_of
from isthmus.jobs.spec import JobFile, choice_of, job_digest, resolve, vectors_of
from isthmus.protocols import align, binning, boost, evaluate, hint, hint_setup, histogram, score
from isthmus.wire.message import Message


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    title: Words


@dataclass(frozen=True, slots=True)
class Leak:
    """What one party learns in one stage."""

    stage: str
    party: str
    learns: Words


@dataclass(frozen=True, slots=True)
class GrantNote:
    """What this node knows of the grant that a job would run under at one feature owner; `code` says why one is missing."""

    holder: str
    dataset: str
    state: Literal["found", "ending", "missing"]
    grant: str
    until: str
    runs_left: int
    code: str
    words: Words


@dataclass(frozen=True, slots=True)
class Plan:
    """The resolved document, its hash, and what follows from it. Made without reading a row.

    `reason` says why this engine; `notes` what was assumed, how vectors are counted, what is open and how to choose otherwise.
    """

    resolved: dict[str, Any]
    digest: bytes
    stages: tuple[Stage, ...]
    choice: Choice
    reason: Words
    notes: tuple[Words, ...]
    leaks: tuple[Leak, ...]
    messages: tuple[str, ...]
    rooms: tuple[Room, ...] = ()
    grants: tuple[GrantNote, ...] = ()


def make_plan(job: JobFile, facts: Facts | None = None) -> Plan:
    """`facts` are what this node knows of tables and line; the label owner's decide what `auto` means."""
    resolved, choice = resolve(job, facts), choice_of(job, facts)
    return Plan(
        resolved,
        job_digest(resolved),
        STAGES,
        choice,
        reason_of(choice),
        notes_of(
            job,
            choice,
            resolved["crypto"]["vectors_max"],
            vectors_of(job, facts),
        ),
        tuple(_leaks(job, resolved)),
        (*COMMON, *OF_ENGINE[choice.engine]),
        rooms_of(job, choice.engine, facts),
    )


def _kinds(*protocols: ModuleType) -> tuple[str, ...]:
    """Names of the message types that the files of these protocols define."""
    return tuple(
        name
        for protocol in protocols
        for name, value in vars(protocol).items()
        if isinstance(value, type) and issubclass(value, Message) and value.__module__ == protocol.__name__
    )


STAGES = (
    Stage("align", Words("find the rows that all parties share", "求各方共有的样本")),
    Stage("bin", Words("bin the columns, weigh them (WOE, IV)", "特征分箱，计算 WOE 与 IV")),
    Stage(
        "train", Words("train the trees, and the label owner's own baseline", "训练联合模型及标签方单方基线")
    ),
    Stage("evaluate", Words("score the test rows, compute the metrics", "为测试样本打分并计算指标")),
    Stage("report", Words("write the report of each party", "生成各方报告")),
)
COMMON = ("Abort", *_kinds(align, binning, boost, evaluate, score))
OF_ENGINE = {"lattice-hint": _kinds(hint_setup, hint), "paillier": _kinds(histogram)}


def _leaks(job: JobFile, resolved: dict[str, Any]) -> list[Leak]:
    owner, partners = job.parties.label_owner, job.parties.feature_owners
    by_ids = job.crypto.split_reveal == "ids"
    several = len(partners) > 1
    floor = job.privacy.min_bin_rows
    engine, vectors = resolved["crypto"]["engine"], f"{resolved['crypto']['vectors_max']:,}"
    rows: list[Leak] = []

    def learns(stage: str, party: str, en: str, zh: str) -> None:
        rows.append(Leak(stage, party, Words(en, zh)))

    names = ", ".join(partners)
    if several:
        learns(
            "align",
            owner,
            f"which of its ids each of {names} has (each pairwise overlap), and the size of every set",
            f"自己的标识中有哪些分别存在于 {names}（即与每一方的交集），以及各方的集合大小",
        )
    else:
        learns(
            "align",
            owner,
            f"which of its ids {names} has too, and the size of that set",
            f"自己的标识中有哪些也存在于 {names}，以及对方的集合大小",
        )
    for partner in partners:
        if several:
            learns(
                "align",
                partner,
                f"which of its ids all parties share, and nothing of its overlap with another feature owner; the set size "
                f"of {owner}",
                f"自己的标识中有哪些为各方共有，但不知道与其他特征方的交集；以及 {owner} 的集合大小",
            )
        else:
            learns(
                "align",
                partner,
                f"which of its ids {owner} has too, and the size of that set",
                f"自己的标识中有哪些也存在于 {owner}，以及对方的集合大小",
            )
    learns(
        "bin",
        owner,
        f"of the opaque features of {names}: how many there are, how many bins each has, and bad and good rows per bin (WOE, "
        f"IV); no bin in use holds fewer than {max(floor, job.features.binning.min_rows)} training rows",
        f"{names} 的匿名特征：特征个数、每个特征的分箱数，以及每箱的好坏样本数（WOE、IV）；"
        f"所用分箱的训练样本均不少于 {max(floor, job.features.binning.min_rows)} 行",
    )
    learns(
        "bin",
        owner,
        "of a categorical feature only bin indexes; the number of bins hints at how many levels are frequent",
        "对类别型特征只见分箱序号；分箱数会透露常见类别的大致个数",
    )
    for partner in partners:
        learns(
            "bin",
            partner,
            "which shared rows train, validate and test; nothing of the labels",
            "哪些共有样本用于训练、验证与测试；对标签一无所知",
        )
    learns(
        "train",
        owner,
        "exact sums of the quantised gradients per tree node and bin of opaque features; which party wins a split; the side "
        + (
            "that the rows of that tree node take at a split of a partner"
            if by_ids
            else "that every row takes at a split of a partner"
        ),
        "每个树节点、每个匿名分箱上量化梯度的精确和；每个分裂由哪一方获胜；在对方获胜的分裂处，"
        + ("该树节点内样本的走向" if by_ids else "全部样本的走向"),
    )
    for partner in partners:
        if engine == "paillier":
            learns(
                "train",
                partner,
                "which rows are in every tree node (the Paillier engine shows them), the shape of the trees, and which of "
                "its own bins split; nothing of gradients or labels beyond what these groups of rows suggest",
                "每个树节点中有哪些样本（Paillier 引擎会显示），树的形状，以及自己的哪些分箱被用于分裂；"
                "除样本分组本身的暗示外，不知道梯度或标签",
            )
        else:
            learns(
                "train",
                partner,
                f"how many encrypted vectors there are (the shape of the trees, and of a very large tree node how wide its "
                f"sums are), at most {vectors}, and which of its own bins "
                "split; nothing of gradients or labels, nor which rows are in "
                + ("the tree nodes that it does not win" if by_ids else "any tree node"),
                f"加密向量的个数（即树的形状；对很大的树节点还有其求和的大致位宽；至多 {vectors} 个），"
                "以及自己的哪些分箱被用于分裂；不知道梯度或标签，也不知道"
                + ("自己未获胜的树节点中有哪些样本" if by_ids else "任何树节点中有哪些样本"),
            )
            learns(
                "train",
                partner,
                "the secrets of 4 of every 64 messages prepared ahead, which it picks and checks; they encrypt nothing",
                "每 64 条预备消息中由其任选 4 条的密钥，用于核验；这些密钥不加密任何内容",
            )
        if by_ids:
            learns(
                "train",
                partner,
                "the rows in the tree nodes that it wins (split_reveal: ids)",
                "自己获胜的树节点中的样本（split_reveal: ids）",
            )
        elif engine == "lattice-hint":
            learns(
                "train",
                partner,
                "no ids: at a split of its own it sends one bit for every row (split_reveal: column)",
                "不知道任何标识：在自己的分裂处为全部样本各发送一位（split_reveal: column）",
            )
    learns("evaluate", owner, "scores and all metrics of the test rows", "测试样本的分数与全部指标")
    learns(
        "evaluate",
        owner,
        "the side that "
        + ("the rows which meet a split of a partner" if by_ids else "every row")
        + " take at it, while the test rows are scored",
        "为测试样本打分时，" + ("到达对方分裂的样本" if by_ids else "全部样本") + "在对方分裂处的走向",
    )
    for partner in partners:
        learns(
            "evaluate",
            partner,
            "the number of test rows, AUC and KS (or RMSE), alone and joint"
            + (
                "; which test rows meet which of its own splits, and no score"
                if by_ids
                else "; no row and no score"
            ),
            "测试样本数，单方与联合的 AUC、KS（或 RMSE）"
            + ("；哪些测试样本到达自己的哪些分裂，但没有分数" if by_ids else "；没有样本与分数"),
        )
    return rows
