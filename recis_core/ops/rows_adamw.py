"""AdamW on the rows a batch touched: decoupled decay, in three published forms."""

from __future__ import annotations

import numpy as np

from recis_core.ops.rows_adam import adam_args, adam_case
from recis_core.ops.rows_sgd import update_rules, update_traffic
from recis_core.rules import OneOf
from recis_core.spec import op
from recis_core.tolerance import ROUNDED
from recis_core.types import Blocks, Double, Index, Values

FORMS = ("torch", "recis", "tensorflow")


@op(tolerance=ROUNDED, mutates=("blocks",))
def rows_adamw(
    blocks: Blocks,
    rows: Index,
    grad: Values,
    scale: Double | None,
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
    """w *= F; m = β1·m + (1-β1)·g; v = β2·v + (1-β2)·g² with g = scale·grad; then, by `form`,
    "torch": F = 1 - lr·rate·decay, w -= lr·rate/(1-power1) · m / (√v/√(1-power2) + eps);
    "recis" (SparseAdamW): F as torch, w -= lr·rate·√(1-power2)/(1-power1) · m / (√v + eps);
    "tensorflow" (SparseAdamWTF): F = 1 - decay, the rest as recis.

    Arguments as `rows_adam`. Loshchilov & Hutter, ICLR 2019.
    """
    touched = rows >= 0
    rows = rows[touched]
    g = grad[touched] * (1 if scale is None else scale[0])
    m = beta1 * blocks["mean"][rows] + (1 - beta1) * g
    v = beta2 * blocks["square"][rows] + (1 - beta2) * g * g
    rated = lr * (1 if rate is None else rate[touched][:, None])
    w = blocks["weight"][rows] * (1 - (decay if form == "tensorflow" else rated * decay))
    correction = np.sqrt(1 - power2)
    if form == "torch":
        w = w - rated / (1 - power1) * m / (np.sqrt(v) / correction + eps)
    else:
        w = w - rated * correction / (1 - power1) * m / (np.sqrt(v) + eps)
    blocks["weight"][rows], blocks["mean"][rows], blocks["square"][rows] = w, m, v


@rows_adamw.inputs(
    test=[
        adam_case(0, 50, 3, False, "torch", 0.1, 0.9, 0.999, 1e-8, 0.0, 1),
        adam_case(1, 2, 1, False, "torch", 0.1, 0.9, 0.999, 1e-8, 0.0, 1),
        adam_case(40, 50, 17, True, "torch", 0.01, 0.8, 0.9, 0.1, 0.1, 3),
        adam_case(300, 300, 64, False, "recis", 0.01, 0.9, 0.99, 0.01, 0.5, 1),
        adam_case(90, 300, 16, True, "tensorflow", 0.02, 0.9, 0.99, 0.01, 0.05, 2),
        adam_case(70, 90, 8, False, "torch", 0.02, 0.9, 0.98, 1e-3, 0.1, 5),
    ],
    bench=[
        adam_case(1 << 16, 1 << 20, dim, False, "torch", 0.01, 0.9, 0.999, 1e-8, 0.01, 3)
        for dim in (16, 64, 128)
    ],
)
def _(rng, **size):
    return adam_args(rng, **size)


@rows_adamw.moves
def _(blocks, rows, grad, scale, rate, *scalars):
    return update_traffic(blocks, rows, grad, scale, rate, ("weight", "mean", "square"), 14)


rows_adamw.requires(OneOf("form", FORMS), *update_rules("weight", "mean", "square"))
