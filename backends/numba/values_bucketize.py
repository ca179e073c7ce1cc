"""Every boundary against 32 values at a time: of random values no branch is predicted."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from backends.numba.arithmetic import count_not_above, nothing_counted, store_counts
from backends.numba.lanes import WIDTH, form_of, load, scalar, width_of
from backends.numba.search import last_not_above
from backends.numba.threads import inlined, kernel, share

# Boundaries that counting passes faster than halving does.
LINEAR = 256


@inlined
def counted_in(value, boundaries, first, count):
    """How many of boundaries[first:first+count] are not above a value, by halving."""
    low = first
    while count > 0:
        half = (count + 1) >> 1
        # "not above" rather than "at most": NaN is past every boundary.
        if not boundaries[low + half - 1] > value:
            low += half
        count -= half
    return low - first


@kernel
def bucketize(begin, end, values, form, splits, boundaries, boundary_splits, out):
    column = last_not_above(splits, begin)
    at = begin
    size = width_of(form)
    target = out.ctypes.data
    while at < end:
        while splits[column + 1] <= at:
            column += 1
        stop = min(end, np.int64(splits[column + 1]))
        first = np.int64(boundary_splits[column])
        count = np.int64(boundary_splits[column + 1]) - first
        if count > LINEAR:
            for i in range(at, stop):
                out[i] = counted_in(scalar(values, i, form), boundaries, first, count)
        else:
            for i in range(at, stop, 2 * WIDTH):
                a = load(values + i * size, stop - i, form)
                b = load(values + (i + WIDTH) * size, stop - i - WIDTH, form)
                below_a = below_b = nothing_counted()
                for k in range(first, first + count):
                    below_a = count_not_above(below_a, boundaries[k], a)
                    below_b = count_not_above(below_b, boundaries[k], b)
                store_counts(target + 8 * i, stop - i, below_a)
                store_counts(target + 8 * (i + WIDTH), stop - i - WIDTH, below_b)
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
