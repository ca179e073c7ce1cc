"""segment_sum_grad: a sum over the transposed index; see segments.py."""

from __future__ import annotations

from torch import Tensor

from backends.triton.segments import pool


def segment_sum_grad(
    grad: Tensor, starts: Tensor, segments: Tensor, weights: Tensor | None, out: Tensor
) -> None:
    pool(out, segments, starts, values=grad, weights=weights)
