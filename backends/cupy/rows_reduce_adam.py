"""rows_reduce_adam: the rule of rows_adam, gradients summed where they lie."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.moments import moments
from backends.cupy.reduction import reduce, reducing
from backends.cupy.rows_adam import RULE
from recis_core.blocks import Blocks

SOURCE = reducing("rows_reduce_adam", RULE)


def rows_reduce_adam(
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
    leaves = grad, scale, starts, segments, weights
    scalars = (*moments(lr, beta1, beta2, eps, power1, power2, form), decay)
    reduce(SOURCE, blocks, rows, leaves, rate, ("weight", "mean", "square"), scalars)
