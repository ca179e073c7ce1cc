"""Pool the embeddings of a ragged feature: the reduction half of an embedding bag."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import Dims, NotEmpty, Offsets, Same, Within
from recis_core.spec import Out, Traffic, distinct, nbytes, op
from recis_core.tolerance import SUMMED
from recis_core.types import Index, Values


@op(tolerance=SUMMED)
def segment_sum(values: Values, index: Index, offsets: Index, weights: Values | None):
    """out[s] = Σ weights[i]·values[index[i]] over i in [offsets[s], offsets[s+1]); empty: 0.

    values [U, D], index [n] into U, offsets [S+1] -> [S, D]. No weights: all 1.
    """
    out = np.zeros((len(offsets) - 1, values.shape[1]))
    segment = np.repeat(np.arange(len(out)), np.diff(offsets))
    scale = 1 if weights is None else weights[:, None]
    np.add.at(out, segment, scale * values[index])
    return out


@segment_sum.inputs(
    test=[
        dict(segments=0, mean=3, dim=4, unique=5, weighted=False),
        dict(segments=1, mean=0, dim=4, unique=5, weighted=False),
        dict(segments=1, mean=700, dim=8, unique=50, weighted=True),
        dict(segments=4, mean=9, dim=2, unique=20000, weighted=False),
        dict(segments=64, mean=0.5, dim=4, unique=9, weighted=False),
        dict(segments=257, mean=5, dim=17, unique=300, weighted=True),
        dict(segments=100, mean=9, dim=64, unique=300, weighted=False),
        dict(segments=33, mean=40, dim=1, unique=1, weighted=True),
    ],
    bench=[
        dict(segments=1 << 16, mean=4, dim=16, unique=1 << 18, weighted=False),
        dict(segments=1 << 16, mean=4, dim=64, unique=1 << 18, weighted=False),
        dict(segments=1 << 13, mean=32, dim=64, unique=1 << 18, weighted=False),
        dict(segments=1 << 13, mean=32, dim=64, unique=1 << 18, weighted=True),
        dict(segments=1 << 10, mean=512, dim=16, unique=1 << 18, weighted=False),
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


@segment_sum.outputs
def _(values, index, offsets, weights):
    return Out("out", (len(offsets) - 1, values.shape[1]), values.dtype)


@segment_sum.moves
def _(values, index, offsets, weights):
    """Only the rows that some segment names are needed, and each of them once."""
    row = values.shape[1] * values.itemsize
    out = (len(offsets) - 1) * row
    streams = nbytes(index, offsets, weights)
    return Traffic(
        read=distinct(index) * row + streams,
        written=out,
        requested=len(index) * row + streams + out,
        flops=len(index) * values.shape[1] * (1 if weights is None else 2),
        recis=len(index) * row + nbytes(index, weights, offsets) + 3 * out,
    )


segment_sum.requires(
    Dims(values=2, index=1, offsets=1, weights=1),
    Same("index", "weights"),
    Within("index", lambda a: len(a["values"])),
    NotEmpty("offsets"),
    Offsets("offsets", lambda a: len(a["index"])),
)
