"""ids_transpose: a stable sort (radix, of int32), starts by `bincount`."""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.types import index_dtype


def ids_transpose(
    inverse: Tensor, offsets: Tensor, weights: Tensor | None, distinct: int
) -> tuple[Tensor, Tensor, Tensor]:
    n, segments = len(inverse), len(offsets) - 1
    width = getattr(torch, index_dtype(segments))
    starts = torch.zeros(distinct + 1, dtype=getattr(torch, index_dtype(n)), device=inverse.device)
    torch.cumsum(torch.bincount(inverse, minlength=distinct), 0, out=starts[1:])
    order = inverse.argsort(stable=True)
    segment = torch.arange(segments, dtype=width, device=inverse.device)
    segment = segment.repeat_interleave(offsets.diff(), output_size=n)
    carried = inverse.new_empty(0, dtype=torch.float32)
    if weights is not None:
        carried = weights.index_select(0, order)
    return starts, segment.index_select(0, order), carried
