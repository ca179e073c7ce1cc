"""Pooling straight out of the blocks."""

from __future__ import annotations

from torch import Tensor

from backends.numba.pooling import pool_blocks
from recis_core.blocks import Blocks


def rows_pool(
    blocks: Blocks,
    slot: str,
    rows: Tensor,
    index: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    out: Tensor,
) -> None:
    pointers = blocks.pointers.numpy() + blocks.slots[slot].offset
    pool_blocks(
        pointers, blocks.log2_rows, blocks.stride, rows.numpy(), index, offsets, weights, out
    )
