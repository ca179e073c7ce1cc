"""rows_pool: weighted sums of rows read where they lie in the blocks."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.queue import Queue
from backends.cupy.segments import Located, pool
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
    with Queue(out.device) as queue:
        pool(queue, Located(blocks, slot, rows), index, offsets, weights, out)
