"""values_bucketize: upper bound among the boundaries of each element's column."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.search import columns_of, last_at_most

BLOCK = 1024 * WIDEN


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
        # NaN is below no boundary, so it ends past the last one.
        passed += tl.where(inside & ((x < boundary.to(tl.float32)) == 0), step, 0)
        step //= 2
    return passed


@triton.jit(do_not_specialize=["columns", "n"])
def _bucketize(values, splits, columns, boundaries, bounds, out, n, BLOCK: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    end = tl.minimum(begin + BLOCK, n)
    i = begin + tl.arange(0, BLOCK)
    x = tl.load(values + i, mask=i < n, other=0).to(tl.float32)
    first = last_at_most(splits, columns, begin)
    if tl.load(splits + first + 1) >= end:
        start = tl.load(bounds + first).to(tl.int64)
        count = tl.load(bounds + first + 1).to(tl.int64) - start
        passed = _passed(x, boundaries, start, count, count)
    else:
        column = columns_of(splits, columns, begin, end, i)
        starts = tl.load(bounds + column).to(tl.int64)
        counts = tl.load(bounds + column + 1).to(tl.int64) - starts
        passed = _passed(x, boundaries, starts, counts, tl.max(counts))
    tl.store(out + i, passed, mask=i < n)


def values_bucketize(
    values: Tensor, splits: Tensor, boundaries: Tensor, boundary_splits: Tensor, out: Tensor
) -> None:
    n, columns = len(values), len(splits) - 1
    launch(
        _bucketize, cover(n, BLOCK), values, splits, columns, boundaries, boundary_splits, out, n,
        BLOCK=BLOCK,
    )  # fmt: skip
