"""values_bucketize: upper bound among the boundaries of each element's column."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.search import columns_of

BLOCK = 1024 * WIDEN


@triton.jit(do_not_specialize=["columns", "n"])
def _bucketize(values, splits, columns, boundaries, bounds, out, n, BLOCK: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    i = begin + tl.arange(0, BLOCK)
    column = columns_of(splits, columns, begin, tl.minimum(begin + BLOCK, n), i)
    x = tl.load(values + i, mask=i < n, other=0).to(tl.float32)
    start = tl.load(bounds + column).to(tl.int64)
    low, high = start, tl.load(bounds + column + 1).to(tl.int64)
    width = tl.max(high - low)
    while width > 0:
        open_ = low < high
        middle = (low + high) // 2
        # NaN compares false with everything, so it ends past the last boundary.
        left = open_ & (x < tl.load(boundaries + middle, mask=open_, other=0).to(tl.float32))
        high = tl.where(left, middle, high)
        low = tl.where(open_ & (left == 0), middle + 1, low)
        width = width // 2
    tl.store(out + i, low - start, mask=i < n)


def values_bucketize(
    values: Tensor, splits: Tensor, boundaries: Tensor, boundary_splits: Tensor, out: Tensor
) -> None:
    n, columns = len(values), len(splits) - 1
    launch(
        _bucketize, cover(n, BLOCK), values, splits, columns, boundaries, boundary_splits, out, n,
        BLOCK=BLOCK,
    )  # fmt: skip
