"""Binary search in ascending arrays, lane by lane: columns and segments are found by it."""

from __future__ import annotations

import triton
import triton.language as tl

# Places a program looks at in one step of a search.
FAN = tl.constexpr(128)


@triton.jit
def last_at_most(ascending, count, x):
    """int64 scalar: the largest k below `count` with ascending[k] <= x, 0 if there is none."""
    low = tl.full([], 0, tl.int64)
    high = low + count
    # Many places at once: what a step takes is the way to memory and back.
    while high - low > 1:
        stride = (high - low + (FAN - 1)) // FAN
        at = low + tl.arange(0, FAN) * stride
        inside = at < high
        below = inside & (tl.load(ascending + at, mask=inside, other=0) <= x)
        low += tl.maximum(tl.sum(below.to(tl.int32)) - 1, 0) * stride
        high = tl.minimum(low + stride, high)
    return low


@triton.jit
def columns_of(splits, columns, begin, end, i):
    """int64: for each i the column f with splits[f] <= i < splits[f + 1].

    All i lie in [begin, end) of a tile, so the tile's first and last column bound the search.
    """
    first = last_at_most(splits, columns, begin)
    last = last_at_most(splits, columns, end - 1)
    low = first + tl.zeros_like(i)
    high = last + 1 + tl.zeros_like(i)
    width = last + 1 - first
    while width > 1:
        middle = (low + high) // 2
        below = tl.load(splits + middle) <= i
        low = tl.where(below, middle, low)
        high = tl.where(below, high, middle)
        width = (width + 1) // 2
    return low


@triton.jit
def column_of(splits, columns, i, active, steps):
    """int64: for each active i, anywhere, the column f with splits[f] <= i < splits[f + 1]."""
    low = tl.zeros_like(i)
    high = low + columns
    for _ in range(steps):
        middle = (low + high) // 2
        below = tl.load(splits + middle, mask=active, other=0) <= i
        low = tl.where(below, middle, low)
        high = tl.where(below, high, middle)
    return low


@triton.jit
def lower_bound(ascending, low, high, x, active, steps):
    """First position in [low, high) with ascending[position] >= x, else high; lane by lane."""
    for _ in range(steps):
        open_ = active & (low < high)
        middle = (low + high) // 2
        less = open_ & (tl.load(ascending + middle, mask=open_, other=0) < x)
        low = tl.where(less, middle + 1, low)
        high = tl.where(open_ & (less == 0), middle, high)
    return low


def steps_for(n: int) -> int:
    """Halvings that shrink a range of `n` to nothing."""
    return n.bit_length() + 1
