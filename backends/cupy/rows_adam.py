"""rows_adam: moments, then the step, with either place of epsilon."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.moments import MOMENTS, moments
from backends.cupy.update import rule, update
from recis_core.blocks import Blocks

RULE = (
    MOMENTS
    + r"""
INLINE void apply(float& w, float g, float* s, float rate, const float* c) {
    w -= move(g + c[7] * w, s, rate, c);
}
"""
)
SOURCE = rule("rows_adam", RULE)


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
    scalars = (*moments(lr, beta1, beta2, eps, power1, power2, form), decay)
    update(SOURCE, blocks, rows, grad, scale, rate, ("weight", "mean", "square"), scalars)
