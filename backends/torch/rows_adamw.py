"""rows_adamw: as `rows_adam`, the decay applied to the weight first."""

from __future__ import annotations

from math import sqrt

from torch import Tensor

from backends.torch.fused import adam_, steps_before
from backends.torch.rows_adam import move_
from backends.torch.update import touched
from recis_core.blocks import Blocks


def rows_adamw(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    power1: float,
    power2: float,
    form: str,
) -> None:
    step, bias = lr / (1 - power1), sqrt(1 - power2)
    part = touched(blocks, rows, grad, scale, rate, "weight", "mean", "square")
    before = steps_before(form, part, beta1, beta2, power1, power2)
    if before is not None:
        adam_(part, before, lr, beta1, beta2, eps, decay, True)
        part.store()
        return
    w, m, v = part.slots
    if form == "tensorflow":
        w.mul_(1 - decay)
    elif part.rate is None:
        w.mul_(1 - lr * decay)
    else:
        w.mul_(1 - part.rate * (lr * decay))
    move_(w, m, v, part.grad, part.rate, beta1, beta2, eps, step, bias, form)
    part.store()
