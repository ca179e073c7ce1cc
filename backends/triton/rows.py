"""Rows of the blocks as tiles [rows, columns]: where they lie, and the shape of a program."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, power_of_two
from backends.triton.tuning import chosen
from recis_core.blocks import Blocks

DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


@triton.jit
def addresses_of(pointers, shift, stride, rows, present):
    """int64 address of each row's line: block rows >> shift, line rows & (2^shift - 1)."""
    block = tl.load(pointers + (rows >> shift), mask=present, other=0)
    return block + (rows & ((1 << shift) - 1)) * stride


@triton.jit
def slot_of(address, offset, DTYPE: tl.constexpr):
    """Pointers to the first element of a slot in each line; slots are aligned to 16 bytes."""
    first = (address + offset).to(tl.pointer_type(DTYPE))
    if len(address.shape) == 2:
        first = tl.multiple_of(first, (16, 16))
    else:
        first = tl.multiple_of(first, 16)
    return first


@triton.jit
def tile_of(rows, n, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Of this program: positions i, row numbers (-1 past n), column numbers."""
    i = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row = tl.load(rows + i, mask=i < n, other=-1).to(tl.int64)
    return i, row, tl.arange(0, COLUMNS)


class Table(NamedTuple):
    """What a kernel needs to find rows: pointer table, log2 of a block's rows, bytes of a line."""

    pointers: Tensor
    shift: int
    stride: int


def table_of(blocks: Blocks) -> Table:
    return Table(blocks.pointers, blocks.log2_rows, blocks.stride)


def dtype_of(blocks: Blocks, slot: str) -> Any:
    return DTYPES[blocks.dtype(slot)]


class Grid(NamedTuple):
    """Programs, and the constants and warps of each."""

    programs: int
    constants: dict[str, int]


def grid_of(kind: str, n: int, dim: int, device: torch.device) -> Grid:
    """Tiles of `kind` (see `tuning`) that cover n rows of `dim` columns."""
    columns = power_of_two(dim)
    choice = chosen(kind, columns, device)
    rows = max(1, choice.tile * WIDEN // columns)
    shape = dict(DIM=dim, COLUMNS=columns, ROWS=rows)
    return Grid(cover(n, rows) if dim else 0, {**shape, "warps": choice.warps})
