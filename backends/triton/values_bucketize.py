"""values_bucketize: upper bound among the boundaries of each element's column."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.search import columns_of, last_at_most
from backends.triton.tiles import load_tile, store_tile

# A warp a program: the search for its column needs no barrier.
BLOCK, WARPS = 512 * WIDEN, 1
# Boundaries of a column that are searched by comparing, at least and at most.
FEW, MANY = tl.constexpr(3), tl.constexpr(32)


@triton.jit
def _passes(x, boundary):
    """NaN is below no boundary, so it ends past the last one."""
    return (x < boundary) == 0


@triton.jit
def _at(boundaries, k, last):
    return tl.load(boundaries + tl.minimum(k, last)).to(tl.float32)


@triton.jit
def _compared(x, boundaries, count):
    """int32: how many of FEW to MANY boundaries each x passes.

    Every fourth is held by all lanes and chosen among by select; the three up to the next one are
    loaded at once. Behind the last boundary it is itself again, and the count is cut.
    """
    last = count - 1
    upper = _passes(x, _at(boundaries, 15, last))
    second = tl.where(upper, _at(boundaries, 23, last), _at(boundaries, 7, last))
    upper_half = _passes(x, second)
    low = tl.where(upper_half, _at(boundaries, 11, last), _at(boundaries, 3, last))
    high = tl.where(upper_half, _at(boundaries, 27, last), _at(boundaries, 19, last))
    fourth = _passes(x, tl.where(upper, high, low))
    p = tl.where(upper, 16, 0) + tl.where(upper_half, 8, 0) + tl.where(fourth, 4, 0)
    p = tl.minimum(p, last - 2)
    own = boundaries + p
    for k in tl.static_range(3):
        p += _passes(x, tl.load(own + k).to(tl.float32)).to(tl.int32)
    p += _passes(x, _at(boundaries, 31, last)).to(tl.int32)
    return tl.minimum(p, count)


@triton.jit
def _passed(x, boundaries, start, count, widest):
    """How many of the `count` boundaries from `start` on, at most `widest`, each x passes."""
    passed = tl.zeros_like(start + tl.zeros(x.shape, tl.int64))
    step = tl.full([], 1, tl.int64)
    while step * 2 <= widest:
        step *= 2
    while step > 0:
        inside = passed + step <= count
        boundary = tl.load(boundaries + start + passed + step - 1, mask=inside, other=0)
        passed += tl.where(inside & _passes(x, boundary.to(tl.float32)), step, 0)
        step //= 2
    return passed


@triton.jit(do_not_specialize=["columns", "n"])
def _bucketize(values, splits, columns, boundaries, bounds, out, n, BLOCK: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    end = tl.minimum(begin + BLOCK, n)
    i = begin + tl.arange(0, BLOCK)
    x = load_tile(values, begin, n, BLOCK).to(tl.float32)
    first = last_at_most(splits, columns, begin)
    if tl.load(splits + first + 1) >= end:
        start = tl.load(bounds + first).to(tl.int64)
        count = tl.load(bounds + first + 1).to(tl.int64) - start
        if (count >= FEW) & (count <= MANY):
            passed = _compared(x, boundaries + start, count.to(tl.int32)).to(tl.int64)
        else:
            passed = _passed(x, boundaries, start, count, count)
    else:
        column = columns_of(splits, columns, begin, end, i)
        starts = tl.load(bounds + column).to(tl.int64)
        counts = tl.load(bounds + column + 1).to(tl.int64) - starts
        passed = _passed(x, boundaries, starts, counts, tl.max(counts))
    store_tile(out, begin, n, passed, BLOCK)


def values_bucketize(
    values: Tensor, splits: Tensor, boundaries: Tensor, boundary_splits: Tensor, out: Tensor
) -> None:
    n, columns = len(values), len(splits) - 1
    launch(
        _bucketize, cover(n, BLOCK), values, splits, columns, boundaries, boundary_splits, out, n,
        warps=WARPS, BLOCK=BLOCK,
    )  # fmt: skip
