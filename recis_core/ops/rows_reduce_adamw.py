"""Gradient of pooled leaves reduced to the rows and applied by AdamW, in one pass."""

from __future__ import annotations

from recis_core.ops.rows_adamw import FORMS, rows_adamw
from recis_core.ops.rows_reduce_sgd import (
    leaf_bench,
    leaf_cases,
    leaf_gradients,
    reduced_rules,
    reduced_traffic,
    summed,
    summed_by,
)
from recis_core.rules import OneOf
from recis_core.spec import op
from recis_core.tolerance import SUMMED
from recis_core.types import Blocks, Index, Values


@op(tolerance=SUMMED, mutates=("blocks",))
def rows_reduce_adamw(
    blocks: Blocks,
    rows: Index,
    grad: Values,
    scale: Values | None,
    starts: Index,
    segments: Index,
    weights: Values | None,
    rate: Values | None,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    power1: float,
    power2: float,
    form: str,
):
    """`rows_adamw` with the gradient that `rows_reduce_sgd` forms; arguments as there."""
    g = summed(grad, scale, starts, segments, weights)
    given = lr, beta1, beta2, eps, decay, power1, power2, form
    rows_adamw.reference(blocks, rows, g, None, rate, *given)


@rows_reduce_adamw.composed
def _(kernels, blocks, rows, grad, scale, starts, segments, weights, rate, *scalars):
    g = summed_by(kernels, grad, scale, starts, segments, weights)
    kernels.rows_adamw(blocks, rows, g, None, rate, *scalars)


@rows_reduce_adamw.inputs(
    test=leaf_cases(
        dict(lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, step=1, form="torch"),
        dict(lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, step=1, form="torch"),
        dict(lr=0.01, beta1=0.8, beta2=0.9, eps=0.1, decay=0.1, step=3, form="torch"),
        dict(lr=0.01, beta1=0.9, beta2=0.99, eps=0.01, decay=0.5, step=1, form="recis"),
        dict(lr=0.02, beta1=0.9, beta2=0.98, eps=1e-2, decay=0.05, step=2, form="tensorflow"),
    ),
    bench=leaf_bench(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, step=3, form="torch"),
)
def _(rng, segments, mean, dim, unique, capacity, lr, beta1, beta2, eps, decay, step, form, **kind):
    slots = ("weight", "mean", "square")
    args = leaf_gradients(rng, segments, mean, dim, unique, capacity, *slots, **kind)
    powers = dict(power1=beta1**step, power2=beta2**step)
    own = dict(lr=lr, beta1=beta1, beta2=beta2, eps=eps, decay=decay)
    return dict(**args, **own, **powers, form=form)


@rows_reduce_adamw.moves
def _(blocks, rows, grad, scale, starts, segments, weights, rate, *scalars):
    given = blocks, rows, grad, scale, starts, segments, weights, rate
    return reduced_traffic(*given, ("weight", "mean", "square"), 14)


rows_reduce_adamw.requires(OneOf("form", FORMS), *reduced_rules("weight", "mean", "square"))
