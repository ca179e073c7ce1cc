"""The loops that measure a CPU's memory: copy, read, write, update, random rows, atomics.

Each works on one thread's share and holds no lock, so that plain threads run several at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic


@intrinsic
def prefetch(typingctx: Any, array: Any, at: Any) -> Any:
    """Ask for the cache line of element `at` of a one-dimensional array; never faults."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.bitcast(builder.gep(view.data, [args[1]]), ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        call = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [pointer.type],
            ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32]),
        )
        # Read, keep in every level, data.
        builder.call(call, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def add_atomically(typingctx: Any, array: Any, at: Any, value: Any) -> Any:
    """array[at] += value on an int64 array, whatever other threads do to it."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.gep(view.data, [args[1]])
        builder.atomic_rmw("add", pointer, args[2], "monotonic")
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), emit


@njit(nogil=True, cache=True)
def copy_loop(source: np.ndarray, target: np.ndarray) -> None:
    for i in range(len(source)):
        target[i] = source[i]


@njit(nogil=True, cache=True, fastmath=True)
def read_loop(source: np.ndarray) -> np.float32:
    total = np.float32(0)
    for i in range(len(source)):
        total += source[i]
    return total


@njit(nogil=True, cache=True, fastmath=True)
def read_again(source: np.ndarray, times: int) -> np.float32:
    """Read the same few elements many times: what a cache gives."""
    total = np.float32(0)
    for t in range(times):
        part = np.float32(0)
        for i in range(len(source)):
            part += source[i] * np.float32(t)
        total += part
    return total


@njit(nogil=True, cache=True)
def write_loop(target: np.ndarray, value: np.float32) -> None:
    for i in range(len(target)):
        target[i] = value


@njit(nogil=True, cache=True)
def update_loop(target: np.ndarray, factor: np.float32) -> None:
    for i in range(len(target)):
        target[i] = target[i] * factor


@njit(nogil=True, cache=True)
def gather_loop(
    table: np.ndarray, rows: np.ndarray, out: np.ndarray, width: int, ahead: int
) -> None:
    """out[i] = row rows[i] of `table`, rows of `width` elements; asks `ahead` rows in advance."""
    last = len(rows) - 1
    for i in range(len(rows)):
        if ahead:
            far = np.int64(rows[min(i + ahead, last)]) * width
            for line in range(0, width, 16):
                prefetch(table, far + line)  # pyright: ignore[reportCallIssue]
        start = np.int64(rows[i]) * width
        to = i * width
        for j in range(width):
            out[to + j] = table[start + j]


@njit(nogil=True, cache=True)
def scatter_loop(source: np.ndarray, rows: np.ndarray, table: np.ndarray, width: int) -> None:
    """Row rows[i] of `table` = row i of `source`, rows of `width` elements."""
    for i in range(len(rows)):
        start = np.int64(rows[i]) * width
        for j in range(width):
            table[start + j] = source[i * width + j]


@njit(nogil=True, cache=True)
def atomic_loop(words: np.ndarray, places: np.ndarray) -> None:
    """words[places[i]] += 1, atomically."""
    for i in range(len(places)):
        add_atomically(words, np.int64(places[i]), np.int64(1))  # pyright: ignore[reportCallIssue]
