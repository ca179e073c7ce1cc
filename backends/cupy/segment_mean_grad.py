"""segment_mean_grad: as `segment_sum_grad`, each gradient row by its segment's scale."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.queue import Queue
from backends.cupy.segments import pool


def segment_mean_grad(
    grad: Tensor,
    scale: Tensor,
    starts: Tensor,
    segments: Tensor,
    weights: Tensor | None,
    out: Tensor,
) -> None:
    with Queue(grad.device) as queue:
        pool(queue, grad, segments, starts, weights, out, factor=scale)
