"""rows_reduce: values in the order of their row, then sums of runs."""

from __future__ import annotations

import torch
from torch import Tensor

from backends.triton.radix import ordered
from backends.triton.segments import pool
from backends.triton.sorting import spread
from recis_core.types import index_dtype


def rows_reduce(values: Tensor, inverse: Tensor, distinct: int, out: Tensor) -> None:
    dtype, device = getattr(torch, index_dtype(len(values))), values.device
    starts = torch.empty(distinct + 1, dtype=dtype, device=device)
    order = torch.empty(len(values), dtype=dtype, device=device)
    spread(ordered(inverse, distinct), distinct, starts, order)
    pool(out, order, starts, values=values)
