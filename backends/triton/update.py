"""What every row optimizer shares: the tile it works on, read at the start of a program."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.rows import (
    Grid,
    addresses_of,
    dtype_of,
    grid_of,
    slot_of,
    table_of,
    tile_of,
)
from backends.triton.segment_shapes import abreast, long_of, shape_of
from backends.triton.segments import pool_long, sums_of
from recis_core.blocks import Blocks

# Arguments of every optimizer's kernel that must not lead to a compilation of their own.
SIZES = ["shift", "stride", "weight", "state1", "state2", "long", "n"]


class Leaves(NamedTuple):
    """Transposed index by which the gradient of a row is summed from those of segments."""

    starts: Tensor
    segments: Tensor
    weights: Tensor | None


@triton.jit
def _summed(
    i, column, present, grad, scale, starts, segments, weights, spilled, long,
    DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """float32 gradients [ROWS, COLUMNS] of the rows i; those of long segments are in `spilled`."""
    begin = tl.load(starts + i, mask=present, other=0).to(tl.int64)
    length = tl.load(starts + i + 1, mask=present, other=0).to(tl.int64) - begin
    far = length > long
    g, _ = sums_of(
        begin, tl.where(far, 0, length), grad, None, 0, 0, 0, None, segments, weights, scale,
        tl.float32, DIM, COLUMNS, ROWS, Q,
    )  # fmt: skip
    if spilled is not None:
        at = spilled + i[:, None] * DIM + column[None, :]
        g += tl.load(at, mask=far[:, None] & (column < DIM)[None, :], other=0)
    return g


@triton.jit
def touched(
    pointers, shift, stride, weight, rows, grad, scale, rate,
    starts, segments, weights, spilled, long, n,
    WEIGHT: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
    Q: tl.constexpr,
):  # fmt: skip
    """Of this program: mask of the tile, address of each row's line, pointers to the weights; the
    weights and scaled gradients in float32, and each row's factor on the learning rate. With
    `starts` gradients are those of segments, each times its `scale`."""
    i, row, column = tile_of(rows, n, ROWS, COLUMNS)
    present = row >= 0
    mask = present[:, None] & (column < DIM)[None, :]
    address = addresses_of(pointers, shift, stride, row, present)
    at = slot_of(address, weight, WEIGHT)[:, None] + column[None, :]
    if starts is not None:
        g = _summed(
            i, column, present, grad, scale, starts, segments, weights, spilled, long,
            DIM, COLUMNS, ROWS, Q,
        )  # fmt: skip
    else:
        g = tl.load(grad + i[:, None] * DIM + column[None, :], mask=mask, other=0).to(tl.float32)
        if scale is not None:
            g = g * tl.load(scale).to(tl.float32)
    w = tl.load(at, mask=mask, other=0).to(tl.float32)
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
    leaves: Leaves | None,
    *scalars: float,
    **constants: Any,
) -> None:
    """Run an optimizer's kernel over the touched rows; `states` are its slots beside "weight".

    With `leaves` grad [S, D] and scale [S] are of segments, to be summed for each row. TypeError if
    a state is not float32.
    """
    for name in states:
        if dtype_of(blocks, name) != tl.float32:
            raise TypeError(f"slot {name!r} is {blocks.dtype(name)}, optimizer state is float32")
    offsets = [blocks.slots[name].offset for name in ("weight", *states)]
    n, dim = len(rows), blocks.dim("weight")
    if leaves is None:
        programs, shape = grid_of("update", n, dim, rows.device)
        source, long, shape = (None, None, None, None), 0, {**shape, "Q": 1}
    else:
        programs, shape = _fused_grid(n, len(leaves.segments), dim, rows.device)
        long = long_of(len(leaves.segments), n)
        source = (*leaves, _spilled(grad, scale, leaves, n, dim, long))
    launch(
        kernel, programs, *table_of(blocks), *offsets, rows, grad, scale, rate, *source, long, n,
        *scalars, WEIGHT=dtype_of(blocks, "weight"), **constants, **shape,
    )  # fmt: skip


def _fused_grid(n: int, values: int, dim: int, device: torch.device) -> Grid:
    shape, at_once, warps = shape_of("fused", device, dim, torch.float32)
    q = abreast(at_once, values, n, shape["COLUMNS"])
    rows = max(at_once * WIDEN // q, 1)
    constants = dict(DIM=dim, COLUMNS=shape["COLUMNS"], ROWS=rows, Q=q, warps=warps)
    return Grid(cover(n, rows) if dim else 0, constants)


def _spilled(
    grad: Tensor, scale: Tensor | None, leaves: Leaves, n: int, dim: int, long: int
) -> Tensor | None:
    """Gradients [n, dim] of which those of long segments are formed, None if there can be none."""
    starts, segments, weights = leaves
    if len(segments) <= long:
        return None
    spilled = torch.empty(n, dim, dtype=torch.float32, device=grad.device)
    pool_long(spilled, segments, starts, grad, weights, scale)
    return spilled
