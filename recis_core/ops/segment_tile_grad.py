"""Gradient of `segment_tile`: that of `segment_sum` where every position is a segment."""

from __future__ import annotations

import numpy as np

from recis_core.ops.segment_sum_grad import segment_sum_grad, transposed
from recis_core.rules import Dims, NotEmpty, Offsets, Same, Within
from recis_core.spec import Out, op
from recis_core.tolerance import SUMMED
from recis_core.types import Index, Values


@op(tolerance=SUMMED)
def segment_tile_grad(grad: Values, starts: Index, segments: Index, weights: Values | None):
    """out[u] = Σ weights[k]·grad.reshape(S·T, D)[segments[k]] over k in [starts[u], starts[u+1]).

    grad [S, T, D]; the transposed index is made over stretched offsets, where position j of
    segment s is segment s·T + j of length 0 or 1 -> [U, D].
    """
    flat = grad.reshape(-1, grad.shape[2])
    out = np.zeros((len(starts) - 1, grad.shape[2]))
    row = np.repeat(np.arange(len(out)), np.diff(starts))
    scale = 1 if weights is None else weights[:, None]
    np.add.at(out, row, scale * flat[segments])
    return out


@segment_tile_grad.composed
def _(kernels, grad, starts, segments, weights):
    return kernels.segment_sum_grad(grad.flatten(0, 1), starts, segments, weights)


@segment_tile_grad.inputs(
    test=[
        dict(segments=0, tile=3, mean=0, dim=4, unique=0, weighted=False),
        dict(segments=2, tile=2, mean=1, dim=3, unique=30, weighted=False),
        dict(segments=300, tile=3, mean=1, dim=4, unique=1, weighted=True),
        dict(segments=30, tile=4, mean=2, dim=17, unique=20, weighted=True),
        dict(segments=30, tile=5, mean=2, dim=16, unique=20, weighted=False),
    ],
    bench=[dict(segments=1 << 12, tile=50, mean=0.6, dim=64, unique=1 << 16, weighted=False)],
)
def _(rng, segments, tile, mean, dim, unique, weighted):
    args = transposed(rng, segments * tile, mean, dim, unique, weighted)
    return {**args, "grad": args["grad"].reshape(segments, tile, dim)}


@segment_tile_grad.outputs
def _(grad, starts, segments, weights):
    return Out("out", (len(starts) - 1, grad.shape[2]), grad.dtype)


@segment_tile_grad.moves
def _(grad, starts, segments, weights):
    """As `segment_sum_grad` over the flattened positions."""
    return segment_sum_grad.traffic(grad.flatten(0, 1), starts, segments, weights)


segment_tile_grad.requires(
    Dims(grad=3, starts=1, segments=1, weights=1),
    Same("segments", "weights"),
    Within("segments", lambda a: a["grad"].shape[0] * a["grad"].shape[1]),
    NotEmpty("starts"),
    Offsets("starts", lambda a: len(a["segments"])),
)
