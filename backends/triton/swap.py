"""Taking cells of 4, 8 or 16 bytes that are zero: compare and swap for some lanes of a tile.

`tl.atomic_cas` has no mask. What it does for every lane is done here in PTX for those that ask; the
interpreter has no PTX, and there a lane that does not ask swaps what a cell holds for the same.
"""

from __future__ import annotations

import torch
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


@triton.jit
def read_cell(cell, asked):
    """Both words, int64, of cells of 16 bytes, each as it is at one moment; 0 where not asked."""
    if EVERY_LANE:
        first = tl.load(cell, mask=asked, other=0)
        second = tl.load(cell + 1, mask=asked, other=0)
    else:
        first, second = tl.inline_asm_elementwise(
            "{ .reg .pred p; .reg .b128 held; setp.ne.s32 p, $3, 0; mov.b64 $0, 0; mov.b64 $1, 0;"
            "  @p ld.relaxed.gpu.global.b128 held, [$2]; @p mov.b128 {$0, $1}, held; }",
            "=&l,=&l,l,r",
            [cell.to(tl.int64), asked.to(tl.int32)],
            dtype=(tl.int64, tl.int64),
            is_pure=False,
            pack=1,
        )
    return first, second


@triton.jit
def take_cell(cell, first, second, asked):
    """Where `asked`: two words go at once to a cell of 16 bytes that is 0. The second word each
    cell held; as with `take`, of lanes that do not ask nothing to rely on. Needs `takes_cells`."""
    if EVERY_LANE:
        own = tl.load(cell + 1)
        held = tl.atomic_cas(cell + 1, tl.where(asked, 0, own), tl.where(asked, second, own))
        tl.store(cell, first, mask=asked & (held == 0))
    else:
        held = tl.inline_asm_elementwise(
            "{ .reg .pred p; .reg .b64 zero; .reg .b128 empty, pair, held; setp.ne.s32 p, $4, 0;"
            "  mov.b64 $0, -1; mov.b64 zero, 0; mov.b128 empty, {zero, zero};"
            "  mov.b128 pair, {$2, $3};"
            "  @p atom.relaxed.gpu.global.cas.b128 held, [$1], empty, pair;"
            "  @p mov.b128 {zero, $0}, held; }",
            "=&l,l,l,l,r",
            [cell.to(tl.int64), first, second, asked.to(tl.int32)],
            dtype=tl.int64,
            is_pure=False,
            pack=1,
        )
    return held


def takes_cells(device: torch.device) -> bool:
    """Whether a device swaps 16 bytes at once; code compiled without one is for one that can."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (9, 0)
