"""Many arrays copied into one buffer, by several threads where that is worth while."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

# One thread copies some 3 GB/s out of mapped files; less than this is not worth waking others.
SHARE = 8 << 20
MOST = 8


def copy_all(into: np.ndarray, starts: Sequence[int], arrays: Sequence[np.ndarray]) -> None:
    """Write the bytes of each of `arrays` into the bytes `into` from its start on."""
    workers = min(MOST, (os.cpu_count() or 1) // 2, into.nbytes // SHARE)
    if workers < 2:
        copy(into, starts, arrays)
        return
    shares = shared_out(into.nbytes // workers + 1, arrays)
    jobs = [pool().submit(copy, into, starts[a:b], arrays[a:b]) for a, b in shares]
    for job in jobs:
        job.result()


def copy(into: np.ndarray, starts: Sequence[int], arrays: Sequence[np.ndarray]) -> None:
    # NumPy lets other threads run while it copies more than a few hundred elements.
    for start, array in zip(starts, arrays, strict=True):
        into[start : start + array.nbytes].view(array.dtype)[:] = array


def shared_out(size: int, arrays: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """(first, end) of stretches of `arrays` of about `size` bytes each."""
    first = held = 0
    for at, array in enumerate(arrays, 1):
        held += array.nbytes
        if held >= size or at == len(arrays):
            yield first, at
            first, held = at, 0


@cache
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST, "recis-copy")
