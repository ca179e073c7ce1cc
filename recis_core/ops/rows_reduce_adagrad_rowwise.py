"""Gradient of pooled leaves reduced to the rows and applied by row-wise Adagrad, in one pass."""

from __future__ import annotations

from recis_core.ops.rows_adagrad_rowwise import rows_adagrad_rowwise
from recis_core.ops.rows_reduce_adagrad import BENCH, SCALARS
from recis_core.ops.rows_reduce_sgd import like, summed
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


like(rows_reduce_adagrad_rowwise, rows_adagrad_rowwise, 8, test=SCALARS, bench=BENCH)
