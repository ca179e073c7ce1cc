"""rows_reduce_adagrad: the rule of rows_adagrad, gradients summed where they lie."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.reduction import reduce, reducing
from backends.cupy.rows_adagrad import RULE
from recis_core.blocks import Blocks

SOURCE = reducing("rows_reduce_adagrad", RULE)


def rows_reduce_adagrad(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    starts: Tensor,
    segments: Tensor,
    weights: Tensor | None,
    rate: Tensor | None,
    lr: float,
    eps: float,
    decay: float,
) -> None:
    leaves = grad, scale, starts, segments, weights
    reduce(SOURCE, blocks, rows, leaves, rate, ("weight", "sum"), (lr, eps, decay))
