"""rows_sgd: gather, one fused multiply-add, copy back."""

from __future__ import annotations

from torch import Tensor

from backends.torch.update import touched
from recis_core.blocks import Blocks


def rows_sgd(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    lr: float,
    decay: float,
) -> None:
    part = touched(blocks, rows, grad, scale, rate, "weight")
    (w,) = part.slots
    g = part.grad.add(w, alpha=decay) if decay else part.grad
    if part.rate is None:
        w.add_(g, alpha=-lr)
    else:
        w.addcmul_(g, part.rate, value=-lr)
    part.store()
