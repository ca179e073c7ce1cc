"""Lay a ragged feature out as a sequence of fixed length: pooling that keeps every position."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import AtLeast, Dims, NotEmpty, Offsets, Same, Within
from recis_core.spec import Out, Traffic, distinct, nbytes, op
from recis_core.tolerance import ROUNDED
from recis_core.types import Index, Values


@op(tolerance=ROUNDED)
def segment_tile(values: Values, index: Index, offsets: Index, weights: Values | None, length: int):
    """out[s, j] = weights[i]·values[index[i]], i = offsets[s] + j, for j below `length` and the
    segment's own length; zeros after. values [U, D] -> [S, length, D]."""
    out = np.zeros((len(offsets) - 1, length, values.shape[1]))
    segment = np.repeat(np.arange(len(out)), np.diff(offsets))
    place = np.arange(len(index)) - offsets[segment]
    kept = place < length
    w = 1 if weights is None else weights[kept, None]
    out[segment[kept], place[kept]] = w * values[index[kept]]
    return out


@segment_tile.inputs(
    test=[
        dict(segments=0, mean=3, dim=4, unique=5, weighted=False, length=3),
        dict(segments=9, mean=0, dim=4, unique=5, weighted=False, length=2),
        dict(segments=1, mean=700, dim=3, unique=1, weighted=False, length=5),
        dict(segments=60, mean=5, dim=17, unique=50, weighted=True, length=4),
        dict(segments=60, mean=5, dim=16, unique=50, weighted=False, length=20),
    ],
    bench=[
        dict(segments=1 << 12, mean=32, dim=16, unique=1 << 18, weighted=False, length=50),
        dict(segments=1 << 12, mean=32, dim=64, unique=1 << 18, weighted=False, length=50),
    ],
)
def _(rng, segments, mean, dim, unique, weighted, length):
    offsets = draw.offsets(rng, segments, mean)
    return dict(
        values=draw.normal(rng, unique, dim),
        index=rng.integers(0, unique, offsets[-1]),
        offsets=offsets,
        weights=draw.weights(rng, offsets[-1]) if weighted else None,
        length=length,
    )


@segment_tile.outputs
def _(values, index, offsets, weights, length):
    return Out("out", (len(offsets) - 1, length, values.shape[1]), values.dtype)


@segment_tile.moves
def _(values, index, offsets, weights, length):
    """Rows that kept positions name once; as much of index and weights; every output row."""
    row = values.shape[1] * values.itemsize
    out = (len(offsets) - 1) * length * row
    starts = offsets[:-1].repeat_interleave(offsets[1:] - offsets[:-1])
    place = index.new_ones(len(index)).cumsum(0) - 1 - starts
    kept = int((place < length).sum())
    per = index.itemsize + (0 if weights is None else weights.itemsize)
    named = distinct(index[place < length])
    streams = kept * per + nbytes(offsets)
    return Traffic(
        read=named * row + streams,
        written=out,
        requested=kept * row + streams + out,
        flops=0 if weights is None else kept * values.shape[1],
        recis=len(index) * row + nbytes(index, offsets) + out,
    )


segment_tile.requires(
    Dims(values=2, index=1, offsets=1, weights=1),
    Same("index", "weights"),
    AtLeast("length", 1),
    Within("index", lambda a: len(a["values"])),
    NotEmpty("offsets"),
    Offsets("offsets", lambda a: len(a["index"])),
)
