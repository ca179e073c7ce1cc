"""ids_mod: unsigned remainder by the modulus of each element's column."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.search import columns_of, last_at_most
from backends.triton.tiles import load_tile, store_tile

# A warp a program: the search for its column needs no barrier.
BLOCK, WARPS = 256 * WIDEN, 1


@triton.jit(do_not_specialize=["columns", "n"])
def _mod(ids, splits, columns, moduli, out, n, BLOCK: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    end = tl.minimum(begin + BLOCK, n)
    i = begin + tl.arange(0, BLOCK)
    x = load_tile(ids, begin, n, BLOCK).to(tl.uint64)
    first = last_at_most(splits, columns, begin)
    if tl.load(splits + first + 1) >= end:
        # One modulus: the high word of x times its reciprocal is the quotient or one less.
        modulus = tl.load(moduli + first).to(tl.uint64)
        reciprocal = (modulus * 0 - 1) // modulus
        rest = x - tl.umulhi(x, x * 0 + reciprocal) * modulus
        rest = tl.where(rest >= modulus, rest - modulus, rest)
    else:
        rest = x % tl.load(moduli + columns_of(splits, columns, begin, end, i)).to(tl.uint64)
    store_tile(out, begin, n, rest.to(tl.int64), BLOCK)


def ids_mod(ids: Tensor, splits: Tensor, moduli: Tensor, out: Tensor) -> None:
    launch(
        _mod, cover(len(ids), BLOCK), ids, splits, len(moduli), moduli, out, len(ids),
        warps=WARPS, BLOCK=BLOCK,
    )  # fmt: skip
