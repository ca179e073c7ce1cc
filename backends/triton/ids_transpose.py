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
def _owners(offsets, owners, count, n, BLOCK: tl.constexpr):
    """owners[k] = the segment of value k."""
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    k = begin + tl.arange(0, BLOCK)
    segment = columns_of(offsets, count, begin, tl.minimum(begin + BLOCK, n), k)
    store_tile(owners, begin, n, segment, BLOCK)


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
    owners = torch.empty_like(segments)
    launch(_owners, cover(n, BLOCK), offsets, owners, count, n, BLOCK=BLOCK)
    moved = [(owners, segments)] if weights is None else [(owners, segments), (weights, carried)]
    group(inverse, distinct, starts, *moved)
