"""Gradient of pooled leaves reduced to the rows and applied by row-wise Adagrad, in one pass."""

from __future__ import annotations

from recis_core.ops.rows_adagrad_rowwise import rows_adagrad_rowwise
from recis_core.ops.rows_reduce_sgd import (
    leaf_bench,
    leaf_cases,
    leaf_gradients,
    reduced_rules,
    reduced_traffic,
    summed,
    summed_by,
)
from recis_core.spec import op
from recis_core.tolerance import SUMMED
from recis_core.types import Blocks, Index, Values


@op(tolerance=SUMMED, mutates=("blocks",))
def rows_reduce_adagrad_rowwise(
    blocks: Blocks,
    rows: Index,
    grad: Values,
    scale: Values | None,
    starts: Index,
    segments: Index,
    weights: Values | None,
    rate: Values | None,
    lr: float,
    eps: float,
    decay: float,
):
    """`rows_adagrad_rowwise` with the gradient that `rows_reduce_sgd` forms; arguments as there."""
    g = summed(grad, scale, starts, segments, weights)
    rows_adagrad_rowwise.reference(blocks, rows, g, None, rate, lr, eps, decay)


@rows_reduce_adagrad_rowwise.composed
def _(kernels, blocks, rows, grad, scale, starts, segments, weights, rate, *scalars):
    g = summed_by(kernels, grad, scale, starts, segments, weights)
    kernels.rows_adagrad_rowwise(blocks, rows, g, None, rate, *scalars)


@rows_reduce_adagrad_rowwise.inputs(
    test=leaf_cases(
        dict(lr=0.1, eps=1e-10, decay=0.0),
        dict(lr=0.1, eps=1e-10, decay=0.5),
        dict(lr=0.01, eps=0.1, decay=0.1),
        dict(lr=0.5, eps=1e-3, decay=0.0),
        dict(lr=0.02, eps=0.01, decay=0.2),
    ),
    bench=leaf_bench(lr=0.1, eps=1e-10, decay=0.0),
)
def _(rng, segments, mean, dim, unique, capacity, lr, eps, decay, **kind):
    slots = ("weight", "row_sum")
    args = leaf_gradients(rng, segments, mean, dim, unique, capacity, *slots, **kind)
    return dict(**args, lr=lr, eps=eps, decay=decay)


@rows_reduce_adagrad_rowwise.moves
def _(blocks, rows, grad, scale, starts, segments, weights, rate, *scalars):
    given = blocks, rows, grad, scale, starts, segments, weights, rate
    return reduced_traffic(*given, ("weight", "row_sum"), 8)


rows_reduce_adagrad_rowwise.requires(*reduced_rules("weight", "row_sum"))
