"""The twin: boosted trees on the pooled integers in plain numpy and Python loops. It shares no code with the engines, the
protocols or `learn.tree`; what it gives is what every engine must give, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Pooled:
    """Bins of all parties side by side, `(features, rows)`; `owner[f]` says whose feature f is."""

    bins: np.ndarray
    counts: list[int]
    owner: list[int]


@dataclass
class TwinModel:
    base: float
    trees: list[dict[int, Any]] = field(default_factory=list)


def grow(
    pooled: Pooled, label: np.ndarray, train: int, p: Any, widths: tuple[int, int], rng: Any
) -> TwinModel:
    y = label[:train]
    mean = float(np.mean(y))
    base = float(np.log(mean / (1 - mean))) if p.objective == "binary" else mean
    model = TwinModel(base)
    raw = np.full(len(label), base)
    g_top, h_top = 2 ** (widths[0] - 1) - 1, 2 ** widths[1] - 1
    valid_losses: list[float] = []
    for number in range(p.trees):
        r = rng.under(f"tree/{number}")
        pred = 1.0 / (1.0 + np.exp(-raw[:train])) if p.objective == "binary" else raw[:train]
        g = pred - y
        h = pred * (1.0 - pred) if p.objective == "binary" else np.ones(train)
        sampled = r.uniform("rows", train) < p.row_sample
        g_in, h_in = np.where(sampled, g, 0.0), np.where(sampled, h, 0.0)
        g_scale = float(np.abs(g_in).max()) / g_top or 1.0
        h_scale = float(h_in.max()) / h_top or 1.0
        gi = np.clip(np.floor(g_in / g_scale + r.uniform("g", train)), -g_top, g_top).astype(int)
        hi = np.clip(np.floor(h_in / h_scale + r.uniform("h", train)), 0, h_top).astype(int)
        usable = [f for f in range(len(pooled.counts)) if number >= p.local_trees or pooled.owner[f] == 0]
        take = max(1, round(p.column_sample * len(usable)))
        chosen = {usable[i] for i in r.permutation("columns", len(usable))[:take]}
        nodes = {0: np.arange(len(label))}
        tree: dict[int, Any] = {}
        depth_of = {0: 0}
        queue = [0]
        while queue:
            node = queue.pop(0)
            rows = nodes[node]
            inside = [i for i in rows.tolist() if i < train and sampled[i]]
            split = None
            if depth_of[node] < p.depth and len(inside) >= 2 * p.min_child_rows:
                split = _best(pooled, inside, gi, hi, g_scale, h_scale, p, usable, chosen)
            if split is not None:
                f, cut, missing_left = split
                b = pooled.bins[f][rows]
                left = np.where(b == 0, missing_left, b <= cut)
                lefts = sum(1 for i in rows[left].tolist() if i < train and sampled[i])
                if min(lefts, len(inside) - lefts) >= p.min_child_rows:
                    tree[node] = ("split", f, cut, missing_left)
                    for child, part in ((2 * node + 1, rows[left]), (2 * node + 2, rows[~left])):
                        nodes[child], depth_of[child] = part, depth_of[node] + 1
                        queue.append(child)
                    continue
            g_sum = h_sum = 0.0
            for i in inside:
                g_sum += g[i]
                h_sum += h[i]
            value = -p.learning_rate * g_sum / (h_sum + p.l2)
            tree[node] = ("leaf", float(value))
            raw[rows] += value
        model.trees.append(tree)
        if len(label) > train and p.stop_after:
            v, z = label[train:], raw[train:]
            if p.objective == "binary":
                valid_losses.append(float(np.mean(np.logaddexp(0.0, z) - v * z)))
            else:
                valid_losses.append(float(np.sqrt(np.mean((z - v) ** 2))))
            if len(valid_losses) - 1 - int(np.argmin(valid_losses)) >= p.stop_after:
                break
    if valid_losses:
        del model.trees[int(np.argmin(valid_losses)) + 1 :]
    return model


def _best(
    pooled: Pooled,
    inside: list[int],
    gi: Any,
    hi: Any,
    gs: float,
    hs: float,
    p: Any,
    usable: list[int],
    chosen: set[int],
) -> tuple[int, int, bool] | None:
    best, found = max(p.gamma, 1e-6), None
    g_all, h_all = int(gi[inside].sum()), int(hi[inside].sum())
    ga, ha = g_all * gs, h_all * hs
    for f in usable:
        if f not in chosen:
            continue
        count = pooled.counts[f]
        g_bin, h_bin = [0] * count, [0] * count
        for i in inside:
            b = int(pooled.bins[f][i])
            g_bin[b] += int(gi[i])
            h_bin[b] += int(hi[i])
        for missing_left in (False, True):
            for cut in range(1, count if not missing_left else count - 1):
                gl = sum(g_bin[1 : cut + 1]) + (g_bin[0] if missing_left else 0)
                hl = sum(h_bin[1 : cut + 1]) + (h_bin[0] if missing_left else 0)
                a, b2, c, d = gl * gs, hl * hs, (g_all - gl) * gs, (h_all - hl) * hs
                if b2 < p.min_child_hessian or d < p.min_child_hessian or b2 <= 0 or d <= 0:
                    continue
                gain = a * a / (b2 + p.l2) + c * c / (d + p.l2) - ga * ga / (ha + p.l2)
                if gain > best:
                    best, found = gain, (f, cut, missing_left)
    return found


def score(model: TwinModel, pooled: Pooled) -> np.ndarray:
    """Raw scores of every row."""
    rows = pooled.bins.shape[1]
    raw = np.full(rows, model.base)
    for tree in model.trees:
        for i in range(rows):
            node = 0
            while tree[node][0] == "split":
                _, f, cut, missing_left = tree[node]
                b = int(pooled.bins[f][i])
                left = missing_left if b == 0 else b <= cut
                node = 2 * node + (1 if left else 2)
            raw[i] += tree[node][1]
    return raw
