"""segment_mean_grad: the gradient scaled, then `embedding_bag` over the transposed index."""

from __future__ import annotations

from torch import Tensor

from backends.torch.segment_sum import pool


def segment_mean_grad(
    grad: Tensor, scale: Tensor, starts: Tensor, segments: Tensor, weights: Tensor | None
) -> Tensor:
    return pool(grad.float() * scale.float()[:, None], segments, starts, weights).to(grad.dtype)
