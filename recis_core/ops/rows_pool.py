"""Gather and pool in one pass: `segment_sum` straight from the blocks."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import Dims, NamesSlot, NotEmpty, Offsets, Same, Within
from recis_core.spec import Out, Traffic, distinct, nbytes, op
from recis_core.tolerance import SUMMED
from recis_core.types import Blocks, Index, Values


@op(tolerance=SUMMED)
def rows_pool(
    blocks: Blocks, slot: str, rows: Index, index: Index, offsets: Index, weights: Values | None
):
    """out[s] = Σ weights[i]·(slot `slot` of row rows[index[i]]) over i in segment s.

    rows [U] (-1 counts as zeros), index [n] into U, offsets [S+1] -> [S, dim].
    """
    values = np.zeros((len(rows), blocks[slot].shape[1]))
    values[rows >= 0] = blocks[slot][rows[rows >= 0]]
    out = np.zeros((len(offsets) - 1, values.shape[1]))
    segment = np.repeat(np.arange(len(out)), np.diff(offsets))
    scale = 1 if weights is None else weights[:, None]
    np.add.at(out, segment, scale * values[index])
    return out


@rows_pool.composed
def _(kernels, blocks, slot, rows, index, offsets, weights):
    return kernels.segment_sum(kernels.rows_gather(blocks, slot, rows), index, offsets, weights)


@rows_pool.inputs(
    test=[
        dict(segments=0, mean=3, dim=4, unique=0, capacity=8, slot="weight", weighted=False),
        dict(segments=1, mean=700, dim=3, unique=50, capacity=60, slot="weight", weighted=True),
        dict(segments=90, mean=5, dim=17, unique=60, capacity=300, slot="weight", weighted=True),
        dict(segments=90, mean=5, dim=64, unique=60, capacity=300, slot="mean", weighted=False),
    ],
    bench=[
        dict(
            segments=1 << 13,
            mean=16,
            dim=64,
            unique=1 << 16,
            capacity=1 << 20,
            slot="weight",
            weighted=False,
        )
    ],
)
def _(rng, segments, mean, dim, unique, capacity, slot, weighted):
    offsets = draw.offsets(rng, segments if unique else 0, mean)
    return dict(
        blocks=draw.slots(rng, capacity, dim, "weight", "mean"),
        slot=slot,
        rows=draw.rows(rng, unique, capacity, 0.05),
        index=rng.integers(0, max(unique, 1), offsets[-1]),
        offsets=offsets,
        weights=draw.weights(rng, offsets[-1]) if weighted else None,
    )


@rows_pool.outputs
def _(blocks, slot, rows, index, offsets, weights):
    return Out("out", (len(offsets) - 1, blocks.dim(slot)), blocks.dtype(slot))


@rows_pool.moves
def _(blocks, slot, rows, index, offsets, weights):
    """As `segment_sum`, the rows read from the blocks and nothing in between; none for -1."""
    row = blocks.row_bytes(slot)
    out = (len(offsets) - 1) * row
    streams = nbytes(rows, index, offsets, weights)
    present = index[rows[index] >= 0]
    return Traffic(
        read=distinct(present) * row + streams,
        written=out,
        requested=len(present) * row + streams + out,
        flops=len(index) * blocks.dim(slot) * (1 if weights is None else 2),
    )


rows_pool.requires(
    Dims(rows=1, index=1, offsets=1, weights=1),
    NamesSlot("slot"),
    Same("index", "weights"),
    Within("rows", lambda a: a["blocks"].capacity, low=-1),
    Within("index", lambda a: len(a["rows"])),
    NotEmpty("offsets"),
    Offsets("offsets", lambda a: len(a["index"])),
)
