"""rows_reduce_adagrad_rowwise: rows_adagrad_rowwise on gradients that it sums itself."""

from __future__ import annotations

from torch import Tensor

from backends.numba.reduction import Leaves, reduce
from backends.numba.rows_adagrad_rowwise import step
from recis_core.blocks import Blocks


def rows_reduce_adagrad_rowwise(
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
    leaves = Leaves(grad, scale, starts, segments, weights)
    slots = ("weight", "row_sum")
    reduce(step, blocks, rows, leaves, rate, slots, float(lr), float(eps), float(decay))
