"""Binary search in short sorted arrays."""

from __future__ import annotations

from backends.numba.threads import inlined


@inlined
def last_not_above(ascending, value):
    """The last position whose element is <= value; -1 if there is none."""
    low, high = 0, len(ascending)
    while low < high:
        middle = (low + high) >> 1
        if ascending[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low - 1
