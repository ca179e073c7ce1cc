"""values_bucketize: `bucketize`, column by column."""

from __future__ import annotations

import torch
from torch import Tensor


def values_bucketize(
    values: Tensor, splits: Tensor, boundaries: Tensor, boundary_splits: Tensor
) -> Tensor:
    out = torch.empty(len(values), dtype=torch.int64, device=values.device)
    ends, cuts = splits.tolist(), boundary_splits.tolist()
    for start, end, low, high in zip(ends[:-1], ends[1:], cuts[:-1], cuts[1:], strict=True):
        if start < end:
            own = boundaries[low:high]
            torch.bucketize(values[start:end], own, right=True, out=out[start:end])
    return out
