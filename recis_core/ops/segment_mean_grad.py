"""Gradient of `segment_mean` to the distinct rows, through the transposed index."""

from __future__ import annotations

import numpy as np

from recis_core.ops.segment_sum_grad import transposed
from recis_core.rules import Dims, NotEmpty, Offsets, Same, Within
from recis_core.spec import Out, Traffic, distinct, nbytes, op
from recis_core.tolerance import SUMMED
from recis_core.types import Index, Values


@op(tolerance=SUMMED)
def segment_mean_grad(
    grad: Values, scale: Values, starts: Index, segments: Index, weights: Values | None
):
    """out[u] = Σ weights[k]·scale[segments[k]]·grad[segments[k]] over k from starts[u]
    to starts[u+1].

    grad [S, D]; scale [S], 1 / Σw of each segment, from `segment_mean`; the rest from
    `ids_transpose` -> [U, D].
    """
    out = np.zeros((len(starts) - 1, grad.shape[1]))
    row = np.repeat(np.arange(len(out)), np.diff(starts))
    w = scale[segments] if weights is None else scale[segments] * weights
    np.add.at(out, row, w[:, None] * grad[segments])
    return out


@segment_mean_grad.inputs(
    test=[
        dict(segments=0, mean=0, dim=4, unique=0, weighted=False),
        dict(segments=5, mean=0, dim=4, unique=3, weighted=True),
        dict(segments=50, mean=20, dim=8, unique=1, weighted=False),
        dict(segments=257, mean=3, dim=17, unique=90, weighted=True),
        dict(segments=100, mean=9, dim=64, unique=300, weighted=False),
    ],
    bench=[
        dict(segments=1 << 16, mean=4, dim=16, unique=1 << 17, weighted=False),
        dict(segments=1 << 13, mean=32, dim=64, unique=1 << 17, weighted=True),
    ],
)
def _(rng, segments, mean, dim, unique, weighted):
    args = transposed(rng, segments, mean, dim, unique, weighted)
    scale = rng.random(segments, dtype="float32")
    return dict(grad=args.pop("grad"), scale=scale, **args)


@segment_mean_grad.outputs
def _(grad, scale, starts, segments, weights):
    return Out("out", (len(starts) - 1, grad.shape[1]), grad.dtype)


@segment_mean_grad.moves
def _(grad, scale, starts, segments, weights):
    """Each named gradient row and scale once; the transposed index; one row per id written."""
    row = grad.shape[1] * grad.itemsize + scale.itemsize
    out = (len(starts) - 1) * grad.shape[1] * grad.itemsize
    streams = nbytes(starts, segments, weights)
    return Traffic(
        read=distinct(segments) * row + streams,
        written=out,
        requested=len(segments) * row + streams + out,
        flops=len(segments) * grad.shape[1] * 2,
    )


segment_mean_grad.requires(
    Dims(grad=2, scale=1, starts=1, segments=1, weights=1),
    Same("segments", "weights"),
    Same("grad", "scale"),
    Within("segments", lambda a: len(a["grad"])),
    NotEmpty("starts"),
    Offsets("starts", lambda a: len(a["segments"])),
)
