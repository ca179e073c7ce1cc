"""rows_gather: `index_select` on the slot's view of each block."""

from __future__ import annotations

from torch import Tensor

from backends.torch.parts import parts
from recis_core.blocks import Blocks


def rows_gather(blocks: Blocks, slot: str, rows: Tensor) -> Tensor:
    views = blocks.views(slot)
    shape = len(rows), blocks.dim(slot)
    out = None
    for block, lines, chosen in parts(blocks, rows):
        found = views[block].index_select(0, lines)
        if chosen is None:
            return found
        if out is None:
            out = rows.new_zeros(shape, dtype=blocks.dtype(slot))
        out.index_copy_(0, chosen, found)
    return rows.new_zeros(shape, dtype=blocks.dtype(slot)) if out is None else out
