"""One buffer filled from files and from arrays, by several threads where that is worth while."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, partial

import numpy as np

from recis_core.io.gathers import Gathers
from recis_core.io.picked import Picked
from recis_core.io.reads import Reads, calls

# Bytes that are worth waking another thread for; reading needs few, as it never looks back.
SHARE = 8 << 20
READ = 32 << 20
MOST = 8
PARTS = 4  # a thread's, of a gather, whose columns do not take the same time
Source = np.ndarray | Picked


def fill(
    into: np.ndarray,
    reads: Sequence[Reads | Gathers],
    starts: Sequence[int],
    arrays: Sequence[Source],
) -> None:
    """Read `reads` into the bytes `into`, and write the bytes of each of `arrays` from its start
    on. All that was begun has ended when this returns or raises."""
    workers = max(1, min(MOST, cores() // 2, into.nbytes // SHARE))
    share = into.nbytes // workers + 1
    jobs: list[Callable[[], None]] = []
    starts, arrays = list(starts), list[Source](arrays)
    for one in reads:
        if isinstance(one, Gathers):
            jobs += one.jobs(into, share // PARTS + 1)
            continue
        found, alone, views = calls(one, max(share, READ))
        jobs += [partial(call.go, into) for call in found]
        starts += alone
        arrays += views
    at = 0
    for some in shared_out(share, arrays):
        jobs.append(partial(copy, into, starts[at : at + len(some)], some))
        at += len(some)
    if workers < 2 or len(jobs) < 2:
        for job in jobs:
            job()
        return
    running = [pool().submit(job) for job in jobs]
    wait(running)
    for one in running:
        one.result()


def cores() -> int:
    """Cores this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def copy(into: np.ndarray, starts: Sequence[int], arrays: Sequence[Source]) -> None:
    # NumPy lets other threads run while it copies more than a few hundred elements.
    for start, array in zip(starts, arrays, strict=True):
        out = into[start : start + array.nbytes].view(array.dtype)
        if isinstance(array, np.ndarray):
            out[:] = array
        else:
            array.write(out)


def shared_out(size: int, arrays: Sequence[Source]) -> Iterator[Sequence[Source]]:
    """Stretches of `arrays` of about `size` bytes each."""
    first = held = 0
    for at, array in enumerate(arrays, 1):
        held += array.nbytes
        if held >= size or at == len(arrays):
            yield arrays[first:at]
            first, held = at, 0


@cache
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST, "recis-copy")
