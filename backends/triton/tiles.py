"""Tiles of an array side by side, in accesses as wide as they come wherever a tile is whole.

A mask that may end anywhere keeps the compiler from wide accesses, but lays lanes out for them:
each then touches every line several times. Only the last tile has to pay that.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_tile(array, begin, n, BLOCK: tl.constexpr):
    """Elements [begin, begin + BLOCK); 0 from n on."""
    i = begin + tl.arange(0, BLOCK)
    if begin + BLOCK <= n:  # noqa: SIM108
        # A branch, where an expression would be a choice of one of both.
        tile = tl.load(array + i)
    else:
        tile = tl.load(array + i, mask=i < n, other=0)
    return tile


@triton.jit
def store_tile(array, begin, n, tile, BLOCK: tl.constexpr):
    """Write a tile at [begin, begin + BLOCK), up to n."""
    i = begin + tl.arange(0, BLOCK)
    tile = tile.to(array.dtype.element_ty)
    if begin + BLOCK <= n:
        tl.store(array + i, tile)
    else:
        tl.store(array + i, tile, mask=i < n)
