"""Sum the gradients that belong to one row: after an exchange, or over micro-batches."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import AtLeast, Dims, Same, Within
from recis_core.spec import Out, Traffic, nbytes, op
from recis_core.tolerance import SUMMED
from recis_core.types import Index, Values


@op(tolerance=SUMMED)
def rows_reduce(values: Values, inverse: Index, distinct: int):
    """out[u] = Σ values[i] over all i with inverse[i] = u, in order of i.

    values [n, D], inverse [n] below `distinct` -> [distinct, D].
    """
    out = np.zeros((distinct, values.shape[1]))
    np.add.at(out, inverse, values)
    return out


@rows_reduce.inputs(
    test=[
        dict(n=0, distinct=3, dim=4),
        dict(n=1, distinct=1, dim=1),
        dict(n=20, distinct=5000, dim=3),
        dict(n=400, distinct=1, dim=8),
        dict(n=400, distinct=150, dim=17),
        dict(n=100, distinct=500, dim=64),
    ],
    bench=[dict(n=1 << 18, distinct=1 << 17, dim=d) for d in (16, 64)],
)
def _(rng, n, distinct, dim):
    return dict(
        values=draw.normal(rng, n, dim), inverse=rng.integers(0, distinct, n), distinct=distinct
    )


@rows_reduce.outputs
def _(values, inverse, distinct):
    return Out("out", (distinct, values.shape[1]), values.dtype)


@rows_reduce.moves
def _(values, inverse, distinct):
    """Every gradient once, every sum once."""
    read = nbytes(values, inverse)
    written = distinct * values.shape[1] * values.itemsize
    return Traffic(read, written, requested=read + written, flops=values.numel())


rows_reduce.requires(
    Dims(values=2, inverse=1),
    Same("values", "inverse"),
    AtLeast("distinct", 0),
    Within("inverse", lambda a: a["distinct"]),
)
