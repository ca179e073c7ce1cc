"""Pooling again: a distinct id's gradient is the sum over the segments that use it."""

from __future__ import annotations

from torch import Tensor

from backends.numba.pooling import pool_rows


def segment_sum_grad(
    grad: Tensor, starts: Tensor, segments: Tensor, weights: Tensor | None, out: Tensor
) -> None:
    pool_rows(grad, segments, starts, weights, out)
