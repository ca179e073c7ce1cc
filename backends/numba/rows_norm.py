"""Length of a gradient: squares summed in float64 in runs of fixed length, then the runs."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from backends.numba.arithmetic import add, spread, squared, sum_of
from backends.numba.lanes import form_of, load, load_all, width_of
from backends.numba.memory import prefetch
from backends.numba.threads import kernel, share

# Elements summed into one partial sum: fixed, so that the result is too.
RUN = 1 << 13
# How far ahead is asked for, in bytes: the processor itself stops at the end of a page.
AHEAD = 4096


@kernel
def squares(begin, end, values, n, form, sums):
    """Runs [begin, end); the lanes of a run are summed apart, even and odd ones, then together."""
    size = width_of(form)
    for run in range(begin, end):
        even = odd = squared(spread(np.float32(0)))
        at, stop = run * RUN, min(n, (run + 1) * RUN)
        while at + 32 <= stop:
            prefetch(values + at * size + AHEAD, 32 * size)
            even = add(even, squared(load_all(values + at * size, form)))
            odd = add(odd, squared(load_all(values + (at + 16) * size, form)))
            at += 32
        while at < stop:
            even = add(even, squared(load(values + at * size, stop - at, form)))
            at += 16
        sums[run] = sum_of(add(even, odd))


def rows_norm(values: Tensor, norm: Tensor) -> None:
    n = values.numel()
    sums = np.empty(-(-n // RUN))
    share(squares, len(sums), values.nbytes, values.data_ptr(), n, form_of(values), sums)
    norm[0] = float(np.sqrt(sums.sum()))
