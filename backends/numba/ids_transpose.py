"""A stable counting sort in two passes, side by side: values go to buckets of neighbouring ids,
then each bucket, whose counters stay in a core's own cache, is put in order on its own.

A pass over all ids at once would keep a counter for each of them and each range, and miss cache
at every value.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from backends.numba.search import last_not_above
from backends.numba.threads import cuts, kernel, run

# Ids of a bucket: 4 KiB of counters, and of its values; at most so many buckets, for their open
# lines to stay in cache too.
NEIGHBOURS, BUCKETS = 1 << 10, 1 << 10
# A record's lower bits are a segment or position, the upper ones the id within its bucket.
_WHERE = 40
_LOW = (1 << _WHERE) - 1


@kernel
def count(begin, end, bounds, inverse, shift, counts):
    """How many values of ranges [begin, end) fall into each bucket."""
    for part in range(begin, end):
        own = counts[part]
        own[:] = 0
        for i in range(bounds[part], bounds[part + 1]):
            own[inverse[i] >> shift] += 1


@kernel
def begin_runs(counts, firsts):
    """Turn counts into the place of every range's first record of each bucket; fill firsts."""
    at = 0
    for bucket in range(counts.shape[1]):
        firsts[bucket] = at
        for part in range(counts.shape[0]):
            own = counts[part, bucket]
            counts[part, bucket] = at
            at += own
    firsts[counts.shape[1]] = at


@kernel
def place(begin, end, bounds, inverse, offsets, weights, shift, counts, records, carried):
    """Ranges [begin, end): each value's record, and its weight, into its bucket. It holds the
    value's segment, or its position where `offsets` is None."""
    mask = (1 << shift) - 1
    for part in range(begin, end):
        own = counts[part]
        i, stop = np.int64(bounds[part]), np.int64(bounds[part + 1])
        s = 0
        if offsets is not None:
            s = last_not_above(offsets, i)
        while i < stop:
            last = stop
            if offsets is not None:
                last = min(stop, np.int64(offsets[s + 1]))
            while i < last:
                u = np.int64(inverse[i])
                to = own[u >> shift]
                own[u >> shift] = to + 1
                where = i if offsets is None else s
                records[to] = (u & mask) << _WHERE | where
                if weights is not None:
                    carried[to] = weights[i]
                i += 1
            s += 1


@kernel
def settle(begin, end, firsts, shift, records, carried, starts, segments, weights):
    """Buckets [begin, end) in order of their ids: starts, segments and weights."""
    size = 1 << shift
    places = np.empty(size, np.int64)
    for bucket in range(begin, end):
        first, stop = firsts[bucket], firsts[bucket + 1]
        places[:] = 0
        for k in range(first, stop):
            places[records[k] >> _WHERE] += 1
        at, base = first, bucket << shift
        for u in range(min(size, len(starts) - 1 - base)):
            starts[base + u] = at
            own = places[u]
            places[u] = at
            at += own
        for k in range(first, stop):
            u = records[k] >> _WHERE
            to = places[u]
            places[u] = to + 1
            segments[to] = records[k] & _LOW
            if weights is not None:
                weights[to] = carried[k]
    if end == len(firsts) - 1:
        starts[len(starts) - 1] = len(records)


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
    ids = max(NEIGHBOURS, -(-distinct // BUCKETS))
    shift = (ids - 1).bit_length()
    buckets = max(1, (distinct + (1 << shift) - 1) >> shift)
    bounds = np.array(cuts(n, 16 * n))
    ranges = [*range(len(bounds))]
    counts = np.empty((len(bounds) - 1, buckets), np.int64)
    run(count, ranges, bounds, inverse, shift, counts)
    firsts = np.empty(buckets + 1, np.int64)
    begin_runs(counts, firsts)
    records = np.empty(n, np.int64)
    kept = None if weights is None else np.empty(n, weights.dtype)
    run(place, ranges, bounds, inverse, offsets, weights, shift, counts, records, kept)
    # Buckets that together hold equal numbers of values.
    groups = np.searchsorted(firsts, bounds)
    groups[0], groups[-1] = 0, buckets
    run(settle, groups, firsts, shift, records, kept, starts, segments, carried)


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
