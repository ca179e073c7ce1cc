"""`segment_sum` whose sums are scaled before they are stored."""

from __future__ import annotations

from torch import Tensor

from backends.numba.pooling import pool_rows


def segment_mean(
    values: Tensor,
    index: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    out: Tensor,
    scale: Tensor,
) -> None:
    pool_rows(values, index, offsets, weights, out, scale=scale)
