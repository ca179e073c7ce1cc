"""How values are cut into tiles, and their keys into buckets, to be grouped."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from backends.triton.launch import cover

# log2 of the values of a tile and of a piece of a bucket; FILL of a piece is a bucket's mean.
TILE, PIECE, FILL = 10, 10, 0.85
# A value is four bytes: above, its key in the bucket, below its tag: its position or segment.
TAG = tl.constexpr(22)
TAGS = tl.constexpr((1 << 22) - 1)
# Values up to which the matrix of runs is small enough.
MOST = 1 << 21


class Plan(NamedTuple):
    """`width` keys a bucket; pieces: programs, at least as many as buckets have pieces."""

    tiles: int
    width: int
    buckets: int
    pieces: int


def plan_of(n: int, distinct: int, segments: int = 0) -> Plan | None:
    """None where values are too many for a tag, keys for a tile, or segments to be numbered."""
    if not 0 < n <= MOST or distinct >= 1 << (32 - TILE) or segments >> 30:
        return None
    width = min(max(int(FILL * (distinct << PIECE) / n), 3), 1 << (32 - TAG.value))
    buckets = cover(distinct, width)
    return Plan(cover(n, 1 << TILE), width, buckets, buckets + (n >> PIECE))


def scratch(device: torch.device, *sizes: int) -> tuple[Tensor, ...]:
    """int32 arrays of one allocation, each aligned as an allocation is."""
    padded = [-(-size // 128) * 128 for size in sizes]
    return torch.empty(sum(padded), dtype=torch.int32, device=device).split(padded)
