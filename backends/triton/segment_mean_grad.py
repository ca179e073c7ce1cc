"""segment_mean_grad: a sum over the transposed index, each row times its segment's scale."""

from __future__ import annotations

from torch import Tensor

from backends.triton.segments import pool


def segment_mean_grad(
    grad: Tensor,
    scale: Tensor,
    starts: Tensor,
    segments: Tensor,
    weights: Tensor | None,
    out: Tensor,
) -> None:
    pool(out, segments, starts, values=grad, weights=weights, factor=scale)
