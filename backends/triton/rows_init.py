"""rows_init: a tile of new rows a program draws the weights; other slots get their fill."""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import launch
from backends.triton.mixing import GOLDEN, mix64, pair_hash
from backends.triton.rows import addresses_of, dtype_of, grid_of, slot_of, table_of, tile_of
from recis_core import mixing
from recis_core.blocks import Blocks
from recis_core.ops.rows_init import KINDS
from recis_core.ops.rows_init import REDRAWS as DRAWS

REDRAWS = tl.constexpr(DRAWS)
UNIT = tl.constexpr(2.0**-24)
TURN = tl.constexpr(float(2 * np.pi))


@triton.jit
def _word(base, column, redraw):
    step = (1 + column + (redraw << 32)).to(tl.uint64) * GOLDEN
    return mix64(base[:, None] + step[None, :])


@triton.jit
def _uniform(word):
    return (word >> 40).to(tl.int64).to(tl.float64) * UNIT


@triton.jit
def _gaussian(word):
    v = ((word >> 16) & 0xFFFFFF).to(tl.int64).to(tl.float64) * UNIT
    return tl.sqrt(-2 * tl.log(_uniform(word) + UNIT)) * tl.cos(v * TURN)


@triton.jit
def _present(i, row, fresh, n):
    return (row >= 0) & (tl.load(fresh + i, mask=i < n, other=0) != 0)


@triton.jit(do_not_specialize=["shift", "stride", "offset", "n", "seed"])
def _draw(
    pointers, shift, stride, offset, rows, fresh, tables, ids, salts, n, seed, a, b,
    KIND: tl.constexpr,
    DTYPE: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """`a` and `b` are float32: place and width of the distribution. seed: mixed already."""
    i, row, column = tile_of(rows, n, ROWS, COLUMNS)
    present = _present(i, row, fresh, n)
    mask = present[:, None] & (column < DIM)[None, :]
    line = slot_of(addresses_of(pointers, shift, stride, row, present), offset, DTYPE)
    place = tl.zeros([ROWS, COLUMNS], tl.float64) + a
    if KIND != "constant":
        width = tl.zeros([ROWS, COLUMNS], tl.float64) + b
        salt = tl.load(salts + tl.load(tables + i, mask=present, other=0), mask=present, other=0)
        pair = tl.load(ids + i, mask=present, other=0)
        base = mix64(pair_hash(salt, pair) ^ seed.to(tl.uint64))
        column = column.to(tl.int64)
        if KIND == "uniform":
            place += width * _uniform(_word(base, column, 0))
        else:
            z = _gaussian(_word(base, column, 0))
            if KIND == "truncated_normal":
                for redraw in range(1, REDRAWS):
                    again = _gaussian(_word(base, column, tl.full([], 1, tl.int64) * redraw))
                    z = tl.where(tl.abs(z) <= 2, z, again)
                z = tl.where(tl.abs(z) <= 2, z, 0.0)
            place += width * z
    tl.store(line[:, None] + column[None, :], place.to(tl.float32).to(DTYPE), mask=mask)


@triton.jit(do_not_specialize=["shift", "stride", "offset", "n"])
def _fill(
    pointers, shift, stride, offset, rows, fresh, n, value,
    DTYPE: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    i, row, column = tile_of(rows, n, ROWS, COLUMNS)
    present = _present(i, row, fresh, n)
    mask = present[:, None] & (column < DIM)[None, :]
    line = slot_of(addresses_of(pointers, shift, stride, row, present), offset, DTYPE)
    filled = (tl.zeros([ROWS, COLUMNS], tl.float32) + value).to(DTYPE)
    tl.store(line[:, None] + column[None, :], filled, mask=mask)


def rows_init(
    blocks: Blocks,
    rows: Tensor,
    fresh: Tensor,
    tables: Tensor,
    ids: Tensor,
    salts: Tensor,
    seed: int,
    kind: str,
    a: float,
    b: float,
) -> None:
    assert kind in KINDS
    n, low, high = len(rows), np.float32(a), np.float32(b)
    # b - a is formed from the rounded ends in float64, then rounded, as declared.
    width = np.float32(float(high) - float(low)) if kind == "uniform" else high
    mixed = int(mixing.mix64(np.array([seed % (1 << 64)], np.uint64)).view(np.int64)[0])
    for name, slot in blocks.slots.items():
        programs, shape = grid_of("draw", n, slot.dim, rows.device)
        where = (*table_of(blocks), slot.offset, rows, fresh)
        shape["DTYPE"] = dtype_of(blocks, name)
        if name == "weight":
            launch(
                _draw, programs, *where, tables, ids, salts, n, mixed, float(low), float(width),
                KIND=kind, **shape,
            )  # fmt: skip
        else:
            launch(_fill, programs, *where, n, float(slot.fill), **shape)
