"""rows_norm: a fixed number of programs sum squares in float64; one more adds their sums."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import INTERPRETED, cover, launch

BLOCK, MOST = (1 << 16, 4) if INTERPRETED else (2048, 1024)


@triton.jit(do_not_specialize=["n", "step"])
def _squares(values, partial, n, step, BLOCK: tl.constexpr):
    total = tl.zeros([BLOCK], tl.float64)
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    for at in range(begin, n, step):
        i = at + tl.arange(0, BLOCK)
        v = tl.load(values + i, mask=i < n, other=0).to(tl.float32).to(tl.float64)
        total += v * v
    tl.store(partial + tl.program_id(0), tl.sum(total))


@triton.jit(do_not_specialize=["n"])
def _root(partial, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    total = tl.sum(tl.load(partial + i, mask=i < n, other=0))
    tl.store(out, tl.sqrt(total))


def rows_norm(values: Tensor, norm: Tensor) -> None:
    programs = min(cover(values.numel(), BLOCK), MOST)
    partial = torch.empty(programs, dtype=torch.float64, device=values.device)
    launch(_squares, programs, values, partial, values.numel(), programs * BLOCK, BLOCK=BLOCK)
    launch(_root, 1, partial, norm, programs, BLOCK=MOST)
