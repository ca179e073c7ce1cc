"""Pool the rows of every segment in registers, asking for rows ahead of time."""

from __future__ import annotations

from torch import Tensor

from backends.numba.pooling import pool_rows


def segment_sum(
    values: Tensor, index: Tensor, offsets: Tensor, weights: Tensor | None, out: Tensor
) -> None:
    pool_rows(values, index, offsets, weights, out)
