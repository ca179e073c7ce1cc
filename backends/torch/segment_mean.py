"""segment_mean: `embedding_bag`, its own mean where there are no weights."""

from __future__ import annotations

import torch
from torch import Tensor

from backends.torch.segment_sum import pool


def segment_mean(
    values: Tensor, index: Tensor, offsets: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    if weights is None:
        lengths = offsets.diff().float()
        scale = torch.where(lengths > 0, lengths.reciprocal(), 0.0)
        return pool(values, index, offsets, None, "mean"), scale
    total = torch.segment_reduce(weights.float(), "sum", offsets=offsets.long(), initial=0)
    scale = torch.where(total > 0, total.reciprocal(), 0.0)
    summed = pool(values.float(), index, offsets, weights)
    return summed.mul_(scale[:, None]).to(values.dtype), scale
