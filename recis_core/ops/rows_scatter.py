"""Write one slot of many rows of the blocks."""

from __future__ import annotations

from recis_core import draw
from recis_core.rules import Columns, Dims, Distinct, NamesSlot, Same, Within
from recis_core.spec import Traffic, nbytes, op
from recis_core.types import Blocks, Index, Values


@op(mutates=("blocks",))
def rows_scatter(blocks: Blocks, slot: str, rows: Index, values: Values):
    """Slot `slot` of row rows[i] becomes values[i]; -1 is skipped. rows [n] distinct, [n, dim]."""
    blocks[slot][rows[rows >= 0]] = values[rows >= 0]


@rows_scatter.inputs(
    test=[
        dict(n=0, capacity=8, dim=4, slot="weight", absent=0.0),
        dict(n=1, capacity=8, dim=4, slot="weight", absent=0.0),
        dict(n=300, capacity=700, dim=17, slot="weight", absent=0.2),
        dict(n=300, capacity=300, dim=64, slot="mean", absent=0.0),
    ],
    bench=[
        dict(n=1 << 17, capacity=1 << 20, dim=d, slot="weight", absent=0.0) for d in (16, 64, 128)
    ],
)
def _(rng, n, capacity, dim, slot, absent):
    return dict(
        blocks=draw.slots(rng, capacity, dim, "weight", "mean", "square"),
        slot=slot,
        rows=draw.rows(rng, n, capacity, absent),
        values=draw.normal(rng, n, dim),
    )


@rows_scatter.moves
def _(blocks, slot, rows, values):
    """Rows' numbers and the values of those present read, their slots written."""
    moved = int((rows >= 0).sum()) * blocks.row_bytes(slot)
    read = nbytes(rows) + int((rows >= 0).sum()) * values.shape[1] * values.itemsize
    return Traffic(read, moved, requested=read + moved)


rows_scatter.requires(
    Dims(rows=1, values=2),
    NamesSlot("slot"),
    Same("rows", "values"),
    Columns("values", lambda a: a["blocks"].dim(a["slot"])),
    Within("rows", lambda a: a["blocks"].capacity, low=-1),
    Distinct("rows"),
)
