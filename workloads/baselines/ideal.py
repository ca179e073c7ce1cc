"""How much of `mse`'s teacher its training rows can teach: learners who know its form.

python -m workloads.baselines.ideal [--size small] [--seed 0] [--rounds 16]

They know which columns and products the logit is a sum of, how bags are pooled, and the deviation
of every effect before any row is seen; not the effects.

- "apart": the posterior mean of each effect if every other one and the dense part were known. No
  learner knows more of any single effect, so this is what the rows hold (errors of different ids
  of a row are taken to be independent, which they nearly are).
- "jointly": all effects at once, the largest posterior (normal priors, cross-entropy), by Newton
  steps of one id after the other: what is reached where nobody tells the others.
- "sums": the same without products of two ids, as far as a model without interactions can go.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numba
import numpy as np

from recis_core.mixing import table_salt
from workloads.mse import CONFIGS, MseConfig, teacher_of
from workloads.synthetic import CHUNK_ROWS, TRAIN, VALID, Chunk, draw_chunk
from workloads.teacher import KNEE, Part, Teacher, auc, effects, placed, probability

START = 0.3  # of a product's deviation: at zero both factors' slopes are zero


class Rows(NamedTuple):
    """All rows; the first `training` are learned from, the others are scored."""

    training: int
    dense: np.ndarray  # float64 [columns + 1, rows], the last one of ones
    known: np.ndarray  # float64: what is not ids' part of the logit
    logits: np.ndarray
    labels: np.ndarray

    def auc(self, score: np.ndarray) -> float:
        return auc(score[self.training :], self.labels[self.training :])

    def error(self, score: np.ndarray) -> float:
        """Variance of the logit's error on the rows not learned from."""
        return float((score - self.logits)[self.training :].var())


class Values(NamedTuple):
    """The values of a column, those of an id side by side."""

    rows: np.ndarray  # int32
    x: np.ndarray  # float32, what the id's effect is multiplied by
    starts: np.ndarray  # int64 [vocabulary + 1]
    ranks: np.ndarray  # int32 [rows] of a column with one id in each, else empty


class Role(NamedTuple):
    """The effects of a column's ids in one place of the logit, before and after learning."""

    values: Values
    variance: np.ndarray
    truth: np.ndarray
    effect: np.ndarray  # changes


@numba.njit
def _slopes(values: Any, label: Any, logit: Any, training: int, begin: int, end: int) -> Any:
    """First and negated second derivative of an effect's log likelihood."""
    slope, curve = 0.0, 0.0
    for i in range(begin, end):
        row, x = values.rows[i], values.x[i]
        if row < training:
            p = 1 / (1 + np.exp(-logit[row]))
            slope += x * (label[row] - p)
            curve += x * x * p * (1 - p)
    return slope, curve


@numba.njit
def newton(role: Any, label: Any, logit: Any, training: int) -> None:
    """A step of each id in turn; `role.effect` and `logit` change."""
    values, effect = role.values, role.effect
    for j in range(len(effect)):
        begin, end = values.starts[j], values.starts[j + 1]
        if begin < end:
            slope, curve = _slopes(values, label, logit, training, begin, end)
            prior = 1 / role.variance[j]
            step = (slope - effect[j] * prior) / (curve + prior)
            effect[j] += step
            for i in range(begin, end):
                logit[values.rows[i]] += values.x[i] * step


@numba.njit
def alone(role: Any, label: Any, logit: Any, training: int, mean: Any, variance: Any) -> None:
    """Add to each row its posterior mean and variance, each effect learned at the true `logit`."""
    values = role.values
    for j in range(len(role.truth)):
        begin, end = values.starts[j], values.starts[j + 1]
        if begin < end:
            slope, curve = _slopes(values, label, logit, training, begin, end)
            left = 1 / (curve + 1 / role.variance[j])
            learned = left * (slope + curve * role.truth[j])
            for i in range(begin, end):
                mean[values.rows[i]] += values.x[i] * learned
                variance[values.rows[i]] += values.x[i] ** 2 * left


def chunks_of(config: MseConfig, teacher: Teacher, seed: int) -> Iterator[Chunk]:
    """The rows that `write_data` writes, in its order."""
    train, valid = (TRAIN, config.parts, config.train_rows), (VALID, 1, config.valid_rows)
    for kind, parts, total in train, valid:
        for part in range(parts):
            rows = total * (part + 1) // parts - total * part // parts
            for number, at in enumerate(range(0, rows, CHUNK_ROWS)):
                stream = seed, kind, part, number
                yield draw_chunk(teacher, stream, min(CHUNK_ROWS, rows - at))


def values_of(part: Part, chunks: list[Chunk]) -> Values:
    rows, x, before = [], [], 0
    for chunk in chunks:
        drawn, n = chunk.drawn[part.column.name], chunk.dense.shape[1]
        at, weights = (np.arange(n), np.ones(n)) if drawn.offsets is None else placed(part, drawn)
        if part.reduce == "mean":
            weights = weights / np.maximum(np.bincount(at, weights, n), 1e-12)[at]
        rows.append((at + before).astype(np.int32))
        x.append(weights.astype(np.float32))
        before += n
    ranks = np.concatenate([c.drawn[part.column.name].ranks for c in chunks]).astype(np.int32)
    order = np.argsort(ranks, kind="stable")
    starts = np.searchsorted(ranks[order], np.arange(part.column.vocab + 1))
    single = part.column.mean is None
    return Values(
        np.concatenate(rows)[order],
        np.concatenate(x)[order],
        starts,
        ranks if single else ranks[:0],
    )


def role_of(teacher: Teacher, part: Part, values: Values, role: str, scale: float) -> Role:
    ranks = np.arange(part.column.vocab)
    truth = effects(ranks, table_salt(f"teacher/{teacher.seed}/{part.column.name}/{role}")) * scale
    return Role(values, scale**2 / (1 + ranks / KNEE), truth, np.zeros(len(ranks)))


def beside(role: Role, other: Role, factor: np.ndarray) -> Role:
    """`role` of a product where the other's ids have the effects `factor`: the same arrays."""
    x = factor[other.values.ranks[role.values.rows]].astype(np.float32)
    return role._replace(values=role.values._replace(x=x))


def learn_dense(rows: Rows, slopes: np.ndarray, logit: np.ndarray) -> None:
    """A Newton step of the dense columns' slopes and the bias."""
    p = probability(logit[: rows.training])
    x, label = rows.dense[:, : rows.training], rows.labels[: rows.training]
    step = np.linalg.solve((x * (p * (1 - p))) @ x.T, x @ (label - p))
    slopes += step
    logit += step @ rows.dense


def jointly(
    rows: Rows, singles: list[Role], pairs: list[tuple[Role, Role]], bias: float, rounds: int
) -> np.ndarray:
    """-> the logits [rows] learned."""
    rng = np.random.default_rng(0)
    logit, slopes = np.full(len(rows.labels), bias), np.zeros(len(rows.dense))
    for role in singles:
        role.effect[:] = 0
    for a, b in pairs:
        for role in (a, b):
            role.effect[:] = START * rng.normal(size=len(role.effect)) * np.sqrt(role.variance)
        logit += a.effect[a.values.ranks] * b.effect[b.values.ranks]
    for number in range(rounds):
        for role in singles:
            newton(role, rows.labels, logit, rows.training)
        for a, b in pairs:
            newton(beside(a, b, b.effect), rows.labels, logit, rows.training)
            newton(beside(b, a, a.effect), rows.labels, logit, rows.training)
        learn_dense(rows, slopes, logit)
        print(f"round {number + 1}: AUC {rows.auc(logit):.4f}", file=sys.stderr, flush=True)
    return logit


def measure(config: MseConfig, seed: int, rounds: int) -> dict[str, Any]:
    """Ceiling and the learners' held-out AUC, variances of their logits' errors."""
    teacher = teacher_of(config, seed)
    chunks = list(chunks_of(config, teacher, seed))
    linear, ids = (np.concatenate([getattr(c.logits, n) for c in chunks]) for n in ("dense", "ids"))
    labels = np.concatenate([c.labels[0] for c in chunks]).astype(np.float64)
    dense = np.concatenate([c.dense for c in chunks], 1).astype(np.float64)
    dense = np.vstack([dense, np.ones(len(labels))])
    rows = Rows(config.train_rows, dense, linear, ids + linear + teacher.bias, labels)
    values = {p.column.name: values_of(p, chunks) for p in teacher.parts}
    del chunks
    singles = [
        role_of(teacher, p, values[p.column.name], "single", teacher.scale[p.column.name])
        for p in teacher.parts
    ]
    pairs = pairs_of(teacher, values)
    measured: dict[str, Any] = {"ceiling": rows.auc(rows.logits)}
    mean, variance = np.zeros((2, len(labels)))
    for role in singles:
        alone(role, labels, rows.logits, rows.training, mean, variance)
    for a, b in pairs:
        # A product is known as well as its two factors: each once, with the other one true.
        product = np.zeros(len(labels))
        for role in (beside(a, b, b.truth), beside(b, a, a.truth)):
            alone(role, labels, rows.logits, rows.training, product, variance)
        mean += product - a.truth[a.values.ranks] * b.truth[b.values.ranks]
    measured["apart"] = figures(rows, mean + linear)
    measured["apart"]["expected_error"] = float(variance[rows.training :].mean())
    measured["jointly"] = figures(rows, jointly(rows, singles, pairs, teacher.bias, rounds))
    measured["sums"] = figures(rows, jointly(rows, singles, [], teacher.bias, rounds))
    return measured


def pairs_of(teacher: Teacher, values: Mapping[str, Values]) -> list[tuple[Role, Role]]:
    parts = {p.column.name: p for p in teacher.parts}
    found = []
    for pair in teacher.pairs:
        key, scale = "pair " + "·".join(pair), float(np.sqrt(teacher.pair_scale[pair]))
        a, b = (role_of(teacher, parts[n], values[n], key, scale) for n in pair)
        found.append((a, b))
    return found


def figures(rows: Rows, logit: np.ndarray) -> dict[str, float]:
    return {"auc": rows.auc(logit), "error": rows.error(logit)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", default="small", choices=[n for n in CONFIGS if n != "paper"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=16)
    chosen = parser.parse_args()
    measured = measure(CONFIGS[chosen.size], chosen.seed, chosen.rounds)
    about = {"workload": "mse", "size": chosen.size, "seed": chosen.seed, "rounds": chosen.rounds}
    print(json.dumps(about | measured))


if __name__ == "__main__":
    main()
