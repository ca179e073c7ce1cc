"""PyTorch's fused Adam and AdamW, where they mean what a row op asks for."""

from __future__ import annotations

from math import isclose, log

import torch
from torch.optim.adam import adam

from backends.torch.update import Touched
from recis_core.tolerance import POWER


def steps_before(
    form: str, part: Touched, beta1: float, beta2: float, power1: float, power2: float
) -> int | None:
    """Steps made before this one if the fused optimizer can make it, else None: it knows the
    PyTorch form, one rate for all rows, and powers that belong to a whole number of steps."""
    if part.grad.is_cuda:
        return None  # there it makes 1 - β^t in float32, which is 10^-6 off, past the tolerance
    if form != "torch" or part.rate is not None or not 0 < power2 < 1 or not 0 < beta2 < 1:
        return None
    step = round(log(power2) / log(beta2))
    powers = (power1, beta1**step), (power2, beta2**step)
    if step < 1 or not all(isclose(a, b, rel_tol=POWER) for a, b in powers):
        return None
    return step - 1


def adam_(
    part: Touched,
    before: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    decoupled: bool,
) -> None:
    """One fused step on the copied slots of `part`."""
    w, m, v = part.slots
    adam(
        [w],
        [part.grad],
        [m],
        [v],
        [],
        [torch.tensor(float(before), device=w.device)],
        fused=True,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=lr,
        weight_decay=decay,
        eps=eps,
        maximize=False,
        decoupled_weight_decay=decoupled,
    )
