"""rows_pool: segments.py reading rows straight from the blocks."""

from __future__ import annotations

from torch import Tensor

from backends.triton.rows import table_of
from backends.triton.segments import pool
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
    offset = blocks.slots[slot].offset
    pool(out, index, offsets, table=table_of(blocks), slot=offset, rows=rows, weights=weights)
