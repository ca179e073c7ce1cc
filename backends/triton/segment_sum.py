"""segment_sum: see segments.py."""

from __future__ import annotations

from torch import Tensor

from backends.triton.segments import pool


def segment_sum(
    values: Tensor, index: Tensor, offsets: Tensor, weights: Tensor | None, out: Tensor
) -> None:
    pool(out, index, offsets, values=values, weights=weights)
