"""Taking cells that are zero: compare and swap for some lanes of a tile.

`tl.atomic_cas` has no mask. What it does for every lane is this for the lanes that ask, in PTX; the
interpreter has no PTX, and there a lane that does not ask compares with a value no cell has.
"""

from __future__ import annotations

import triton
import triton.language as tl

from backends.triton.launch import INTERPRETED

EVERY_LANE = tl.constexpr(INTERPRETED)
# What a lane gets that does not ask; no cell may hold it.
NONE = tl.constexpr(-1)


@triton.jit
def take(cell, value, asked):
    """Where `asked`: value goes to a cell that is 0; returns what each cell held."""
    if EVERY_LANE:
        free = tl.where(asked, 0, NONE).to(value.dtype)
        held = tl.atomic_cas(cell, free, value, sem="relaxed")
    elif value.dtype.primitive_bitwidth == 32:
        held = tl.inline_asm_elementwise(
            "{ .reg .pred p; setp.ne.s32 p, $2, 0; mov.b32 $0, -1;"
            "  @p atom.global.relaxed.gpu.cas.b32 $0, [$1], 0, $3; }",
            "=&r,l,r,r",
            [cell.to(tl.int64), asked.to(tl.int32), value],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
    else:
        held = tl.inline_asm_elementwise(
            "{ .reg .pred p; setp.ne.s32 p, $2, 0; mov.b64 $0, -1;"
            "  @p atom.global.relaxed.gpu.cas.b64 $0, [$1], 0, $3; }",
            "=&l,l,r,l",
            [cell.to(tl.int64), asked.to(tl.int32), value],
            dtype=tl.int64,
            is_pure=False,
            pack=1,
        )
    return held
