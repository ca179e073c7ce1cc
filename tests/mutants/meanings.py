"""NumPy functions that mean something else than the reference of the op they stand in for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recis_core.kernels import find_op
from recis_core.mixing import owner_of, pair_hash
from recis_core.ops.ids_hash import farm64, murmur64a
from recis_core.ops.rows_init import bits, uniform
from recis_core.ops.rows_reduce_sgd import summed
from tests.mutants.change import Call


def mean_by_length(values, index, offsets, weights):
    length = np.diff(offsets)
    scale = np.divide(1, length, out=np.zeros(len(length)), where=length > 0)
    out = np.zeros((len(length), values.shape[1]))
    w = 1 if weights is None else weights[:, None]
    np.add.at(out, np.repeat(np.arange(len(length)), length), w * values[index])
    return out * scale[:, None], scale


def unstable(inverse, offsets, weights, distinct):
    """Positions of an id come from last to first."""
    order = np.lexsort((-np.arange(len(inverse)), inverse))
    starts = np.concatenate([[0], np.cumsum(np.bincount(inverse, minlength=distinct))])
    segment = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return starts, segment[order], np.empty(0) if weights is None else weights[order]


def carried_in_place(inverse, offsets, weights, distinct):
    starts, segments, _ = find_op("ids_transpose").reference(inverse, offsets, weights, distinct)
    return starts, segments, np.empty(0) if weights is None else weights


def partition_by(owner: Callable[..., Any], same_table: bool = False) -> Call:
    def ids_partition(ids, splits, tables, salts, world):
        table = np.repeat(np.zeros_like(tables) if same_table else tables, np.diff(splits))
        pairs = np.stack([table, ids], 1)
        unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
        owners = owner(pair_hash(salts[unique[:, 0]], unique[:, 1]), unique[:, 1], world)
        order = np.argsort(owners, kind="stable")
        counts = np.bincount(owners, minlength=world)
        return unique[order, 1], unique[order, 0], counts, np.argsort(order)[inverse.reshape(-1)]

    return ids_partition


def hashed_but(length: int) -> Call:
    """Right for every string but those of one length."""

    def ids_hash(data, offsets, kind):
        text, right = data.tobytes(), farm64 if kind == "farm" else murmur64a
        ends = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        words = [right(text[a:b]) ^ (b - a == length) for a, b in ends]
        return np.array(words, np.uint64).view(np.int64)

    return ids_hash


def signed_bytes(data, offsets, kind):
    """Murmur's tail taken as signed char, as naive C does."""
    right = find_op("ids_hash").reference(data, offsets, kind)
    last = data[offsets[1:] - 1] > 127 if len(data) else np.zeros(len(right), bool)
    return np.where(last & (np.diff(offsets) % 8 > 0), right ^ 1, right)


def signed_mod(ids, splits, moduli):
    return ids % np.repeat(moduli, np.diff(splits))


def bucketize(side: str, nan: int | None = None) -> Call:
    def values_bucketize(values, splits, boundaries, boundary_splits):
        out = find_op("values_bucketize").reference(values, splits, boundaries, boundary_splits)
        for f in range(len(splits) - 1):
            own = boundaries[boundary_splits[f] : boundary_splits[f + 1]]
            part = slice(splits[f], splits[f + 1])
            at = np.searchsorted(own, values[part], side=side)
            missing = np.isnan(values[part])
            out[part] = np.where(missing, out[part] if nan is None else nan, at)
        return out

    return values_bucketize


def auc_by_order(labels, scores, offsets):
    """Equal scores ranked as they happen to come."""
    auc, positives = find_op("auc_grouped").reference(labels, scores, offsets)
    for g in range(len(auc)):
        own = slice(offsets[g], offsets[g + 1])
        positive = labels[own] > 0.5
        p, n = positive.sum(), (~positive).sum()
        if p and n:
            rank = np.argsort(np.argsort(scores[own], kind="stable")) + 1
            auc[g] = (rank[positive].sum() - p * (p + 1) / 2) / (p * n)
    return auc, positives


def init_by_row(blocks, rows, fresh, tables, ids, salts, seed, kind, a, b):
    """New rows depend on the row number, not on the id."""
    find_op("rows_init").reference(blocks, rows, fresh, tables, rows, salts, seed, kind, a, b)


def init_in_float32(blocks, rows, fresh, tables, ids, salts, seed, kind, a, b):
    find_op("rows_init").reference(blocks, rows, fresh, tables, ids, salts, seed, kind, a, b)
    if kind == "uniform":
        own = fresh & (rows >= 0)
        u = uniform(bits(salts[tables[own]], ids[own], seed, np.arange(blocks.dim("weight")), 0))
        blocks["weight"][rows[own]] = np.float32(a) + np.float32(b - a) * (1 - u)


def norm_unrooted(values):
    return np.square(values).sum().reshape(1)


def norm_of_finite(values):
    """Hides NaN and infinity from the guard that looks for them."""
    return np.sqrt(np.square(np.nan_to_num(values, posinf=0, neginf=0)).sum()).reshape(1)


def rowwise_by_sum(blocks, rows, grad, scale, rate, lr, eps, decay):
    """The sum of squares over columns in place of the mean."""
    wide = np.sqrt(grad.shape[1])
    before = blocks["weight"].copy()
    reference = find_op("rows_adagrad_rowwise").reference
    reference(blocks, rows, grad * wide, scale, rate, lr, eps, decay * wide)
    blocks["weight"][:] = before + (blocks["weight"] - before) / wide


def leaf_squares(blocks, rows, grad, scale, starts, segments, weights, rate, lr, eps, decay):
    """The accumulator grows by the square of every leaf's gradient, not of their sum."""
    given = scale, starts, segments, weights
    squared = (None if a is None else np.square(a) for a in (grad, scale, weights))
    squares = summed(next(squared), next(squared), starts, segments, next(squared))
    g = summed(grad, *given)
    find_op("rows_adagrad").reference(blocks, rows, g, None, rate, lr, eps, decay)
    blocks["sum"][rows[rows >= 0]] += (squares - g * g)[rows >= 0]


def sum_in_float32(values, index, offsets, weights):
    """Legal: float32, from the last value to the first."""
    out = np.zeros((len(offsets) - 1, values.shape[1]), np.float32)
    segment = np.repeat(np.arange(len(out)), np.diff(offsets))[::-1]
    w = np.float32(1) if weights is None else weights[::-1, None].astype(np.float32)
    np.add.at(out, segment, w * values[index][::-1].astype(np.float32))
    return out


by_id = partition_by(lambda hashed, ids, world: (ids % world).astype(np.int64))
by_hash = partition_by(lambda hashed, ids, world: (hashed % np.uint64(world)).astype(np.int64))
tables_merged = partition_by(lambda hashed, ids, world: owner_of(hashed, world), same_table=True)
