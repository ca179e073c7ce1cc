"""rows_reduce: values in the order of their row by torch's stable sort, then sums of runs."""

from __future__ import annotations

import torch
from torch import Tensor

from backends.triton.segments import pool
from backends.triton.sorting import group
from recis_core.types import index_dtype

USES = ("torch.sort",)


def rows_reduce(values: Tensor, inverse: Tensor, distinct: int, out: Tensor) -> None:
    dtype = getattr(torch, index_dtype(len(values)))
    starts = torch.empty(distinct + 1, dtype=dtype, device=values.device)
    pool(out, group(inverse, distinct, starts), starts, values=values)
