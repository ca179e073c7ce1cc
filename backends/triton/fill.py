"""Fill device memory with one value."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.tiles import store_tile

BLOCK = 4096 * WIDEN


@triton.jit(do_not_specialize=["n"])
def _fill(out, n, VALUE: tl.constexpr, BLOCK: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    store_tile(out, begin, n, tl.full([BLOCK], VALUE, out.dtype.element_ty), BLOCK)


def fill(out: Tensor, value: Any) -> None:
    """Every element of a contiguous tensor becomes `value`."""
    launch(_fill, cover(out.numel(), BLOCK), out, out.numel(), VALUE=value, BLOCK=BLOCK)
