"""rows_scatter: a tile of rows a program, stored where the pointer table says."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import launch
from backends.triton.rows import addresses_of, dtype_of, grid_of, slot_of, table_of, tile_of
from recis_core.blocks import Blocks


@triton.jit(do_not_specialize=["shift", "stride", "offset", "n"])
def _scatter(
    pointers, shift, stride, offset, rows, values, n,
    DTYPE: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    i, row, column = tile_of(rows, n, ROWS, COLUMNS)
    present = row >= 0
    mask = present[:, None] & (column < DIM)[None, :]
    value = tl.load(values + i[:, None] * DIM + column[None, :], mask=mask)
    line = slot_of(addresses_of(pointers, shift, stride, row, present), offset, DTYPE)
    tl.store(line[:, None] + column[None, :], value.to(tl.float32).to(DTYPE), mask=mask)


def rows_scatter(blocks: Blocks, slot: str, rows: Tensor, values: Tensor) -> None:
    programs, shape = grid_of("copy", len(rows), blocks.dim(slot), rows.device)
    offset = blocks.slots[slot].offset
    launch(
        _scatter, programs, *table_of(blocks), offset, rows, values, len(rows),
        DTYPE=dtype_of(blocks, slot), **shape,
    )  # fmt: skip
