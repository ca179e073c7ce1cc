"""rows_scatter: `index_copy_` into the slot's view of each block."""

from __future__ import annotations

from torch import Tensor

from backends.torch.parts import parts, pick
from recis_core.blocks import Blocks


def rows_scatter(blocks: Blocks, slot: str, rows: Tensor, values: Tensor) -> None:
    views = blocks.views(slot)
    for block, lines, chosen in parts(blocks, rows):
        views[block].index_copy_(0, lines, pick(values, chosen).to(views[block].dtype))
