"""segment_sum: `embedding_bag`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


def segment_sum(values: Tensor, index: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
    return pool(values, index, offsets, weights)


def pool(
    values: Tensor, index: Tensor, offsets: Tensor, weights: Tensor | None, mode: str = "sum"
) -> Tensor:
    """`embedding_bag` of any shape and dtype, in the dtype of `values`."""
    if not values.numel():
        return values.new_zeros(len(offsets) - 1, values.shape[1])
    # Both must be of one dtype: the narrower where the offsets fit it.
    dtype = index.dtype if len(index) < 1 << 31 else torch.int64
    index, offsets = index.to(dtype), offsets.to(dtype)
    if weights is None:
        return embedding_bag(index, values, offsets, mode=mode, include_last_offset=True)
    # 16-bit weights would be rounded before each product.
    return embedding_bag(
        index,
        values.float(),
        offsets,
        mode=mode,
        per_sample_weights=weights.float(),
        include_last_offset=True,
    ).to(values.dtype)
