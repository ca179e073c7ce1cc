"""Compiled loops over rows of columns in a mapped file, which do not hold Python's lock.

`bounds`: a file's bytes as numbers as wide as a list's bounds; a list's begin at number `first`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

compiled: Any = njit(nogil=True, cache=True)


@compiled
def lengths(bounds, first, rows, out):
    """How many values `rows` have in each list column of `first` [n], to `out` [n]."""
    for at in range(len(first)):
        total = np.int64(0)
        for row in rows:
            total += bounds[first[at] + row + 1] - bounds[first[at] + row]
        out[at] = total


@compiled
def gather(values, bounds, rows, table, into, own):
    """`rows` of columns of one width of value, end to end, and new bounds of those that are lists.

    table [n, 5]: the number of `values` at which a column begins, how many its rows have in all,
    the number of `into` to which they go; `first`, -1 for one value a row, and the number of `own`
    at which its new bounds begin. -> whether lists have as many values as the table says.
    """
    for begin, count, to, first, ends in table:
        if first < 0:
            for n, row in enumerate(rows):
                into[to + n] = values[begin + row]
            continue
        done = np.int64(0)
        own[ends] = 0
        for n, row in enumerate(rows):
            start = np.int64(bounds[first + row])
            length = np.int64(bounds[first + row + 1]) - start
            start += begin
            if length < 0 or length > count - done or start < 0 or start > len(values) - length:
                return False
            for i in range(length):
                into[to + done + i] = values[start + i]
            done += length
            own[ends + n + 1] = done
        if done != count:
            return False
    return True
