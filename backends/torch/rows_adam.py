"""rows_adam: gather the three slots, PyTorch's fused Adam or its steps one by one, copy back."""

from __future__ import annotations

from math import sqrt

from torch import Tensor

from backends.torch.fused import adam_, steps_before
from backends.torch.update import touched
from recis_core.blocks import Blocks


def rows_adam(
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
        adam_(part, before, lr, beta1, beta2, eps, decay, False)
        part.store()
        return
    w, m, v = part.slots
    g = part.grad.add(w, alpha=decay) if decay else part.grad
    move_(w, m, v, g, part.rate, beta1, beta2, eps, step, bias, form)
    part.store()


def move_(
    w: Tensor,
    m: Tensor,
    v: Tensor,
    g: Tensor,
    rate: Tensor | None,
    beta1: float,
    beta2: float,
    eps: float,
    step: float,
    bias: float,
    form: str,
) -> None:
    """Update moments and weight in place; `form` "torch" corrects √v before eps, others after."""
    m.mul_(beta1).add_(g, alpha=1 - beta1)
    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    # lr·m / (√v/bias + eps) = lr·bias·m / (√v + eps·bias): one pass less.
    root = v.sqrt().add_(eps * bias if form == "torch" else eps)
    w.addcdiv_(m if rate is None else m * rate, root, value=-step * bias)
