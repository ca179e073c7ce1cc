"""segment_mean: see segments.py; the sum of weights is formed beside that of the rows."""

from __future__ import annotations

from torch import Tensor

from backends.triton.segments import pool


def segment_mean(
    values: Tensor,
    index: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    out: Tensor,
    scale: Tensor,
) -> None:
    pool(out, index, offsets, values=values, weights=weights, scale=scale)
