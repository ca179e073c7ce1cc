"""rows_reduce: values grouped by row, in order (grouping.py, past its limits torch's stable sort),
then sums of runs."""

from __future__ import annotations

import torch
from torch import Tensor

from backends.triton.group_plan import plan_of
from backends.triton.grouping import group
from backends.triton.segments import pool
from backends.triton.sorting import order_of
from recis_core.types import index_dtype

USES = ("torch.sort",)


def rows_reduce(values: Tensor, inverse: Tensor, distinct: int, out: Tensor) -> None:
    n, device = len(values), values.device
    starts = torch.empty(distinct + 1, dtype=getattr(torch, index_dtype(n)), device=device)
    plan = plan_of(n, distinct)
    if plan:
        order = torch.empty(n, dtype=torch.int32, device=device)
        group(plan, inverse, distinct, starts, order)
    else:
        order = order_of(inverse, distinct, starts)
    pool(out, order, starts, values=values)
