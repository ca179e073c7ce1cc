"""Kernels over ranges, shared among threads of our own.

A kernel is compiled once, takes its range [begin, end) first and runs without the interpreter's
lock. Threads of a small pool and the calling thread take ranges until none is left, so a busy
pool delays no one, any thread may call, and Numba's threading layers are not used at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from hashlib import sha256
from itertools import count, pairwise
from pathlib import Path
from threading import Event, Lock
from typing import Any

import torch
from numba import njit
from numba.core import extending

# `nogil` lets ranges run side by side; without Python's rule for x / 0 loops can be vectorised.
_compiled: Any = njit(nogil=True, cache=True, error_model="numpy")
inlined: Any = njit(forceinline=True, error_model="numpy")
function: Any = njit(error_model="numpy")

# As Any: callers write the arguments of the code it emits, not of the function that types it.
intrinsic: Any = extending.intrinsic


@lru_cache(maxsize=1)
def _digest() -> str:
    """Of every source file of this package."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:12]


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` when first called, for ranges run side by side, and keep the result.

    What Numba keeps is found again by the function's name and its own file's date; the digest in
    the name makes a change of any file that kernels import count too.
    """
    function.__qualname__ += f"-{_digest()}"
    return _compiled(function)


# A range below this many bytes of work costs less than waking a thread.
GRAIN = 1 << 19
# Ranges per thread: enough that a thread that is held up does not hold up the others.
SHARE = 4


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads for one process; a forked child has none of its parent's and makes its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix="numba-kernel")


class _Job:
    """A kernel over ranges; whoever runs it takes ranges until none is left."""

    def __init__(self, call: Callable[..., Any], bounds: list[int], args: tuple[Any, ...]) -> None:
        self.call, self.bounds, self.args = call, bounds, args
        self.take = count().__next__
        self.left = len(bounds) - 1
        self.lock, self.done = Lock(), Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        while (at := self.take()) < len(self.bounds) - 1:
            try:
                self.call(self.bounds[at], self.bounds[at + 1], *self.args)
            except BaseException as error:
                self.error = error
            with self.lock:
                self.left -= 1
                if not self.left:
                    self.done.set()


def threads() -> int:
    """How many threads kernels use: as many as torch, the calling one included."""
    return torch.get_num_threads()


def cuts(n: int, nbytes: int) -> list[int]:
    """Bounds of ranges that share [0, n), which moves `nbytes` in all; one if that is little."""
    workers = threads()
    parts = min(workers * SHARE, nbytes // GRAIN, n) if workers > 1 else 1
    return [n * k // parts for k in range(parts + 1)] if parts > 1 else [0, n]


def run(call: Callable[..., Any], bounds: list[int], *args: Any) -> None:
    """call(bounds[k], bounds[k + 1], *args) for every k, side by side; returns when all have."""
    if len(bounds) < 3 or (workers := threads()) < 2:
        for begin, end in pairwise(bounds):
            call(begin, end, *args)
        return
    job = _Job(call, bounds, args)
    pool = _pool(os.getpid(), workers - 1)
    waiting = [pool.submit(job.run) for _ in range(min(workers, len(bounds) - 1) - 1)]
    job.run()
    for future in waiting:
        future.cancel()
    job.done.wait()
    if job.error is not None:
        raise job.error


def share(call: Callable[..., Any], n: int, nbytes: int, *args: Any) -> None:
    """A kernel over [0, n), side by side if it moves enough bytes."""
    run(call, cuts(n, nbytes), *args)
