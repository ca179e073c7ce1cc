"""Pool a ragged feature by its weighted mean."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import Dims, NotEmpty, Offsets, Same, Within
from recis_core.spec import Out, Traffic, distinct, nbytes, op
from recis_core.tolerance import SUMMED
from recis_core.types import Index, Values


@op(tolerance=SUMMED)
def segment_mean(values: Values, index: Index, offsets: Index, weights: Values | None):
    """out[s] = Σ w·values[index] / Σ w over the segment; zeros where it is empty or Σ w = 0.

    Shapes as `segment_sum`. Also returns scale[s] = 1 / Σ w (0 where out is zeros), float32 [S],
    which the gradient needs.
    """
    segment = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    w = np.ones(len(index)) if weights is None else weights
    total = np.bincount(segment, w, minlength=len(offsets) - 1).astype(float)
    scale = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    out = np.zeros((len(offsets) - 1, values.shape[1]))
    np.add.at(out, segment, w[:, None] * values[index])
    return out * scale[:, None], scale


@segment_mean.inputs(
    test=[
        dict(segments=0, mean=3, dim=4, unique=5, weighted=False),
        dict(segments=1, mean=0, dim=4, unique=5, weighted=True),
        dict(segments=1, mean=700, dim=8, unique=50, weighted=False),
        dict(segments=33, mean=4, dim=1, unique=1, weighted=True),
        dict(segments=257, mean=1, dim=17, unique=300, weighted=True),
        dict(segments=100, mean=9, dim=64, unique=300, weighted=False),
    ],
    bench=[
        dict(segments=1 << 16, mean=4, dim=16, unique=1 << 18, weighted=False),
        dict(segments=1 << 13, mean=32, dim=64, unique=1 << 18, weighted=True),
    ],
)
def _(rng, segments, mean, dim, unique, weighted):
    offsets = draw.offsets(rng, segments, mean)
    return dict(
        values=draw.normal(rng, unique, dim),
        index=rng.integers(0, unique, offsets[-1]),
        offsets=offsets,
        weights=draw.weights(rng, offsets[-1]) if weighted else None,
    )


@segment_mean.outputs
def _(values, index, offsets, weights):
    segments = len(offsets) - 1
    return (
        Out("out", (segments, values.shape[1]), values.dtype),
        Out("scale", (segments,), "float32"),
    )


@segment_mean.moves
def _(values, index, offsets, weights):
    """The named rows once, index, offsets and weights; pooled rows and scales written."""
    segments = len(offsets) - 1
    row = values.shape[1] * values.itemsize
    out = segments * (row + 4)
    streams = nbytes(index, offsets, weights)
    return Traffic(
        read=distinct(index) * row + streams,
        written=out,
        requested=len(index) * row + streams + out,
        flops=(len(index) * (1 if weights is None else 2) + segments) * values.shape[1],
        recis=len(index) * row + nbytes(index, weights, offsets) + 3 * segments * row,
    )


segment_mean.requires(
    Dims(values=2, index=1, offsets=1, weights=1),
    Same("index", "weights"),
    Within("index", lambda a: len(a["values"])),
    NotEmpty("offsets"),
    Offsets("offsets", lambda a: len(a["index"])),
)
