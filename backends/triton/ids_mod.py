"""ids_mod: unsigned remainder by the modulus of each element's column."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.search import columns_of

BLOCK = 1024 * WIDEN


@triton.jit(do_not_specialize=["columns", "n"])
def _mod(ids, splits, columns, moduli, out, n, BLOCK: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    i = begin + tl.arange(0, BLOCK)
    column = columns_of(splits, columns, begin, tl.minimum(begin + BLOCK, n), i)
    modulus = tl.load(moduli + column).to(tl.uint64)
    x = tl.load(ids + i, mask=i < n, other=0).to(tl.uint64)
    tl.store(out + i, (x % modulus).to(tl.int64), mask=i < n)


def ids_mod(ids: Tensor, splits: Tensor, moduli: Tensor, out: Tensor) -> None:
    launch(
        _mod, cover(len(ids), BLOCK), ids, splits, len(moduli), moduli, out, len(ids), BLOCK=BLOCK
    )
