"""What the row optimizers share: slots of the touched rows out of the blocks and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from backends.torch.parts import parts, pick
from recis_core.blocks import Blocks


@dataclass(frozen=True)
class Place:
    """Where some touched rows lie: a block, lines in it, which of the touched rows (None: all)."""

    block: int
    lines: Tensor
    chosen: Tensor | None


@dataclass(frozen=True)
class Touched:
    """The touched rows in the order the caller named them: `slots` copied out in float32, the
    scaled gradient (possibly the caller's own: not to be written), `rate` [n, 1] or None.

    One array for all blocks: eager kernels round the tail of an array otherwise than its body, so
    an array a block would make results depend on which row an id was given.
    """

    views: tuple[list[Tensor], ...]
    places: tuple[Place, ...]
    slots: tuple[Tensor, ...]
    grad: Tensor
    rate: Tensor | None

    def store(self) -> None:
        """Write `slots`, changed in place, back to the blocks."""
        for views, slot in zip(self.views, self.slots, strict=True):
            for at in self.places:
                view = views[at.block]
                view.index_copy_(0, at.lines, pick(slot, at.chosen).to(view.dtype))


def touched(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    *slots: str,
) -> Touched:
    """Copy the slots of rows that are not -1 out of the blocks."""
    if len(rows) and bool((rows < 0).any()):
        present = (rows >= 0).nonzero().flatten()
        rows, grad = rows.index_select(0, present), grad.index_select(0, present)
        rate = None if rate is None else rate.index_select(0, present)
    views = tuple(blocks.views(slot) for slot in slots)
    places = tuple(Place(*part) for part in parts(blocks, rows))
    g = grad.float()
    if scale is not None:
        g = g * scale.float()
    return Touched(
        views,
        places,
        tuple(_copy(own, places, rows, blocks.dim(s)) for own, s in zip(views, slots, strict=True)),
        g,
        None if rate is None else rate.float()[:, None],
    )


def _copy(views: list[Tensor], places: tuple[Place, ...], rows: Tensor, dim: int) -> Tensor:
    if len(places) == 1 and places[0].chosen is None:
        return views[places[0].block].index_select(0, places[0].lines).float()
    out = torch.empty(len(rows), dim, device=rows.device)
    for at in places:
        found = views[at.block].index_select(0, at.lines).float()
        out = found if at.chosen is None else out.index_copy_(0, at.chosen, found)
    return out
