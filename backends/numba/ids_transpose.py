"""A stable counting sort, side by side: every range counts, then places its own values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from backends.numba.search import last_not_above
from backends.numba.threads import cuts, kernel, run

# Room for counters of all ranges, relative to the values: more would cost more than it saves.
COUNTERS = 4


@kernel
def count(begin, end, bounds, inverse, counts):
    """How often ranges [begin, end) name each distinct id."""
    for part in range(begin, end):
        own = counts[part]
        own[:] = 0
        for i in range(bounds[part], bounds[part + 1]):
            own[inverse[i]] += 1


@kernel
def begin_runs(counts, starts):
    """Turn counts into the place of every range's first value of each id; fill starts."""
    at = 0
    for u in range(counts.shape[1]):
        starts[u] = at
        for part in range(counts.shape[0]):
            own = counts[part, u]
            counts[part, u] = at
            at += own
    starts[counts.shape[1]] = at


@kernel
def place(begin, end, bounds, inverse, offsets, weights, counts, segments, carried):
    """Ranges [begin, end): each value's segment, or its position where `offsets` is None."""
    for part in range(begin, end):
        own = counts[part]
        first = bounds[part]
        s = 0
        if offsets is not None:
            s = last_not_above(offsets, first)
        for i in range(first, bounds[part + 1]):
            u = inverse[i]
            to = own[u]
            own[u] = to + 1
            if offsets is None:
                segments[to] = i
            else:
                while offsets[s + 1] <= i:
                    s += 1
                segments[to] = s
            if carried is not None:
                carried[to] = weights[i]


def transpose(
    inverse: np.ndarray,
    offsets: np.ndarray | None,
    weights: np.ndarray | None,
    starts: np.ndarray,
    segments: np.ndarray,
    carried: np.ndarray | None,
) -> None:
    """Fill starts, segments (positions without offsets) and carried weights."""
    n, distinct = len(inverse), len(starts) - 1
    bounds = np.array(cuts(n, 16 * n))
    parts = max(1, min(len(bounds) - 1, COUNTERS * n // max(distinct, 1)))
    bounds = np.array([n * k // parts for k in range(parts + 1)])
    counts = np.empty((parts, distinct), starts.dtype)
    each = [*range(parts + 1)]
    run(count, each, bounds, inverse, counts)
    begin_runs(counts, starts)
    run(place, each, bounds, inverse, offsets, weights, counts, segments, carried)


def ids_transpose(
    inverse: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    distinct: int,
    starts: Tensor,
    segments: Tensor,
    carried: Tensor,
) -> None:
    given = None if weights is None else bits(weights)
    transpose(
        inverse.numpy(),
        offsets.numpy(),
        given,
        starts.numpy(),
        segments.numpy(),
        None if given is None else bits(carried),
    )


def bits(values: Tensor) -> np.ndarray:
    """Floats as integers of their width: they are moved, not computed with."""
    return values.view({2: torch.int16, 4: torch.int32}[values.itemsize]).numpy()
