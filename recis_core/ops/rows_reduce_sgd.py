"""Gradient of pooled leaves reduced to the rows and applied by SGD, nothing written in between."""

from __future__ import annotations

from recis_core import draw
from recis_core.ops.rows_sgd import rows_sgd
from recis_core.ops.segment_mean_grad import segment_mean_grad
from recis_core.ops.segment_sum_grad import segment_sum_grad, transposed
from recis_core.rules import (
    Columns,
    Dims,
    Distinct,
    HasSlots,
    Length,
    Offsets,
    OneOf,
    Same,
    Within,
)
from recis_core.spec import Traffic, distinct, nbytes, op
from recis_core.tolerance import SUMMED
from recis_core.types import Blocks, Index, Values


@op(tolerance=SUMMED, mutates=("blocks",))
def rows_reduce_sgd(
    blocks: Blocks,
    rows: Index,
    grad: Values,
    scale: Values | None,
    starts: Index,
    segments: Index,
    weights: Values | None,
    rate: Values | None,
    lr: float,
    decay: float,
):
    """`rows_sgd` with g[u] = Σ weights[k]·scale[segments[k]]·grad[segments[k]] over k from
    starts[u] to starts[u+1], summed in float32 and never rounded to less.

    rows [U] distinct, -1 is skipped; grad [S, D]; scale [S]: 1 / Σw of leaves that are means;
    starts [U+1], segments [n], weights [n]: from `ids_transpose`; rate [U].
    """
    g = summed(grad, scale, starts, segments, weights)
    rows_sgd.reference(blocks, rows, g, None, rate, lr, decay)


def summed(grad, scale, starts, segments, weights):
    """The gradient [U, D] of each row."""
    if scale is None:
        return segment_sum_grad.reference(grad, starts, segments, weights)
    return segment_mean_grad.reference(grad, scale, starts, segments, weights)


def summed_by(kernels, grad, scale, starts, segments, weights):
    """The gradient [U, D] of each row, float32, by ops of `kernels`."""
    # Else a gradient of 16 bits would be rounded once more between its sum and the update.
    grad = grad.float()
    if scale is None:
        return kernels.segment_sum_grad(grad, starts, segments, weights)
    return kernels.segment_mean_grad(grad, scale, starts, segments, weights)


def leaf_gradients(
    rng, segments, mean, dim, unique, capacity, *slots, scaled=False, weighted=False, rated=False
):
    """What every fused optimizer is fed: blocks, rows, gradients of leaves, transposed index.

    With rates the blocks also hold a slot that is none of the optimizer's, and rows are absent.
    """
    index = transposed(rng, segments, mean, dim, unique, weighted)
    return dict(
        blocks=draw.slots(rng, capacity, dim, *(("other",) if rated else ()), *slots),
        rows=draw.rows(rng, unique, capacity, 0.1 if rated else 0.0),
        grad=index.pop("grad"),
        scale=rng.random(segments, dtype="float32") if scaled else None,
        **index,
        rate=draw.weights(rng, unique) if rated else None,
    )


def leaf_cases(*scalars):
    """Cases of every fused optimizer, each with one of four sets of `scalars`."""
    shapes = (
        dict(segments=5, mean=0, dim=3, unique=0, capacity=8, scaled=False, weighted=False),
        dict(segments=750, mean=0.8, dim=8, unique=1, capacity=2, scaled=False, weighted=False),
        dict(segments=70, mean=40, dim=17, unique=60, capacity=80, scaled=True, weighted=True),
        dict(segments=300, mean=2, dim=64, unique=300, capacity=300, scaled=True, weighted=False),
        dict(segments=257, mean=9, dim=16, unique=90, capacity=300, scaled=False, weighted=True),
    )
    rated = (False, False, True, False, True)
    return [
        dict(**shape, rated=r, **own) for shape, r, own in zip(shapes, rated, scalars, strict=True)
    ]


def leaf_bench(**scalars):
    """Bench sizes of every fused optimizer."""
    plain = dict(scaled=False, weighted=False, rated=False)
    size = dict(segments=1 << 16, mean=4, unique=1 << 16, capacity=1 << 20)
    return [dict(**size, dim=dim, **plain, **scalars) for dim in (16, 64)]


def reduced_traffic(blocks, rows, grad, scale, starts, segments, weights, rate, slots, flops):
    """Gradients that rows name, with their scales, and the transposed index read once; every slot
    of a touched row read and written once."""
    touched = rows >= 0
    named = segments[touched.repeat_interleave(starts.diff())]
    each = grad.shape[1] * grad.itemsize + (0 if scale is None else scale.itemsize)
    moved = int(touched.sum()) * sum(blocks.row_bytes(slot) for slot in slots)
    streams = nbytes(rows, starts, segments, weights, rate)
    return Traffic(
        read=distinct(named) * each + streams + moved,
        written=moved,
        requested=len(named) * each + streams + 2 * moved,
        flops=(len(named) * (1 if weights is None else 2) + flops * int(touched.sum()))
        * grad.shape[1],
    )


def reduced_rules(*slots):
    """What every fused optimizer demands of its arguments."""
    return (
        Dims(rows=1, grad=2, scale=1, starts=1, segments=1, weights=1, rate=1),
        Same("rows", "rate"),
        Same("grad", "scale"),
        Same("segments", "weights"),
        Length("starts", lambda a: len(a["rows"]) + 1),
        HasSlots(*slots),
        Columns("grad", lambda a: a["blocks"].dim("weight")),
        Within("rows", lambda a: a["blocks"].capacity, low=-1),
        Distinct("rows"),
        Within("segments", lambda a: len(a["grad"])),
        Offsets("starts", lambda a: len(a["segments"])),
    )


def like(fused, plain, flops, *, test, bench):
    """Declare a fused optimizer by the plain one, which its reference calls: its default in smaller
    ops, inputs with the scalars of `test` and `bench`, bytes, `flops` an element, and rules."""
    slots = next(rule.slots for rule in plain.rules if isinstance(rule, HasSlots))

    @fused.composed
    def _(kernels, blocks, rows, grad, scale, starts, segments, weights, rate, *scalars):
        g = summed_by(kernels, grad, scale, starts, segments, weights)
        getattr(kernels, plain.name)(blocks, rows, g, None, rate, *scalars)

    @fused.inputs(test=leaf_cases(*test), bench=leaf_bench(**bench))
    def _(rng, segments, mean, dim, unique, capacity, scaled, weighted, rated, **scalars):
        kind = dict(scaled=scaled, weighted=weighted, rated=rated)
        args = leaf_gradients(rng, segments, mean, dim, unique, capacity, *slots, **kind)
        return args | powered(**scalars)

    @fused.moves
    def _(blocks, rows, grad, scale, starts, segments, weights, rate, *scalars):
        given = blocks, rows, grad, scale, starts, segments, weights, rate
        return reduced_traffic(*given, slots, flops)

    choices = (rule for rule in plain.rules if isinstance(rule, OneOf))
    fused.requires(*choices, *reduced_rules(*slots))


def powered(step=None, **scalars):
    """The declared scalars, with the powers of Adam's betas in place of the step."""
    if step is None:
        return scalars
    return scalars | {f"power{i}": scalars[f"beta{i}"] ** step for i in (1, 2)}


like(
    rows_reduce_sgd,
    rows_sgd,
    4,
    test=(
        dict(lr=0.1, decay=0.0),
        dict(lr=0.1, decay=0.5),
        dict(lr=0.01, decay=0.1),
        dict(lr=0.5, decay=0.0),
        dict(lr=0.02, decay=0.2),
    ),
    bench=dict(lr=0.1, decay=0.0),
)
