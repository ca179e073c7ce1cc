"""AdamW, in place in the blocks."""

from __future__ import annotations

from torch import Tensor

from backends.numba.moments import SLOTS, adamw_scalars, step
from backends.numba.rows import update
from recis_core.blocks import Blocks


def rows_adamw(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
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
    scalars = adamw_scalars(lr, beta1, beta2, eps, decay, power1, power2, form)
    update(step, blocks, rows, grad, scale, rate, SLOTS, *scalars)
