"""Running sums over an array, by one program: for the few thousand counts between two kernels."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import launch

BLOCK = 8192


@triton.jit(do_not_specialize=["n", "scale", "step"])
def _scan(counts, out, n, scale, step, BLOCK: tl.constexpr):
    total = tl.full([], 0, tl.int64)
    for at in range(0, n, BLOCK):
        i = at + tl.arange(0, BLOCK)
        own = tl.load(counts + i, mask=i < n, other=0).to(tl.int64)
        before = total + tl.cumsum(own) - own
        tl.store(out + i, before * scale + i * step, mask=i < n)
        total += tl.sum(own)
    tl.store(out + n, total * scale + n * step)


def exclusive_sums(counts: Tensor, out: Tensor, scale: int = 1, step: int = 0) -> None:
    """out[k] = scale · (sum of counts below k) + step · k, for k up to and including len(counts).

    out is int64 [len(counts) + 1].
    """
    launch(_scan, 1, counts, out, len(counts), scale, step, warps=16, BLOCK=BLOCK)
