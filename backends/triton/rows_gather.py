"""rows_gather: a tile of rows a program, rows found through the pointer table."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import launch
from backends.triton.rows import addresses_of, dtype_of, grid_of, slot_of, table_of, tile_of
from recis_core.blocks import Blocks


@triton.jit(do_not_specialize=["shift", "stride", "offset", "n"])
def _gather(
    pointers, shift, stride, offset, rows, out, n,
    DTYPE: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    i, row, column = tile_of(rows, n, ROWS, COLUMNS)
    present = row >= 0
    line = slot_of(addresses_of(pointers, shift, stride, row, present), offset, DTYPE)
    inside = (column < DIM)[None, :]
    values = tl.load(line[:, None] + column[None, :], mask=present[:, None] & inside, other=0)
    target = out + i[:, None] * DIM + column[None, :]
    tl.store(target, values, mask=(i < n)[:, None] & inside)


def rows_gather(blocks: Blocks, slot: str, rows: Tensor, out: Tensor) -> None:
    programs, shape = grid_of("copy", len(rows), blocks.dim(slot), rows.device)
    offset = blocks.slots[slot].offset
    launch(
        _gather, programs, *table_of(blocks), offset, rows, out, len(rows),
        DTYPE=dtype_of(blocks, slot), **shape,
    )  # fmt: skip
