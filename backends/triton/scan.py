"""Running sums over an array, by one program: for the few thousand counts between two kernels."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import launch

BLOCK = 8192


@triton.jit(do_not_specialize=["n"])
def _scan(counts, out, n, BLOCK: tl.constexpr):
    total = tl.full([], 0, tl.int64)
    for at in range(0, n, BLOCK):
        i = at + tl.arange(0, BLOCK)
        own = tl.load(counts + i, mask=i < n, other=0).to(tl.int64)
        tl.store(out + i, total + tl.cumsum(own) - own, mask=i < n)
        total += tl.sum(own)
    tl.store(out + n, total)


def exclusive_sums(counts: Tensor, out: Tensor) -> None:
    """out[k] = sum of counts below k, int64, for k up to and including len(counts)."""
    launch(_scan, 1, counts, out, len(counts), warps=16, BLOCK=BLOCK)
