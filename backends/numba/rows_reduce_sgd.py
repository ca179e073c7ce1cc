"""rows_reduce_sgd: rows_sgd on gradients that it sums itself."""

from __future__ import annotations

from torch import Tensor

from backends.numba.reduction import Leaves, reduce
from backends.numba.rows_sgd import step
from recis_core.blocks import Blocks


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
    leaves = Leaves(grad, scale, starts, segments, weights)
    reduce(step, blocks, rows, leaves, rate, ("weight",), float(lr), float(decay))
