"""rows_reduce: a stable sort of the positions by row, then sums of the runs in that order."""

from __future__ import annotations

import torch
from torch import Tensor

from backends.cupy.queue import Queue
from backends.cupy.radix import bits_of, sort, starts_of
from backends.cupy.segments import pool
from recis_core.types import index_dtype


def rows_reduce(values: Tensor, inverse: Tensor, distinct: int, out: Tensor) -> None:
    n = len(inverse)
    if out.numel() == 0:
        return
    with Queue(values.device) as queue:
        if n == 0:
            queue.clear(out)
            return
        width = getattr(torch, index_dtype(n))
        (space,) = queue.scratch((distinct + 1) * width.itemsize)
        starts, bits = space.view(width), bits_of(distinct)
        keys, order = sort(queue, inverse, bits, None, width.itemsize)
        assert order is not None
        starts_of(queue, keys, n, bits, distinct, starts)
        pool(queue, values, order.view(width), starts, None, out)
