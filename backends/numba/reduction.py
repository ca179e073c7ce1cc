"""Row optimizers that sum the gradients of pooled leaves on the way, a few rows at a time: what is
between the sum and the update stays in the first cache.

Sums go in the order of `pool`, so results are those of the two ops bit by bit, but of rows with
more than LONG gradients: these are cut at fixed places, else one thread would be at work alone.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from backends.numba.arithmetic import spread
from backends.numba.lanes import address_of, load, load_all, scalar, store
from backends.numba.memory import prefetch, word
from backends.numba.pooling import AHEAD, pool_rows
from backends.numba.rows import form_of_slot, prefetch_row, update
from backends.numba.threads import address_of_code, call_at, inlined, kernel, share
from recis_core.blocks import Blocks

# Rows of a turn hold about this many bytes, gradients apart.
TURN = 8192
LONG, PIECE = 4096, 1024
F32 = np.float32(0)


class Leaves(NamedTuple):
    """Where rows find their gradients: `grad` [S, D], `scale` [S] and the transposed index."""

    grad: Tensor
    scale: Tensor | None
    starts: Tensor
    segments: Tensor
    weights: Tensor | None


@inlined
def count_of(starts, i):
    """How many gradients row i has."""
    return word(starts + i * 4 + 4, np.int32(0)) - word(starts + i * 4, np.int32(0))


def sums(begin, end, last, grad, scale, starts, segments, weights, dim, ahead, out):
    """Rows [begin, end) of `pool` into `out`, whose first row is `begin`; all float32 and int32, by
    address, 0 for None. Gradients of rows up to `last` are asked for."""
    size, place = 4, np.int32(0)
    far = np.int64(word(starts + last * 4, place)) - ahead
    first = np.int64(word(starts + begin * 4, place))
    for s in range(begin, end):
        stop = np.int64(word(starts + s * 4 + 4, place))
        column = 0
        while column < dim:
            left, at = dim - column, column * size
            a = b = c = d = spread(np.float32(0))
            for k in range(first, stop):
                if column == 0 and k < far:
                    soon = np.int64(word(segments + (k + ahead) * 4, place))
                    prefetch(grad + soon * dim * size, dim * size)
                leaf = np.int64(word(segments + k * 4, place))
                row = grad + leaf * dim * size + at
                by = np.float32(1)
                if weights != 0:
                    by = scalar(weights, k, F32)
                if scale != 0:
                    by *= scalar(scale, leaf, F32)
                w = spread(by)
                if left >= 64:
                    a = a + w * load_all(row, F32)
                    b = b + w * load_all(row + 16 * size, F32)
                    c = c + w * load_all(row + 32 * size, F32)
                    d = d + w * load_all(row + 48 * size, F32)
                elif left >= 16:
                    a = a + w * load_all(row, F32)
                else:
                    a = a + w * load(row, left, F32)
            store(out + at, left, a, F32)
            if left >= 64:
                store(out + at + 16 * size, left - 16, b, F32)
                store(out + at + 32 * size, left - 32, c, F32)
                store(out + at + 48 * size, left - 48, d, F32)
                column += 48
            column += 16
        first = stop
        out += dim * size


@cache
def _turns(step: Any) -> Any:
    """The kernel that sums and applies `step`, the one of the plain optimizer."""
    # Globals of its own, not a closure, as Numba keeps what it compiled of those alone.
    known = globals() | {"_step": step}
    made = FunctionType(_in_turns.__code__, known, step.py_func.__name__)
    made.__qualname__ = f"{step.py_func.__module__}.{step.py_func.__qualname__}"
    return kernel(made)


_step: Any = None  # of each copy that `_turns` makes its own


def _in_turns(
    begin, end, found, code, turn, grad, scale, starts, segments, weights, ahead,
    pointers, log2_rows, stride, rows, rate, dim, rest
):  # fmt: skip
    """Rows [begin, end), some at a time: sums by the code at `code`, then the step. Where a row is
    long it is left out, and `found` is told."""
    made = np.empty(turn * dim + 16, np.float32)
    place = (made.ctypes.data + 63) & -64
    first = begin
    while first < end:
        stop, most = first, min(first + turn, end)
        while stop < most and count_of(starts, stop) <= LONG:
            prefetch_row(pointers, log2_rows, stride, rows, stop)
            stop += 1
        if stop == first:
            found[0] = 1
            first += 1
            continue
        given = first, stop, end, grad, scale, starts, segments, weights, dim, ahead, place
        call_at(code, given)
        _step(
            first, stop, pointers, log2_rows, stride, rows, place - first * dim * 4, F32, rate, F32,
            1.0, dim, turn, *rest,
        )  # fmt: skip
        first = stop


def reduce(
    step: Any,
    blocks: Blocks,
    rows: Tensor,
    leaves: Leaves,
    rate: Tensor | None,
    slots: tuple[str, ...],
    *scalars: Any,
) -> None:
    """Run `step`, an optimizer's kernel, over the rows, each by the sum of its leaves' gradients.

    By two kernels where an index is int64: a batch of 2^31 values is none for a CPU.
    """
    n, dim = len(rows), leaves.grad.shape[1]
    if n == 0 or dim == 0:
        return
    leaves = widened(leaves)
    if leaves.starts.dtype != torch.int32 or leaves.segments.dtype != torch.int32:
        update(step, blocks, rows, summed(leaves), None, rate, slots, *scalars)
        return
    rate = None if rate is None else rate.float()
    found = np.zeros(1, np.int64)
    named, row_bytes = len(leaves.segments), dim * 4
    share(
        _turns(step),
        n,
        n * 2 * blocks.stride + named * (row_bytes + 8),
        found,
        address_of_code(sums, 11),
        max(4, TURN // (blocks.stride + row_bytes)),
        *map(address_of, leaves),
        max(4, AHEAD // row_bytes),
        blocks.pointers.numpy(),
        blocks.log2_rows,
        blocks.stride,
        rows.numpy(),
        address_of(rate),
        dim,
        (
            *(blocks.slots[slot].offset for slot in slots),
            *(form_of_slot(blocks, slot) for slot in slots),
            *scalars,
        ),
    )
    if found[0]:
        counts, there = np.diff(leaves.starts.numpy()), rows.numpy() >= 0
        long = np.flatnonzero((counts > LONG) & there).tolist()
        at = torch.tensor(long)
        own = None if rate is None else rate[at]
        update(step, blocks, rows[at], summed_in_pieces(leaves, long), None, own, slots, *scalars)


def widened(leaves: Leaves) -> Leaves:
    """The same with floats of 16 bits as float32."""
    scale, weights = (t if t is None else t.float() for t in (leaves.scale, leaves.weights))
    return leaves._replace(grad=leaves.grad.float(), scale=scale, weights=weights)


def summed(leaves: Leaves) -> Tensor:
    """The gradient [U, D] of each row."""
    grad, scale, starts, segments, weights = leaves
    out = torch.empty(len(starts) - 1, grad.shape[1])
    pool_rows(grad, segments, starts, weights, out, factors=scale)
    return out


def summed_in_pieces(leaves: Leaves, long: list[int]) -> Tensor:
    """The gradients of the rows `long`: sums of PIECE each, side by side, then sums of these."""
    parts, ends = [], [0]
    for row in long:
        first, stop = (int(leaves.starts[row + k]) for k in range(2))
        cuts = torch.tensor([*range(first, stop, PIECE), stop], dtype=torch.int32)
        parts.append(summed(leaves._replace(starts=cuts)))
        ends.append(ends[-1] + len(parts[-1]))
    order = torch.arange(ends[-1], dtype=torch.int32)
    made = torch.tensor(ends, dtype=torch.int32)
    return summed(Leaves(torch.cat(parts), None, made, order, None))
