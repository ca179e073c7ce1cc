"""Length of a gradient: what clipping and the guard against NaN look at."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import Dims
from recis_core.spec import Out, Traffic, nbytes, op
from recis_core.tolerance import Tolerance
from recis_core.types import Values


# Squares are summed in float32 runs at the least; the sum of runs is float64.
@op(tolerance=Tolerance({"float64": (1e-6, 1e-12)}))
def rows_norm(values: Values):
    """[1] float64: sqrt(Σ values²) over all elements of [n, D]; NaN or inf if any element is."""
    return np.sqrt(np.square(values).sum()).reshape(1)


@rows_norm.inputs(
    test=[
        dict(n=0, dim=4, poison=None),
        dict(n=1, dim=1, poison=None),
        dict(n=999, dim=17, poison=None),
        dict(n=999, dim=17, poison=float("nan")),
        dict(n=999, dim=16, poison=float("inf")),
    ],
    bench=[dict(n=1 << 17, dim=d, poison=None) for d in (16, 64)],
)
def _(rng, n, dim, poison):
    values = draw.normal(rng, n, dim)
    if poison is not None:
        values[n // 2, dim // 2] = poison
    return dict(values=values)


@rows_norm.outputs
def _(values):
    return Out("norm", (1,), "float64")


@rows_norm.moves
def _(values):
    return Traffic(nbytes(values), 8, requested=nbytes(values) + 8, flops=2 * values.numel())


rows_norm.requires(Dims(values=2))
