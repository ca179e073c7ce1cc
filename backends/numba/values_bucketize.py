"""Count boundaries sixteen at a time: of random values no branch of a search is predicted."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from backends.numba.arithmetic import not_above, spread
from backends.numba.lanes import WIDTH, form_of, load, scalar
from backends.numba.search import last_not_above
from backends.numba.threads import kernel, share

# Boundaries that counting passes faster than halving does.
LINEAR = 128


@kernel
def bucketize(begin, end, values, form, splits, boundaries, boundary_splits, out):
    column = last_not_above(splits, begin)
    base = boundaries.ctypes.data
    at = begin
    while at < end:
        while splits[column + 1] <= at:
            column += 1
        stop = min(end, np.int64(splits[column + 1]))
        first = np.int64(boundary_splits[column])
        count = np.int64(boundary_splits[column + 1]) - first
        for i in range(at, stop):
            value = scalar(values, i, form)
            low, length = first, count
            while length > LINEAR:
                half = length >> 1
                # "not above" rather than "at most": NaN is past every boundary.
                if not boundaries[low + half - 1] > value:
                    low += half
                length -= half
            limit, passed = spread(value), low - first
            for k in range(0, length, WIDTH):
                found = load(base + 4 * (low + k), length - k, np.float32(0))
                passed += not_above(found, length - k, limit)
            out[i] = passed
        at = stop


def values_bucketize(
    values: Tensor, splits: Tensor, boundaries: Tensor, boundary_splits: Tensor, out: Tensor
) -> None:
    share(
        bucketize,
        len(values),
        2 * out.nbytes,
        values.data_ptr(),
        form_of(values),
        splits.numpy(),
        boundaries.float().numpy(),
        boundary_splits.numpy(),
        out.numpy(),
    )
