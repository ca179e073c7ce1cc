"""The segment of every value, where values lie in segments one after another."""

from __future__ import annotations

import triton
import triton.language as tl

from backends.triton.launch import INTERPRETED
from backends.triton.search import last_at_most

STEPWISE = tl.constexpr(INTERPRETED)


@triton.jit
def _later(a, b):
    return tl.maximum(a, b)


@triton.jit
def _so_far(x, BLOCK: tl.constexpr):
    # The interpreter scans element by element.
    if STEPWISE:
        k = tl.arange(0, BLOCK)
        largest = tl.max(tl.where(k[None, :] <= k[:, None], x[None, :], 0), 1)
    else:
        largest = tl.associative_scan(x, 0, _later)
    return largest


@triton.jit
def running_maximum(cells, size, before, BLOCK: tl.constexpr):
    """In place: each of int32 cells [size] becomes the largest so far, `before` (a tensor) among
    them."""
    for at in range(0, size, BLOCK):
        i = at + tl.arange(0, BLOCK)
        own = tl.load(cells + i, mask=i < size, other=0)
        own = tl.maximum(_so_far(own, BLOCK), before)
        tl.store(cells + i, own, mask=i < size)
        before = tl.max(own)


@triton.jit
def clear(cells, size, BLOCK: tl.constexpr):
    for at in range(0, size, BLOCK):
        i = at + tl.arange(0, BLOCK)
        tl.store(cells + i, tl.zeros([BLOCK], tl.int32), mask=i < size)


@triton.jit
def mark_owners(offsets, count, begin, end, owner, BLOCK: tl.constexpr):
    """owner[i - begin] = s where segment s begins at i in [begin, end) and is not empty; returns
    the segment of `begin`. Cells are 0 before; positions and segments fit int32."""
    first = last_at_most(offsets, count, begin).to(tl.int32)
    s = first
    opens = begin
    while (s < count) & (opens < end):
        k = s + tl.arange(0, BLOCK)
        at = tl.load(offsets + k, mask=k < count, other=0).to(tl.int32)
        after = tl.load(offsets + k + 1, mask=k < count, other=0).to(tl.int32)
        inside = (k < count) & (at < end) & (at >= begin) & (after > at)
        tl.store(owner + (at - begin), k, mask=inside)
        s += BLOCK
        opens = tl.max(at)
    return first
