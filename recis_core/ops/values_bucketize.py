"""Numbers to bucket numbers, all columns in one pass."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import Dims, NotEmpty, Offsets, Same
from recis_core.spec import Out, Traffic, nbytes, op
from recis_core.types import Index, Values


@op()
def values_bucketize(values: Values, splits: Index, boundaries: Values, boundary_splits: Index):
    """out[i] = how many of column f's ascending boundaries are <= values[i]; NaN: all of them.

    values [n] with columns at splits [F+1]; boundaries of column f at
    boundary_splits[f]:boundary_splits[f+1] -> int64 [n].
    """
    out = np.empty(len(values), np.int64)
    for f in range(len(splits) - 1):
        own = boundaries[boundary_splits[f] : boundary_splits[f + 1]]
        part = values[splits[f] : splits[f + 1]]
        found = np.searchsorted(own, part, side="right")
        out[splits[f] : splits[f + 1]] = np.where(np.isnan(part), len(own), found)
    return out


@values_bucketize.inputs(
    test=[
        dict(n=0, columns=1, each=3),
        dict(n=1, columns=1, each=1),
        dict(n=40, columns=2, each=0),
        dict(n=1000, columns=3, each=1),
        dict(n=1000, columns=7, each=31),
    ],
    bench=[
        dict(n=1 << 20, columns=1, each=100),
        dict(n=1 << 20, columns=50, each=32),
    ],
)
def _(rng, n, columns, each):
    # Columns have different numbers of boundaries, `each` on average.
    counts = each + np.resize([0, 1, -1], columns) * (each > 0)
    boundary_splits = np.concatenate([[0], np.cumsum(counts)])
    parts = [np.sort(draw.normal(rng, count)) for count in counts]
    boundaries = np.concatenate(parts)
    values = draw.normal(rng, n)
    if n > 8:
        values[:4] = np.nan, np.inf, -np.inf, 0
        ties = rng.integers(0, n, n // 8)
        if each:
            values[ties] = rng.choice(boundaries, len(ties))
    return dict(
        values=values,
        splits=draw.splits(n, columns),
        boundaries=boundaries,
        boundary_splits=boundary_splits,
    )


@values_bucketize.outputs
def _(values, splits, boundaries, boundary_splits):
    return Out("out", (len(values),), "int64")


@values_bucketize.moves
def _(values, splits, boundaries, boundary_splits):
    read, written = nbytes(values, splits, boundaries, boundary_splits), 8 * len(values)
    return Traffic(read, written, requested=read + written, recis=nbytes(values) + written)


values_bucketize.requires(
    Dims(values=1, splits=1, boundaries=1, boundary_splits=1),
    NotEmpty("splits"),
    Same("splits", "boundary_splits"),
    Offsets("splits", lambda a: len(a["values"])),
    Offsets("boundary_splits", lambda a: len(a["boundaries"])),
)
