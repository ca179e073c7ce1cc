"""segment_sum: weighted sums of indexed rows."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.queue import Queue
from backends.cupy.segments import pool


def segment_sum(
    values: Tensor, index: Tensor, offsets: Tensor, weights: Tensor | None, out: Tensor
) -> None:
    with Queue(values.device) as queue:
        pool(queue, values, index, offsets, weights, out)
