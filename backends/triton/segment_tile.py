"""segment_tile: a tile of output positions a program."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import launch
from backends.triton.rows import grid_of


@triton.jit(do_not_specialize=["length", "n"])
def _tile(
    values, index, offsets, weights, length, out, n,
    DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    segment = cell // length
    k = tl.load(offsets + segment, mask=cell < n, other=0).to(tl.int64) + cell - segment * length
    live = k < tl.load(offsets + segment + 1, mask=cell < n, other=0)
    column = tl.arange(0, COLUMNS)
    inside = (column < DIM)[None, :]
    row = tl.load(index + k, mask=live, other=0).to(tl.int64)
    at = values + row[:, None] * DIM + column[None, :]
    value = tl.load(at, mask=live[:, None] & inside, other=0).to(tl.float32)
    if weights is not None:
        value *= tl.load(weights + k, mask=live, other=0).to(tl.float32)[:, None]
    target = out + cell[:, None] * DIM + column[None, :]
    tl.store(target, value.to(out.dtype.element_ty), mask=(cell < n)[:, None] & inside)


def segment_tile(
    values: Tensor, index: Tensor, offsets: Tensor, weights: Tensor | None, length: int, out: Tensor
) -> None:
    cells = (len(offsets) - 1) * length
    programs, shape = grid_of("copy", cells, values.shape[1], values.device)
    launch(_tile, programs, values, index, offsets, weights, length, out, cells, **shape)
