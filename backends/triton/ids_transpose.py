"""ids_transpose: torch's stable sort of the inverse, then segments and weights in that order."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.search import columns_of
from backends.triton.sorting import group
from backends.triton.tiles import store_tile

USES = ("torch.sort",)
BLOCK = 1024 * WIDEN


@triton.jit(do_not_specialize=["count", "n"])
def _owners(offsets, owner, count, n, BLOCK: tl.constexpr):
    """owner[k] = the segment of value k."""
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    k = begin + tl.arange(0, BLOCK)
    segment = columns_of(offsets, count, begin, tl.minimum(begin + BLOCK, n), k)
    store_tile(owner, begin, n, segment, BLOCK)


@triton.jit(do_not_specialize=["n"])
def _carry(order, owner, weights, segments, carried, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    k = tl.load(order + i, mask=i < n, other=0)
    tl.store(segments + i, tl.load(owner + k, mask=i < n), mask=i < n)
    if weights is not None:
        tl.store(carried + i, tl.load(weights + k, mask=i < n), mask=i < n)


def ids_transpose(
    inverse: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    distinct: int,
    starts: Tensor,
    segments: Tensor,
    carried: Tensor,
) -> None:
    n, count = len(inverse), len(offsets) - 1
    order = group(inverse, distinct, starts)
    owner = torch.empty_like(segments)
    launch(_owners, cover(n, BLOCK), offsets, owner, count, n, BLOCK=BLOCK)
    launch(_carry, cover(n, BLOCK), order, owner, weights, segments, carried, n, BLOCK=BLOCK)
