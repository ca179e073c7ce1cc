"""Stochastic gradient descent on the rows a batch touched."""

from __future__ import annotations

from recis_core import draw
from recis_core.rules import Columns, Dims, Distinct, HasSlots, Length, Same, Within
from recis_core.spec import Traffic, nbytes, op
from recis_core.tolerance import ROUNDED
from recis_core.types import Blocks, Double, Index, Values


@op(tolerance=ROUNDED, mutates=("blocks",))
def rows_sgd(
    blocks: Blocks,
    rows: Index,
    grad: Values,
    scale: Double | None,
    rate: Values | None,
    lr: float,
    decay: float,
):
    """w -= lr·rate·(scale·g + decay·w) for the distinct rows; -1 is skipped.

    rows [n], grad [n, D]; scale [1]: factor on every gradient (clipping); rate [n]: factor on the
    learning rate of each row. Slot: "weight".
    """
    touched = rows >= 0
    rows = rows[touched]
    g = grad[touched] * (1 if scale is None else scale[0])
    step = lr * (1 if rate is None else rate[touched][:, None])
    w = blocks["weight"][rows]
    blocks["weight"][rows] = w - step * (g + decay * w)


def touched_rows(rng, n, capacity, dim, factors, *slots):
    """What every row optimizer is fed: blocks, rows, gradient, optional scale and rate.

    With factors the blocks also hold a slot that is none of the optimizer's, before its own.
    """
    return dict(
        blocks=draw.slots(rng, capacity, dim, *(("other",) if factors else ()), *slots),
        rows=draw.rows(rng, n, capacity, 0.1 if factors else 0.0),
        grad=draw.normal(rng, n, dim),
        scale=rng.random(1) + 0.25 if factors else None,
        rate=draw.weights(rng, n) if factors else None,
    )


def update_traffic(blocks, rows, grad, scale, rate, slots, flops):
    """Gradient and rows read once, every slot of a touched row read and written once."""
    touched = int((rows >= 0).sum())
    moved = touched * sum(blocks.row_bytes(slot) for slot in slots)
    read = nbytes(rows, scale, rate) + touched * grad.shape[1] * grad.itemsize + moved
    return Traffic(read, moved, requested=read + moved, flops=flops * touched * grad.shape[1])


def update_rules(*slots):
    """What every row optimizer demands of its arguments."""
    return (
        Dims(rows=1, grad=2, scale=1, rate=1),
        Same("rows", "grad", "rate"),
        Length("scale", lambda a: 1),
        HasSlots(*slots),
        Columns("grad", lambda a: a["blocks"].dim("weight")),
        Within("rows", lambda a: a["blocks"].capacity, low=-1),
        Distinct("rows"),
    )


@rows_sgd.inputs(
    test=[
        dict(n=0, capacity=50, dim=3, factors=False, lr=0.1, decay=0.0),
        dict(n=1, capacity=2, dim=1, factors=False, lr=0.1, decay=0.5),
        dict(n=40, capacity=50, dim=17, factors=True, lr=0.01, decay=0.1),
        dict(n=300, capacity=300, dim=64, factors=False, lr=0.5, decay=0.0),
    ],
    bench=[
        dict(n=1 << 16, capacity=1 << 20, dim=d, factors=False, lr=0.1, decay=0.0) for d in (16, 64)
    ],
)
def _(rng, n, capacity, dim, factors, lr, decay):
    return dict(**touched_rows(rng, n, capacity, dim, factors, "weight"), lr=lr, decay=decay)


@rows_sgd.moves
def _(blocks, rows, grad, scale, rate, lr, decay):
    return update_traffic(blocks, rows, grad, scale, rate, ("weight",), 4)


rows_sgd.requires(*update_rules("weight"))
