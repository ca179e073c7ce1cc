"""segment_sum_grad: sums of gradient rows, the transposed index being the segments."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.queue import Queue
from backends.cupy.segments import pool


def segment_sum_grad(
    grad: Tensor, starts: Tensor, segments: Tensor, weights: Tensor | None, out: Tensor
) -> None:
    with Queue(grad.device) as queue:
        pool(queue, grad, segments, starts, weights, out)
