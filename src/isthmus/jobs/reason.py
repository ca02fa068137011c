"""Why a job has its engine, in words: the reason, and what a person should know beside it."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.crypto.lattice import sets
from isthmus.jobs.engine import Choice, Facts, Pace, Share
from isthmus.jobs.spec import JobFile


@dataclass(frozen=True, slots=True)
class Words:
    """The same sentence in English and Chinese."""

    en: str
    zh: str

    def of(self, language: str) -> str:
        return self.zh if language == "zh" else self.en


REVIEW = Words(
    "the lattice construction has not been reviewed by outside cryptographers; whoever prefers the engine that is "
    "understood best writes crypto.engine: paillier (--set engine=paillier)",
    "lattice-hint 的格密码构造尚未经过外部密码学专家评审；如希望使用研究最充分的引擎，请写 "
    "crypto.engine: paillier（--set engine=paillier）",
)
COUNTED = Words(
    "counted: what the encryption adds for all parties, one core each, computing and sending one after the other; good to "
    "a factor of two",
    "估算范围：各方因加密增加的开销，每方一个核，计算与传输不重叠；误差在两倍以内",
)
THEN = {
    "cheaper": Words(
        "and lattice-hint hides which rows are in a tree node", "且 lattice-hint 不透露树节点中有哪些样本"
    ),
    "near": Words(
        "within a factor of two the one that hides which rows are in a tree node is taken",
        "相差两倍以内，选用不透露树节点中有哪些样本的引擎",
    ),
    "dear": Words(
        "paillier shows the rows of every tree node, and takes less than half the time",
        "paillier 会显示每个树节点中的样本，但耗时不到一半",
    ),
}
KNOWN = {
    "registered": Words("registered here", "本节点已登记"),
    "named": Words("named in the job file", "作业文件指定"),
    "assumed": Words("assumed", "假定"),
}


def reason_of(choice: Choice) -> Words:
    """One sentence: why this engine."""
    if choice.why == "named":
        return _named(choice)
    if choice.why == "unknown":
        return Words(
            "auto: lattice-hint, unless the figures of a registered table speak against it; this node has none",
            "auto：默认 lattice-hint，除非已登记数据集的规模不适合；本节点尚未登记该数据集",
        )
    if choice.why == "rows":
        return Words(
            f"auto: lattice-hint takes at most {sets.ROWS_MAX:,} training rows, and there may be more",
            f"auto：lattice-hint 最多支持 {sets.ROWS_MAX:,} 行训练样本，本作业可能超出",
        )
    if choice.why == "bins":
        return Words(
            f"auto: lattice-hint takes at most {sets.BINS_MAX:,} bins (4 GiB of key columns), and there may be more",
            f"auto：lattice-hint 最多支持 {sets.BINS_MAX:,} 个分箱（4 GiB 密钥列），本作业可能超出",
        )
    lattice, paillier = (_time(choice.cost(engine).wall_s) for engine in ("lattice-hint", "paillier"))
    times = Words(
        f"auto: about {lattice.en} with lattice-hint, {paillier.en} with paillier",
        f"auto：lattice-hint 约需 {lattice.zh}，paillier 约需 {paillier.zh}",
    )
    then = THEN[choice.why]
    return Words(f"{times.en}; {then.en}", f"{times.zh}；{then.zh}")


def notes_of(job: JobFile, choice: Choice, vectors_max: int, counted: int) -> tuple[Words, ...]:
    """What was taken for known, what the figures count, the vector budget, and what is open."""
    notes = []
    if choice.facts is not None:
        notes += [_taken(choice.facts, job.features.binning.max_bins + 1), COUNTED]
    if choice.engine == "lattice-hint":
        notes.append(_budget(job.model.trees, 1 << (job.model.depth - 1), vectors_max, counted))
    return (*notes, REVIEW)


def _named(choice: Choice) -> Words:
    if choice.auto is None:
        return Words("the job file names it", "由作业文件指定")
    if choice.auto == choice.engine:
        return Words(
            "the job file names it; by the figures of this node auto means the same",
            "由作业文件指定；按本节点的数据，auto 也会选用它",
        )
    return Words(
        f"the job file names it; by the figures of this node auto would mean {choice.auto}",
        f"由作业文件指定；按本节点的数据，auto 会选用 {choice.auto}",
    )


def _taken(facts: Facts, bins: int) -> Words:
    shares, line = [_share(share) for share in facts.shares], _line(facts.pace)
    return Words(
        f"taken: {facts.rows:,} rows, those of the own table (no more can be shared); "
        f"{'; '.join(share.en for share in shares)}; {bins} bins a column; {line.en}",
        f"取值：样本 {facts.rows:,} 行，即本方数据集的行数（共有样本不会更多）；"
        f"{'；'.join(share.zh for share in shares)}；每列 {bins} 个分箱；{line.zh}",
    )


def _share(share: Share) -> Words:
    known = KNOWN[share.known]
    return Words(
        f"{share.features:,} columns of {share.party} ({known.en})",
        f"{share.party} 的 {share.features:,} 列（{known.zh}）",
    )


def _line(pace: Pace) -> Words:
    known = Words("measured", "实测") if pace.measured else KNOWN["assumed"]
    up, down = (f"{rate * 8 / 1e6:.3g}" for rate in (pace.up_bytes_per_s, pace.down_bytes_per_s))
    trip = f"{pace.round_trip_s * 1000:.3g} ms"
    return Words(
        f"a line of {up} Mbit/s up, {down} Mbit/s down and {trip} there and back ({known.en})",
        f"链路上行 {up} Mbit/s，下行 {down} Mbit/s，往返 {trip}（{known.zh}）",
    )


def _budget(trees: int, nodes: int, vectors_max: int, counted: int) -> Words:
    return Words(
        f"vectors_max {vectors_max:,}: no feature owner takes more encrypted vectors in this job. This node counts {counted:,}: "
        f"{trees} trees of {nodes} vectors and one for the bins, times four or more, as the sums of a large tree node need "
        "several vectors",
        f"vectors_max {vectors_max:,}：特征方在本作业中接受的加密向量不超过此数。本节点计得 {counted:,}：{trees} 棵树"
        f"每棵 {nodes} 个向量，分箱一个，再放宽到四倍或更多，因为较大树节点的和需要多个向量",
    )


def _time(seconds: float) -> Words:
    for size, unit in ((86400, Words("days", "天")), (3600, Words("h", "小时")), (60, Words("min", "分钟"))):
        if seconds >= 2 * size:
            return Words(f"{seconds / size:,.0f} {unit.en}", f"{seconds / size:,.0f} {unit.zh}")
    figure = f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"
    return Words(f"{figure} s", f"{figure} 秒")
