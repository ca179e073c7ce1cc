"""rows_init: hashed words for all new rows at once, `index_copy_` into each block."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from backends.torch.parts import parts, pick
from backends.torch.words import GOLDEN, mix64_, pair_hash, signed
from recis_core.blocks import Blocks
from recis_core.ops.rows_init import REDRAWS

UNIT = 2.0**-24


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
    chosen = fresh.logical_and(rows >= 0).nonzero().flatten()
    rows = rows.index_select(0, chosen)
    dim, width = blocks.dim("weight"), torch.tensor([a, b, b - a]).tolist()
    if kind == "constant":
        value = torch.full((len(rows), dim), width[0], device=rows.device)
    else:
        salt = salts.index_select(0, tables.index_select(0, chosen))
        base = pair_hash(salt, ids.index_select(0, chosen))
        base.bitwise_xor_(mix64_(torch.full_like(base[:1], signed(seed))))
        mix64_(base)
        value = drawn(base, dim, kind, *width)
    views = {slot: blocks.views(slot) for slot in blocks.slots}
    for block, lines, own in parts(blocks, rows):
        for name, slot in blocks.slots.items():
            view = views[name][block]
            if name == "weight":
                view.index_copy_(0, lines, pick(value, own).to(view.dtype))
            else:
                view.index_fill_(0, lines, slot.fill)


def drawn(base: Tensor, dim: int, kind: str, a: float, b: float, span: float) -> Tensor:
    """float32 [n, dim] weights from each pair's word; sums in float64, as declared."""
    if kind == "uniform":
        word = words(base, dim, 0)
        return (word >> 40).bitwise_and_(0xFFFFFF).double().mul_(span * UNIT).add_(a).float()
    z = gaussian(words(base, dim, 0))
    if kind == "truncated_normal":
        flat = z.view(-1)
        for redraw in range(1, REDRAWS):
            outside = (flat.abs() > 2).nonzero().flatten()
            column = outside % dim
            again = base.index_select(0, outside // dim)
            again += (1 + column + (redraw << 32)).mul_(GOLDEN)
            flat.index_copy_(0, outside, gaussian(mix64_(again)))
        flat.masked_fill_(flat.abs() > 2, 0)
    return z.mul_(b).add_(a).float()


def words(base: Tensor, dim: int, redraw: int) -> Tensor:
    """int64 [n, dim]: the random bits of every element."""
    step = (torch.arange(dim, device=base.device) + (1 + (redraw << 32))).mul_(GOLDEN)
    return mix64_(base[:, None] + step)


def gaussian(word: Tensor) -> Tensor:
    """float64: Box-Muller of the top 24 bits and the next 24."""
    u = ((word >> 40) & 0xFFFFFF).double().add_(1).mul_(UNIT)
    v = ((word >> 16) & 0xFFFFFF).double().mul_(2 * pi * UNIT)
    return u.log_().mul_(-2).sqrt_().mul_(v.cos_())
