"""One gradient norm over dense and sparse: clipping, and the guard against NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from recis_core.embedding import Embedding


@dataclass(frozen=True)
class Clipped:
    """norm [1] float64 before clipping; scale [1] float64, the factor on every gradient.

    None: not looked at, and 1. finite: False where a guard says that the step must be left out.
    """

    norm: Tensor | None
    scale: Tensor | None
    finite: bool


def clip_and_guard(
    params: Iterable[Tensor],
    embedding: Embedding,
    max_norm: float | None,
    guard: bool,
    read: Callable[[Tensor], float] = float,
) -> Clipped:
    """Scale the gradients of `params` in place so that the global L2 norm is at most `max_norm`.

    The sparse gradients are scaled by who applies them: `RowOptimizer.step(clipped.scale)`. With
    `guard`, a norm that is not finite leaves all gradients alone and says so: then neither the
    dense nor the sparse optimizer may step. The scale is max_norm / (norm + 1e-6), at most 1.
    `read` gives the host the norm, which a guard has to know before anything may change.
    """
    if max_norm is None and not guard:
        return Clipped(None, None, True)
    params = [p for p in params if p.grad is not None]
    sparse = embedding.gradient_norm()[0]
    dense = get_total_norm([p.grad for p in params if p.grad is not None]).to(sparse)
    norm = torch.linalg.vector_norm(torch.stack([dense, sparse])).reshape(1)
    if guard and not math.isfinite(read(norm)):
        return Clipped(norm, None, False)
    if max_norm is None:
        return Clipped(norm, None, True)
    clip_grads_with_norm_(params, max_norm, norm[0])
    return Clipped(norm, (max_norm / (norm + 1e-6)).clamp(max=1.0), True)
