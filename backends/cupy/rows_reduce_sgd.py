"""rows_reduce_sgd: the rule of rows_sgd, gradients summed where they lie."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.reduction import reduce, reducing
from backends.cupy.rows_sgd import RULE
from recis_core.blocks import Blocks

SOURCE = reducing("rows_reduce_sgd", RULE)


def rows_reduce_sgd(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    starts: Tensor,
    segments: Tensor,
    weights: Tensor | None,
    rate: Tensor | None,
    lr: float,
    decay: float,
) -> None:
    leaves = grad, scale, starts, segments, weights
    reduce(SOURCE, blocks, rows, leaves, rate, ("weight",), (lr, decay))
