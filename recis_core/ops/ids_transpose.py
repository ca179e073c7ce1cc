"""Turn "which distinct id has each value" round: which segments use each distinct id."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import AtLeast, Dims, NotEmpty, Offsets, Same, Within
from recis_core.spec import Out, Traffic, nbytes, op
from recis_core.tolerance import EXACT
from recis_core.types import Index, Values, index_dtype


@op(tolerance=EXACT)
def ids_transpose(inverse: Index, offsets: Index, weights: Values | None, distinct: int):
    """Stable counting sort of the values by distinct id: the transposed index.

    inverse [n] below `distinct`, offsets [S+1] of the segments the values lie in ->
    starts [distinct+1]; segments [n]: for u, segments[starts[u]:starts[u+1]] are the segments of
    its values, in order of position; carried: the weights in the same order ([0] without).
    """
    order = np.argsort(inverse, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(inverse, minlength=distinct))])
    segment = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    carried = np.empty(0) if weights is None else weights[order]
    return starts, segment[order], carried


@ids_transpose.inputs(
    test=[
        dict(segments=0, mean=3, distinct=0, skew=1.0, weighted=False),
        dict(segments=1, mean=900, distinct=1, skew=1.0, weighted=True),
        dict(segments=3, mean=300, distinct=900, skew=0.0, weighted=False),
        dict(segments=5, mean=3, distinct=20000, skew=0.0, weighted=True),
        dict(segments=300, mean=4, distinct=200, skew=1.0, weighted=True),
        dict(segments=300, mean=4, distinct=5000, skew=0.0, weighted=False),
    ],
    bench=[
        dict(segments=1 << 18, mean=4, distinct=1 << 18, skew=1.05, weighted=False),
        dict(segments=1 << 15, mean=32, distinct=1 << 19, skew=0.0, weighted=False),
        dict(segments=1 << 15, mean=32, distinct=1 << 18, skew=1.05, weighted=True),
    ],
)
def _(rng, segments, mean, distinct, skew, weighted):
    offsets = draw.offsets(rng, segments, mean)
    n = offsets[-1]
    return dict(
        inverse=draw.zipf(rng, n, distinct, skew),
        offsets=offsets,
        weights=draw.weights(rng, n) if weighted else None,
        distinct=distinct,
    )


@ids_transpose.outputs
def _(inverse, offsets, weights, distinct):
    n = len(inverse)
    return (
        Out("starts", (distinct + 1,), index_dtype(n)),
        Out("segments", (n,), index_dtype(len(offsets) - 1)),
        Out(
            "carried",
            (0 if weights is None else n,),
            "float32" if weights is None else weights.dtype,
        ),
    )


@ids_transpose.moves
def _(inverse, offsets, weights, distinct):
    """Inverse, offsets and weights read once; starts, segments and carried weights written."""
    n = len(inverse)
    width = 4 if index_dtype(n) == "int32" else 8
    seg_width = 4 if index_dtype(len(offsets) - 1) == "int32" else 8
    read = nbytes(inverse, offsets, weights)
    written = (distinct + 1) * width + n * seg_width + nbytes(weights)
    return Traffic(read, written, requested=read + written)


ids_transpose.requires(
    Dims(inverse=1, offsets=1, weights=1),
    Same("inverse", "weights"),
    AtLeast("distinct", 0),
    Within("inverse", lambda a: a["distinct"]),
    NotEmpty("offsets"),
    Offsets("offsets", lambda a: len(a["inverse"])),
)
