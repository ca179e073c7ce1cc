"""What the row optimizers share: slots of the touched rows out of the blocks and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from backends.torch.parts import parts, pick
from recis_core.blocks import Blocks


@dataclass(frozen=True)
class Touched:
    """The touched rows of one block: `slots` copied out in float32, the scaled gradient (possibly
    the caller's own: not to be written), and `rate` [n, 1] where rows have rates of their own."""

    views: tuple[Tensor, ...]
    lines: Tensor
    slots: tuple[Tensor, ...]
    grad: Tensor
    rate: Tensor | None

    def store(self) -> None:
        """Write `slots`, changed in place, back to the block."""
        for view, slot in zip(self.views, self.slots, strict=True):
            view.index_copy_(0, self.lines, slot.to(view.dtype))


def touched(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    *slots: str,
) -> Iterator[Touched]:
    """The touched rows, block by block."""
    views = [blocks.views(slot) for slot in slots]
    for block, lines, chosen in parts(blocks, rows):
        own = tuple(v[block] for v in views)
        g = pick(grad, chosen).float()
        if scale is not None:
            g = g * scale.float()
        yield Touched(
            own,
            lines,
            tuple(view.index_select(0, lines).float() for view in own),
            g,
            None if rate is None else pick(rate, chosen).float()[:, None],
        )
