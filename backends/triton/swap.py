"""Taking cells that are zero: compare and swap for some lanes of a tile.

`tl.atomic_cas` has no mask. What it does for every lane is done here in PTX for those that ask; the
interpreter has no PTX, and there a lane that does not ask swaps what a cell holds for the same.
"""

from __future__ import annotations

import triton
import triton.language as tl

from backends.triton.launch import INTERPRETED

EVERY_LANE = tl.constexpr(INTERPRETED)


@triton.jit
def take(cell, value, asked):
    """Where `asked`: value goes to a cell that is 0. What each cell held; of lanes that do not ask,
    which must have a cell all the same, nothing to rely on."""
    if EVERY_LANE:
        own = tl.load(cell)
        held = tl.atomic_cas(cell, tl.where(asked, 0, own), tl.where(asked, value, own))
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
