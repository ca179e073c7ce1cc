"""Gradient of `segment_sum` to the distinct rows, through the transposed index."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import Dims, NotEmpty, Offsets, Same, Within
from recis_core.spec import Out, Traffic, distinct, nbytes, op
from recis_core.tolerance import SUMMED
from recis_core.types import Index, Values


@op(tolerance=SUMMED)
def segment_sum_grad(grad: Values, starts: Index, segments: Index, weights: Values | None):
    """out[u] = Σ weights[k]·grad[segments[k]] over k in [starts[u], starts[u+1]), in that order.

    grad [S, D]; starts [U+1], segments [n], weights [n]: from `ids_transpose` -> [U, D].
    """
    out = np.zeros((len(starts) - 1, grad.shape[1]))
    row = np.repeat(np.arange(len(out)), np.diff(starts))
    scale = 1 if weights is None else weights[:, None]
    np.add.at(out, row, scale * grad[segments])
    return out


def transposed(rng, segments, mean, dim, unique, weighted):
    """A random transposed index: ids popular by a power law, their segments ascending."""
    n = int(draw.offsets(rng, segments, mean)[-1])
    counts = np.bincount(draw.zipf(rng, n, unique, 0.8), minlength=unique)
    starts = np.concatenate([[0], np.cumsum(counts)])
    owner = np.repeat(np.arange(unique), counts)
    drawn = rng.integers(0, max(segments, 1), n)
    return dict(
        grad=draw.normal(rng, segments, dim),
        starts=starts,
        segments=drawn[np.lexsort((drawn, owner))],
        weights=draw.weights(rng, n) if weighted else None,
    )


@segment_sum_grad.inputs(
    test=[
        dict(segments=0, mean=0, dim=4, unique=0, weighted=False),
        dict(segments=5, mean=0, dim=4, unique=3, weighted=False),
        dict(segments=50, mean=20, dim=8, unique=1, weighted=True),
        dict(segments=257, mean=3, dim=17, unique=90, weighted=True),
        dict(segments=100, mean=9, dim=64, unique=300, weighted=False),
    ],
    bench=[
        dict(segments=1 << 16, mean=4, dim=16, unique=1 << 17, weighted=False),
        dict(segments=1 << 16, mean=4, dim=64, unique=1 << 17, weighted=False),
        dict(segments=1 << 13, mean=32, dim=64, unique=1 << 17, weighted=True),
    ],
)
def _(rng, segments, mean, dim, unique, weighted):
    return transposed(rng, segments, mean, dim, unique, weighted)


@segment_sum_grad.outputs
def _(grad, starts, segments, weights):
    return Out("out", (len(starts) - 1, grad.shape[1]), grad.dtype)


@segment_sum_grad.moves
def _(grad, starts, segments, weights):
    """Each named gradient row once; the transposed index; one row per distinct id written."""
    row = grad.shape[1] * grad.itemsize
    out = (len(starts) - 1) * row
    streams = nbytes(starts, segments, weights)
    return Traffic(
        read=distinct(segments) * row + streams,
        written=out,
        requested=len(segments) * row + streams + out,
        flops=len(segments) * grad.shape[1] * (1 if weights is None else 2),
    )


segment_sum_grad.requires(
    Dims(grad=2, starts=1, segments=1, weights=1),
    Same("segments", "weights"),
    Within("segments", lambda a: len(a["grad"])),
    NotEmpty("starts"),
    Offsets("starts", lambda a: len(a["segments"])),
)
