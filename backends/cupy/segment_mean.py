"""segment_mean: weighted sums of indexed rows, divided by the sums of the weights."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.queue import Queue
from backends.cupy.segments import pool


def segment_mean(
    values: Tensor,
    index: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    out: Tensor,
    scale: Tensor,
) -> None:
    with Queue(values.device) as queue:
        pool(queue, values, index, offsets, weights, out, scale=scale)
