"""Row-wise Adagrad: one accumulator per row, the mean square of its gradient."""

from __future__ import annotations

import numpy as np

from recis_core.ops.rows_adagrad import BENCH, TESTS
from recis_core.ops.rows_sgd import touched_rows, update_rules, update_traffic
from recis_core.spec import op
from recis_core.tolerance import SUMMED
from recis_core.types import Blocks, Double, Index, Values


@op(tolerance=SUMMED, mutates=("blocks",))
def rows_adagrad_rowwise(
    blocks: Blocks,
    rows: Index,
    grad: Values,
    scale: Double | None,
    rate: Values | None,
    lr: float,
    eps: float,
    decay: float,
):
    """g = scale·grad + decay·w; s += mean over columns of g²; w -= lr·rate·g / (√s + eps).

    Arguments as `rows_sgd`. Slots: "weight", "row_sum" (dim 1).
    """
    touched = rows >= 0
    rows = rows[touched]
    w = blocks["weight"][rows]
    g = grad[touched] * (1 if scale is None else scale[0]) + decay * w
    s = blocks["row_sum"][rows] + np.square(g).mean(1, keepdims=True)
    step = lr * (1 if rate is None else rate[touched][:, None])
    blocks["weight"][rows] = w - step * g / (np.sqrt(s) + eps)
    blocks["row_sum"][rows] = s


@rows_adagrad_rowwise.inputs(test=TESTS, bench=BENCH)
def _(rng, n, capacity, dim, factors, lr, eps, decay):
    args = touched_rows(rng, n, capacity, dim, factors, "weight", "row_sum")
    return dict(**args, lr=lr, eps=eps, decay=decay)


@rows_adagrad_rowwise.moves
def _(blocks, rows, grad, scale, rate, lr, eps, decay):
    return update_traffic(blocks, rows, grad, scale, rate, ("weight", "row_sum"), 8)


rows_adagrad_rowwise.requires(*update_rules("weight", "row_sum"))
