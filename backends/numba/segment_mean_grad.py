"""Pooling of the segments' gradients, each times its segment's scale."""

from __future__ import annotations

from torch import Tensor

from backends.numba.pooling import pool_rows


def segment_mean_grad(
    grad: Tensor,
    scale: Tensor,
    starts: Tensor,
    segments: Tensor,
    weights: Tensor | None,
    out: Tensor,
) -> None:
    pool_rows(grad, segments, starts, weights, out, factors=scale)
