"""Length of a gradient: squares summed in float64 in runs of fixed length, then the runs."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from backends.numba.lanes import form_of, scalar
from backends.numba.threads import kernel, share

# Elements summed into one partial sum: fixed, so that the result is too.
RUN = 1 << 13
STRANDS = 32


@kernel
def squares(begin, end, values, n, form, sums):
    """Runs [begin, end); a run is summed in STRANDS interleaved strands, then those in order."""
    strand = np.zeros(STRANDS)
    for run in range(begin, end):
        strand[:] = 0
        at, stop = run * RUN, min(n, (run + 1) * RUN)
        while at + STRANDS <= stop:
            for j in range(STRANDS):
                x = float(scalar(values, at + j, form))
                strand[j] += x * x
            at += STRANDS
        whole = 0.0
        for j in range(STRANDS):
            whole += strand[j]
        for k in range(at, stop):
            x = float(scalar(values, k, form))
            whole += x * x
        sums[run] = whole


def rows_norm(values: Tensor, norm: Tensor) -> None:
    n = values.numel()
    sums = np.empty(-(-n // RUN))
    share(squares, len(sums), values.nbytes, values.data_ptr(), n, form_of(values), sums)
    norm[0] = float(np.sqrt(sums.sum()))
