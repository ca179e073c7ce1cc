"""The hidden teacher of a synthetic workload: which logit a row has, and how well it can be known.

logit = bias + Σ effects of ids + a few products of two ids' effects + a linear dense part. The
effect of an id is a function of (seed, feature, id) alone, so no table of effects is stored:
a standard normal from `mixing.mix64`, divided by sqrt(1 + rank / KNEE): popular ids decide,
rare ones hardly matter, so that what the teacher knows can be learned from the rows there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recis_core.mixing import GOLDEN, mix64, table_salt
from workloads.columns import Drawn, IdColumn, draw_dense, draw_ids, ids_of

KNEE = 64
PROBE_ROWS = 8192
STREAM_PROBE = 2


@dataclass(frozen=True)
class Part:
    """How an id column enters the logit.

    "sum": Σw·effect, "mean": Σw·effect / Σw, "recent": Σ effect·0.8^position of the first `length`.
    `share` is its part of the variance that single id columns have, relative to the others'.
    """

    column: IdColumn
    reduce: str = "sum"
    length: int | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Target:
    """A label column: its logit is the teacher's bias and both parts, each times a factor."""

    label: str
    ids: float = 1.0
    dense: float = 1.0


class Logits(NamedTuple):
    """The parts of a chunk's logits, float64 [rows] each."""

    ids: np.ndarray
    dense: np.ndarray
    bias: float

    def of(self, target: Target) -> np.ndarray:
        """What the labels of `target` are drawn from."""
        return self.bias + target.ids * self.ids + target.dense * self.dense


def probability(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


class Teacher:
    """Scales every part on a seeded probe of rows so that the variances are the ones asked for.

    `deviation` is the logit's standard deviation; `dense_share` and `pair_share` are parts of its
    variance, the rest comes from single id columns.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        dense: Sequence[str],
        *,
        seed: int,
        deviation: float,
        dense_share: float,
        pair_share: float,
        pairs: Sequence[tuple[str, str]],
        bias: float,
        targets: Sequence[Target],
    ) -> None:
        self.parts, self.dense, self.pairs, self.bias = tuple(parts), tuple(dense), pairs, bias
        self.seed, self.targets = seed, tuple(targets)
        self._tables: dict[tuple[str, str], np.ndarray] = {}
        self.slopes = effects(np.arange(len(dense)), table_salt(f"teacher/{seed}/dense"))
        self.scale = dict.fromkeys([p.column.name for p in parts], 1.0)
        self.pair_scale = dict.fromkeys(pairs, 1.0)
        variance = deviation**2
        self._fit(variance * (1 - dense_share - pair_share), variance * pair_share)
        norm = np.sqrt(variance * dense_share) / max(np.linalg.norm(self.slopes), 1e-12)
        self.slopes = self.slopes * norm

    def __getstate__(self) -> dict[str, Any]:
        # Tables of effects are made again where they are needed, faster than they would travel.
        return {**self.__dict__, "_tables": {}}

    def _fit(self, single: float, paired: float) -> None:
        """Scales and centres from the probe's rows."""
        rng = np.random.default_rng([self.seed, STREAM_PROBE])
        drawn = {p.column.name: draw_ids(rng, p.column, PROBE_ROWS) for p in self.parts}
        shares = sum(p.share for p in self.parts)
        self.centre = 0.0
        for part in self.parts:
            raw = self._single(part, drawn[part.column.name])
            wanted = np.sqrt(single * part.share / shares)
            self.scale[part.column.name] = wanted / max(raw.std(), 1e-9)
            self.centre += raw.mean() * self.scale[part.column.name]
        for pair in self.pairs:
            raw = self._pair(pair, drawn)
            self.pair_scale[pair] = np.sqrt(paired / len(self.pairs)) / max(raw.std(), 1e-9)
            self.centre += raw.mean() * self.pair_scale[pair]

    def logits(self, drawn: Mapping[str, Drawn], dense: np.ndarray) -> Logits:
        """Of one chunk: `drawn` by column name, `dense` float32 [columns, rows]."""
        ids = np.full(dense.shape[1], -self.centre)
        for part in self.parts:
            name = part.column.name
            ids += self._single(part, drawn[name]) * self.scale[name]
        for pair in self.pairs:
            ids += self._pair(pair, drawn) * self.pair_scale[pair]
        linear = self.slopes @ dense.astype(np.float64)
        return Logits(ids, linear, self.bias)

    def _single(self, part: Part, drawn: Drawn) -> np.ndarray:
        effect = self._effects(part.column, "single", drawn.ranks)
        return effect if drawn.offsets is None else pooled(part, effect, drawn)

    def _pair(self, pair: tuple[str, str], drawn: Mapping[str, Drawn]) -> np.ndarray:
        columns = {p.column.name: p.column for p in self.parts}
        key = "pair " + "·".join(pair)
        a, b = (self._effects(columns[name], key, drawn[name].ranks) for name in pair)
        return a * b

    def _effects(self, column: IdColumn, role: str, ranks: np.ndarray) -> np.ndarray:
        salt = table_salt(f"teacher/{self.seed}/{column.name}/{role}")
        if column.vocab > 1 << 16:
            return effects(ranks, salt)
        key = (column.name, role)
        if key not in self._tables:
            self._tables[key] = effects(np.arange(column.vocab), salt)
        return self._tables[key][ranks]


def effects(ranks: np.ndarray, salt: int) -> np.ndarray:
    """float64 effects of the ids of these ranks: Box-Muller over two mixed words, shrunk."""
    first = mix64(ids_of(ranks).view(np.uint64) ^ np.array(salt, np.int64).view(np.uint64))
    second = mix64(first + np.uint64(GOLDEN))
    u = ((first >> np.uint64(11)).astype(np.float64) + 1) * 2.0**-53
    v = (second >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.sqrt(-2 * np.log(u) / (1 + ranks / KNEE)) * np.cos(2 * np.pi * v)


def placed(part: Part, drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """The row of each value of a bag or sequence, and what its effect counts for there.

    Of "mean" the weight, which `pooled` divides by the row's sum of them.
    """
    offsets = drawn.offsets
    assert offsets is not None
    lengths = np.diff(offsets)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    weights = np.ones(len(rows)) if drawn.weights is None else drawn.weights.astype(np.float64)
    if part.reduce == "recent":
        position = np.arange(len(rows)) - np.repeat(offsets[:-1], lengths)
        weights = np.where(position < (part.length or 0), 0.8**position, 0.0)
    return rows, weights


def pooled(part: Part, effect: np.ndarray, drawn: Drawn) -> np.ndarray:
    """The bag's or sequence's contribution [rows] from the effects of its ids."""
    assert drawn.offsets is not None
    rows, weights = placed(part, drawn)
    count = len(drawn.offsets) - 1
    out = np.bincount(rows, weights * effect, count).astype(np.float64)
    if part.reduce == "mean":
        total = np.bincount(rows, weights, count)
        out = np.divide(out, total, out=np.zeros_like(out), where=total > 0)
    return out


def sample_chunk(
    rng: np.random.Generator, parts: Sequence[Part], dense: Sequence[str], rows: int
) -> tuple[dict[str, Drawn], np.ndarray]:
    """One chunk of every column, in the teacher's order."""
    return {p.column.name: draw_ids(rng, p.column, rows) for p in parts}, draw_dense(
        rng, dense, rows
    )


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; nan when one class is absent."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2
    positive = label > 0.5
    n, p = len(label), int(positive.sum())
    if p in (0, n):
        return float("nan")
    return float((rank[place[positive]].sum() - p * (p + 1) / 2) / (p * (n - p)))
