"""Adagrad on the rows a batch touched."""

from __future__ import annotations

import numpy as np

from recis_core.ops.rows_sgd import touched_rows, update_rules, update_traffic
from recis_core.spec import op
from recis_core.tolerance import ROUNDED
from recis_core.types import Blocks, Double, Index, Values


@op(tolerance=ROUNDED, mutates=("blocks",))
def rows_adagrad(
    blocks: Blocks,
    rows: Index,
    grad: Values,
    scale: Double | None,
    rate: Values | None,
    lr: float,
    eps: float,
    decay: float,
):
    """g = scale·grad + decay·w; s += g²; w -= lr·rate·g / (√s + eps). Duchi et al., JMLR 2011.

    Arguments as `rows_sgd`. Slots: "weight", "sum".
    """
    touched = rows >= 0
    rows = rows[touched]
    w = blocks["weight"][rows]
    g = grad[touched] * (1 if scale is None else scale[0]) + decay * w
    s = blocks["sum"][rows] + g * g
    step = lr * (1 if rate is None else rate[touched][:, None])
    blocks["weight"][rows] = w - step * g / (np.sqrt(s) + eps)
    blocks["sum"][rows] = s


def adagrad_case(n, capacity, dim, factors, lr, eps, decay):
    return dict(n=n, capacity=capacity, dim=dim, factors=factors, lr=lr, eps=eps, decay=decay)


TESTS = (
    adagrad_case(0, 50, 3, False, 0.1, 1e-10, 0.0),
    adagrad_case(1, 2, 1, False, 0.1, 1e-10, 0.5),
    adagrad_case(40, 50, 17, True, 0.01, 0.1, 0.1),
    adagrad_case(300, 300, 64, False, 0.5, 1e-3, 0.0),
)
BENCH = [adagrad_case(1 << 16, 1 << 20, dim, False, 0.1, 1e-10, 0.0) for dim in (16, 64)]


@rows_adagrad.inputs(test=TESTS, bench=BENCH)
def _(rng, n, capacity, dim, factors, lr, eps, decay):
    args = touched_rows(rng, n, capacity, dim, factors, "weight", "sum")
    return dict(**args, lr=lr, eps=eps, decay=decay)


@rows_adagrad.moves
def _(blocks, rows, grad, scale, rate, lr, eps, decay):
    return update_traffic(blocks, rows, grad, scale, rate, ("weight", "sum"), 8)


rows_adagrad.requires(*update_rules("weight", "sum"))
