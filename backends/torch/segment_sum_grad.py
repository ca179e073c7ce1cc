"""segment_sum_grad: `embedding_bag` over the transposed index."""

from __future__ import annotations

from torch import Tensor

from backends.torch.segment_sum import pool


def segment_sum_grad(
    grad: Tensor, starts: Tensor, segments: Tensor, weights: Tensor | None
) -> Tensor:
    return pool(grad, segments, starts, weights)
