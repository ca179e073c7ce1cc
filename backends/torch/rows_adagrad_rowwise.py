"""rows_adagrad_rowwise: gather, one factor per row, copy back."""

from __future__ import annotations

from torch import Tensor

from backends.torch.update import touched
from recis_core.blocks import Blocks


def rows_adagrad_rowwise(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    lr: float,
    eps: float,
    decay: float,
) -> None:
    part = touched(blocks, rows, grad, scale, rate, "weight", "row_sum")
    w, s = part.slots
    g = part.grad.add(w, alpha=decay) if decay else part.grad
    s.add_(g.square().mean(1, keepdim=True))
    step = s.sqrt().add_(eps).reciprocal_()
    w.addcmul_(g, step if part.rate is None else step.mul_(part.rate), value=-lr)
    part.store()
