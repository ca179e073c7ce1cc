"""Read one slot of many rows out of the blocks."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import Dims, NamesSlot, Within
from recis_core.spec import Out, Traffic, distinct, nbytes, op
from recis_core.types import Blocks, Index


@op()
def rows_gather(blocks: Blocks, slot: str, rows: Index):
    """out[i] = slot `slot` of row rows[i]; zeros where rows[i] is -1. rows [n] -> [n, dim]."""
    content = blocks[slot]
    out = np.zeros((len(rows), content.shape[1]))
    out[rows >= 0] = content[rows[rows >= 0]]
    return out


@rows_gather.inputs(
    test=[
        dict(n=0, capacity=8, dim=4, slot="weight", absent=0.0),
        dict(n=1, capacity=8, dim=4, slot="mean", absent=0.0),
        dict(n=64, capacity=64, dim=3, slot="weight", absent=0.0),
        dict(n=300, capacity=700, dim=17, slot="weight", absent=0.2),
        dict(n=500, capacity=100, dim=64, slot="mean", absent=0.0),
    ],
    bench=[
        dict(n=1 << 17, capacity=1 << 20, dim=d, slot="weight", absent=0.0) for d in (16, 64, 128)
    ],
)
def _(rng, n, capacity, dim, slot, absent):
    repeated = n > capacity
    rows = rng.integers(0, capacity, n) if repeated else draw.rows(rng, n, capacity, absent)
    blocks = draw.slots(rng, capacity, dim, "weight", "mean", "square")
    return dict(blocks=blocks, slot=slot, rows=rows)


@rows_gather.outputs
def _(blocks, slot, rows):
    return Out("out", (len(rows), blocks.dim(slot)), blocks.dtype(slot))


@rows_gather.moves
def _(blocks, slot, rows):
    """Rows' numbers, each named row once, the output."""
    row, out = blocks.row_bytes(slot), len(rows) * blocks.row_bytes(slot)
    present = rows[rows >= 0]
    return Traffic(
        read=nbytes(rows) + distinct(present) * row,
        written=out,
        requested=nbytes(rows) + len(present) * row + out,
        recis=nbytes(rows) + 2 * out,
    )


rows_gather.requires(
    Dims(rows=1),
    NamesSlot("slot"),
    Within("rows", lambda a: a["blocks"].capacity, low=-1),
)
