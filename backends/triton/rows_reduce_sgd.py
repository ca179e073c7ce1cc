"""rows_reduce_sgd: rows_sgd on gradients that it sums itself."""

from __future__ import annotations

from torch import Tensor

from backends.triton.rows_sgd import rows_sgd
from backends.triton.update import Leaves
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
    leaves = Leaves(starts, segments, weights)
    rows_sgd(blocks, rows, grad, scale, rate, lr, decay, leaves)
