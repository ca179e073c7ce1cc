"""rows_adagrad: gather both slots, `addcmul_` and `addcdiv_`, copy back."""

from __future__ import annotations

from torch import Tensor

from backends.torch.update import touched
from recis_core.blocks import Blocks


def rows_adagrad(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    lr: float,
    eps: float,
    decay: float,
) -> None:
    part = touched(blocks, rows, grad, scale, rate, "weight", "sum")
    w, s = part.slots
    g = part.grad.add(w, alpha=decay) if decay else part.grad
    s.addcmul_(g, g)
    w.addcdiv_(g if part.rate is None else g * part.rate, s.sqrt().add_(eps), value=-lr)
    part.store()
