"""What every row optimizer shares: the tile it works on, read at the start of a program."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import launch
from backends.triton.rows import addresses_of, dtype_of, grid_of, slot_of, table_of, tile_of
from recis_core.blocks import Blocks

# Arguments of every optimizer's kernel that must not lead to a compilation of their own.
SIZES = ["shift", "stride", "weight", "state1", "state2", "n"]


@triton.jit
def touched(
    pointers, shift, stride, weight, rows, grad, scale, rate, n,
    WEIGHT: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Of this program: mask of the tile, address of each row's line, pointers to the weights; the
    weights and scaled gradients in float32, and each row's factor on the learning rate."""
    i, row, column = tile_of(rows, n, ROWS, COLUMNS)
    present = row >= 0
    mask = present[:, None] & (column < DIM)[None, :]
    address = addresses_of(pointers, shift, stride, row, present)
    at = slot_of(address, weight, WEIGHT)[:, None] + column[None, :]
    g = tl.load(grad + i[:, None] * DIM + column[None, :], mask=mask, other=0).to(tl.float32)
    w = tl.load(at, mask=mask, other=0).to(tl.float32)
    if scale is not None:
        g = g * tl.load(scale).to(tl.float32)
    if rate is None:
        rated = tl.full([ROWS, 1], 1.0, tl.float32)
    else:
        rated = tl.load(rate + i, mask=present, other=0).to(tl.float32)[:, None]
    return mask, address, at, w, g, rated


@triton.jit
def state_of(address, offset, COLUMNS: tl.constexpr):
    """Pointers to a float32 slot of each row of the tile."""
    return slot_of(address, offset, tl.float32)[:, None] + tl.arange(0, COLUMNS)[None, :]


def update(
    kernel: Any,
    blocks: Blocks,
    states: tuple[str, ...],
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    *scalars: float,
    **constants: Any,
) -> None:
    """Run an optimizer's kernel over the touched rows; `states` are its slots beside "weight".

    TypeError if one of them is not float32.
    """
    for name in states:
        if dtype_of(blocks, name) != tl.float32:
            raise TypeError(f"slot {name!r} is {blocks.dtype(name)}, optimizer state is float32")
    offsets = [blocks.slots[name].offset for name in ("weight", *states)]
    programs, shape = grid_of("update", len(rows), blocks.dim("weight"), rows.device)
    launch(
        kernel, programs, *table_of(blocks), *offsets, rows, grad, scale, rate, len(rows), *scalars,
        WEIGHT=dtype_of(blocks, "weight"), **constants, **shape,
    )  # fmt: skip
