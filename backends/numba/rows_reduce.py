"""Sum the rows of each distinct id: positions sorted by id, then pooled; no atomics, one order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from backends.numba.ids_transpose import transpose
from backends.numba.pooling import pool_rows


def rows_reduce(values: Tensor, inverse: Tensor, distinct: int, out: Tensor) -> None:
    kind = inverse.numpy().dtype
    starts, positions = np.empty(distinct + 1, kind), np.empty(len(inverse), kind)
    transpose(inverse.numpy(), None, None, starts, positions, None)
    pool_rows(values, torch.from_numpy(positions), torch.from_numpy(starts), None, out)
