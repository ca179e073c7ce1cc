"""One gradient norm over dense and sparse: clipping, and the guard against NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from recis_core.embedding import Embedding


@dataclass(frozen=True)
class Clipped:
    """norm [1] float64 before clipping; scale [1] float64, the factor on every gradient.

    None: not looked at, and 1. finite: False where a guard says that the step must be left out;
    keep [1] bool: the same where only the device knows.
    """

    norm: Tensor | None
    scale: Tensor | None
    finite: bool = True
    keep: Tensor | None = None


def clip_and_guard(
    params: Iterable[Tensor],
    embedding: Embedding,
    max_norm: float | None,
    guard: bool,
    read: Callable[[Tensor], float] | None = float,
) -> Clipped:
    """Scale the gradients of `params` in place so that the global L2 norm is at most `max_norm`.

    The sparse gradients are scaled by who applies them: `RowOptimizer.step(clipped.scale)`. With
    `guard`, a norm that is not finite leaves all gradients alone and says so: then neither the
    dense nor the sparse optimizer may step. The scale is max_norm / (norm + 1e-6), at most 1.
    `read` gives the host the norm, for which it waits; with None the device keeps the answer, and
    gradients that are not to be applied may be anything.
    """
    if max_norm is None and not guard:
        return Clipped(None, None)
    params = [p for p in params if p.grad is not None]
    sparse = embedding.gradient_norm()[0]
    dense = get_total_norm([p.grad for p in params if p.grad is not None]).to(sparse)
    norm = torch.linalg.vector_norm(torch.stack([dense, sparse])).reshape(1)
    keep = norm < math.inf if guard and read is None else None
    if guard and read is not None and not math.isfinite(read(norm)):
        return Clipped(norm, None, finite=False)
    if max_norm is None:
        return Clipped(norm, None, keep=keep)
    clip_grads_with_norm_(params, max_norm, norm[0])
    return Clipped(norm, (max_norm / (norm + 1e-6)).clamp(max=1.0), keep=keep)


def steps_if_told(optimizer: Optimizer | None) -> bool:
    """Whether `step_if` can leave out a step of `optimizer` by a flag on the device."""
    # Fused SGD can, too, but forgets to begin its momentum where the first step is left out.
    kinds = torch.optim.Adam, torch.optim.AdamW
    fused = getattr(optimizer, "_step_supports_amp_scaling", False)
    return optimizer is None or (isinstance(optimizer, kinds) and fused)


def step_if(optimizer: Optimizer, keep: Tensor | None) -> None:
    """A step, which where `keep` [1] is there and False changes no bit of parameters and state."""
    if keep is None:
        optimizer.step()
        return
    found_inf = keep[0].logical_not().float()
    told: dict[str, Tensor | None] = {"found_inf": found_inf, "grad_scale": None}
    vars(optimizer).update(told)
    try:
        optimizer.step()
    finally:
        for name in told:
            del vars(optimizer)[name]
