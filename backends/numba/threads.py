"""Kernels over ranges, shared among torch's OpenMP threads.

A kernel is compiled once, takes its range [begin, end) first and runs without the interpreter's
lock. The calling thread and its team take ranges until none is left. The team is the one torch's
own ops use: after each op its threads wait busily for some milliseconds, so threads of our own
would find every core taken, whereas these begin at once. Any thread may call, several at a time;
each has its own team. A forked child runs kernels in the calling thread, as OpenMP's threads are
not there and it would wait for them. Where torch has no OpenMP, threads are started for a call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import cfunc, njit
from numba.core import cgutils, extending, types

from backends.numba.team import openmp, together

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


@cache
def address_of_code(function: Callable[..., Any], count: int) -> int:
    """Where the code of `function`, of `count` int64, lies: what `call_at` takes.

    A kernel that calls it so is not compiled together with it.
    """
    function.__qualname__ += f"-{_digest()}"
    kind = types.void(*[types.int64] * count)
    made: Any = cfunc(kind, cache=True, error_model="numpy")(function)
    _kept.append(made)
    return made.address


_kept: list[Any] = []  # whose code is called by address


@intrinsic
def call_at(context, code, args):
    """Call the code at an address with a tuple of int64."""

    def emit(cg, b, sig, given):
        values = cgutils.unpack_tuple(b, given[1])
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        b.call(b.inttoptr(given[0], kind.as_pointer()), values)
        return cg.get_dummy_value()

    return types.void(types.int64, args), emit


# A range below this many bytes of work costs less than waking a thread.
GRAIN = 1 << 19
# Ranges per thread: enough that a thread that is held up does not hold up the others.
SHARE = 4

# Where the threads are: not in a forked child.
_PROCESS = os.getpid()


_kernel: Any = None  # of each copy that `_shared` makes its own


def _over_ranges(parallel, workers, bounds, *args):
    return together(_kernel, bounds, parallel, workers, args)


@cache
def _shared(call: Any) -> Any:
    """The compiled function that runs a kernel over (GOMP_parallel, threads, bounds, *args)."""
    # A global, not a closure: what Numba keeps of a closure is not found again by a new process.
    known = {"__name__": __name__, "together": together, "_kernel": call}
    made = FunctionType(_over_ranges.__code__, known, call.py_func.__name__)
    made.__qualname__ = f"{call.py_func.__module__}.{call.py_func.__qualname__}"
    return _compiled(made)


def threads() -> int:
    """How many threads kernels use: as many as torch, the calling one included."""
    return torch.get_num_threads()


def cuts(n: int, nbytes: int) -> list[int]:
    """Bounds of ranges that share [0, n), which moves `nbytes` in all; one if that is little."""
    workers = threads()
    parts = min(workers * SHARE, nbytes // GRAIN, n) if workers > 1 else 1
    return [n * k // parts for k in range(parts + 1)] if parts > 1 else [0, n]


def run(call: Any, bounds: Sequence[int] | np.ndarray, *args: Any) -> None:
    """call(bounds[k], bounds[k + 1], *args) for every k, side by side; returns when all have.

    RuntimeError if any raised.
    """
    over, bounds = _shared(call), np.asarray(bounds, np.int64)
    workers = threads() if len(bounds) > 2 and os.getpid() == _PROCESS else 1
    parallel = openmp() if workers > 1 else 0
    if parallel or workers == 1:
        # Always as many as torch uses: a smaller team would end the threads it leaves out.
        failed = over(parallel, workers, bounds, *args)
    else:
        edges = [(len(bounds) - 1) * k // workers for k in range(workers + 1)]
        parts = [bounds[a : b + 1] for a, b in pairwise(edges) if a < b]
        with ThreadPoolExecutor(workers) as pool:
            failed = sum(pool.map(lambda part: over(0, 1, part, *args), parts))
    if failed:
        raise RuntimeError(f"{call.py_func.__name__}: {failed} ranges failed")


def share(call: Any, n: int, nbytes: int, *args: Any) -> None:
    """A kernel over [0, n), side by side if it moves enough bytes."""
    run(call, cuts(n, nbytes), *args)
