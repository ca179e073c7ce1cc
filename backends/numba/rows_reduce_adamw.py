"""rows_reduce_adamw: rows_adamw on gradients that it sums itself."""

from __future__ import annotations

from torch import Tensor

from backends.numba.moments import SLOTS, adamw_scalars, step
from backends.numba.reduction import Leaves, reduce
from recis_core.blocks import Blocks


def rows_reduce_adamw(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    starts: Tensor,
    segments: Tensor,
    weights: Tensor | None,
    rate: Tensor | None,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    power1: float,
    power2: float,
    form: str,
) -> None:
    leaves = Leaves(grad, scale, starts, segments, weights)
    scalars = adamw_scalars(lr, beta1, beta2, eps, decay, power1, power2, form)
    reduce(step, blocks, rows, leaves, rate, SLOTS, *scalars)
