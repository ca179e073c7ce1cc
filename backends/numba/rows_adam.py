"""Adam, in place in the blocks."""

from __future__ import annotations

from torch import Tensor

from backends.numba.moments import update_moments
from recis_core.blocks import Blocks


def rows_adam(
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
    update_moments(
        blocks,
        rows,
        grad,
        scale,
        rate,
        lr,
        (beta1, beta2),
        (power1, power2),
        eps,
        form == "torch",
        decay=decay,
    )
