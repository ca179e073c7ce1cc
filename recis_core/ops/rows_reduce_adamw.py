"""Gradient of pooled leaves reduced to the rows and applied by AdamW, in one pass."""

from __future__ import annotations

from recis_core.ops.rows_adamw import rows_adamw
from recis_core.ops.rows_reduce_adam import BENCH
from recis_core.ops.rows_reduce_sgd import like, summed
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


like(
    rows_reduce_adamw,
    rows_adamw,
    14,
    test=(
        dict(lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, step=1, form="torch"),
        dict(lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, step=1, form="torch"),
        dict(lr=0.01, beta1=0.8, beta2=0.9, eps=0.1, decay=0.1, step=3, form="torch"),
        dict(lr=0.01, beta1=0.9, beta2=0.99, eps=0.01, decay=0.5, step=1, form="recis"),
        dict(lr=0.02, beta1=0.9, beta2=0.98, eps=1e-2, decay=0.05, step=2, form="tensorflow"),
    ),
    bench=BENCH,
)
