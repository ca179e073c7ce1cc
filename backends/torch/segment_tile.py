"""segment_tile: `embedding_bag` whose bags are the positions, each of no value or one."""

from __future__ import annotations

import torch
from torch import Tensor

from backends.torch.segment_sum import pool


def segment_tile(
    values: Tensor, index: Tensor, offsets: Tensor, weights: Tensor | None, length: int
) -> Tensor:
    segments = len(offsets) - 1
    lengths = offsets.diff()
    if bool((lengths > length).any()):
        place = torch.arange(len(index), device=index.device)
        place -= offsets[:-1].repeat_interleave(lengths, output_size=len(index))
        kept = (place < length).nonzero().flatten()
        index = index.index_select(0, kept)
        weights = None if weights is None else weights.index_select(0, kept)
        lengths = lengths.clamp(max=length)
        offsets = torch.cat([offsets[:1], lengths.cumsum(0)])
    # Position j of a segment is a bag that begins at min(j, length of the segment).
    at = torch.arange(length, device=index.device, dtype=index.dtype)
    begins = torch.minimum(at, lengths[:, None].to(index.dtype)) + offsets[:-1, None]
    bounds = torch.cat([begins.flatten(), offsets[-1:]])
    return pool(values, index, bounds, weights).view(segments, length, values.shape[1])
