"""AdamW, in place in the blocks."""

from __future__ import annotations

from torch import Tensor

from backends.numba.moments import update_moments
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
    constant = form == "tensorflow"
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
        kept=1 - decay if constant else 1.0,
        kept_per_rate=0.0 if constant else lr * decay,
    )
