"""rows_reduce: a stable sort by row, then `embedding_bag` over the order."""

from __future__ import annotations

import torch
from torch import Tensor

from backends.torch.segment_sum import pool


def rows_reduce(values: Tensor, inverse: Tensor, distinct: int) -> Tensor:
    order = inverse.argsort(stable=True)
    counts = torch.bincount(inverse, minlength=distinct)
    starts = order.new_zeros(distinct + 1)
    torch.cumsum(counts, 0, out=starts[1:])
    return pool(values, order, starts, None)
