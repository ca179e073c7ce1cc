"""Gradient of pooled leaves reduced to the rows and applied by Adagrad, in one pass."""

from __future__ import annotations

from recis_core.ops.rows_adagrad import rows_adagrad
from recis_core.ops.rows_reduce_sgd import like, summed
from recis_core.spec import op
from recis_core.tolerance import SUMMED
from recis_core.types import Blocks, Index, Values


@op(tolerance=SUMMED, mutates=("blocks",))
def rows_reduce_adagrad(
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
    """`rows_adagrad` with the gradient that `rows_reduce_sgd` forms; arguments as there."""
    g = summed(grad, scale, starts, segments, weights)
    rows_adagrad.reference(blocks, rows, g, None, rate, lr, eps, decay)


SCALARS = (
    dict(lr=0.1, eps=1e-10, decay=0.0),
    dict(lr=0.1, eps=1e-10, decay=0.5),
    dict(lr=0.01, eps=0.1, decay=0.1),
    dict(lr=0.5, eps=1e-3, decay=0.0),
    dict(lr=0.02, eps=0.01, decay=0.2),
)
BENCH = dict(lr=0.1, eps=1e-10, decay=0.0)

like(rows_reduce_adagrad, rows_adagrad, 8, test=SCALARS, bench=BENCH)
