"""rows_reduce_adagrad_rowwise: rows_adagrad_rowwise on gradients that it sums itself."""

from __future__ import annotations

from torch import Tensor

from backends.triton.rows_adagrad_rowwise import rows_adagrad_rowwise
from backends.triton.update import Leaves
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
    leaves = Leaves(starts, segments, weights)
    rows_adagrad_rowwise(blocks, rows, grad, scale, rate, lr, eps, decay, leaves)
