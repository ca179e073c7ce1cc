"""Linear layer and softmax cross-entropy in one, for outputs too many to be held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, linear

LOGITS_BYTES = 1 << 32
TILE = 256  # rows of a matrix product that one multiprocessor of a GPU works on, at most
BLOCK = 1024  # classes that a compiled reduction holds in registers


# (logits [rows, classes], target [rows, 1]) -> the losses' sum, its gradient for the logits.
Gradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def softmax_gradient(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """By PyTorch's own kernels; the gradient in the logits' dtype, the sum in float32 or better."""
    exact = torch.promote_types(logits.dtype, torch.float32)
    top, at = logits.max(1, keepdim=True)
    grad = torch.softmax(logits, 1)  # sums in float32 whatever the dtype
    # ln Σ exp follows from any one output, best from the largest.
    norm = top.to(exact) - grad.gather(1, at).to(exact).log()
    loss = (norm - logits.gather(1, target).to(exact)).sum()
    return loss, grad.scatter_add_(1, target, grad.new_full(target.shape, -1.0))


def fused_gradient(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same as one expression, for `torch.compile`, which reads the logits twice and writes
    once; eager, it would hold them several times over in float32."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    norm = blocked_norm(wide)
    loss = (norm - wide.gather(1, target)).sum()
    hit = torch.arange(logits.shape[1], device=logits.device) == target
    return loss, ((wide - norm).exp() - hit.to(wide.dtype)).to(logits.dtype)


def blocked_norm(x: Tensor) -> Tensor:
    """ln Σ exp of each row [rows, 1]: of blocks first, then of the blocks.

    A block is small enough to stay in registers, so that its largest and its sum take one read of
    it; of a whole row they take two.
    """
    size = block_of(x.shape[1])
    if size == 1:
        return x.logsumexp(1, keepdim=True)
    blocks = x.view(len(x), -1, size)
    top = blocks.amax(2)
    total = (blocks - top.unsqueeze(2)).exp().sum(2)
    most = top.amax(1, keepdim=True)
    return ((top - most).exp() * total).sum(1, keepdim=True).log() + most


def block_of(classes: int) -> int:
    """The largest divisor of `classes` up to BLOCK, 1 where it is less than a quarter of that."""
    size = max(n for n in range(1, BLOCK + 1) if classes % n == 0)
    return size if 4 * size >= BLOCK else 1


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    rows: int = 0,
    gradient: Gradient = softmax_gradient,
) -> Tensor:
    """Mean over i of -ln softmax(weight · x_i)[target_i], a scalar in float32 or better; 0 of none.

    x [n, width], weight [classes, width], target [n] int64 in [0, classes). Logits of `rows` rows
    at a time (0: as many as fit in 4 GiB) are made and, where a gradient is wanted, turned into
    it at once: at most rows · classes of them exist, in x's dtype (under autocast, autocast's).
    `gradient` does that: `softmax_gradient`, or `fused_gradient` compiled.
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        x = x.to(torch.get_autocast_dtype(kind))
    if not rows:
        rows = max(1, LOGITS_BYTES // max(len(weight) * x.element_size(), 1))
        rows -= rows % TILE if rows > TILE else 0
    return _Fused.apply(x, weight, target, rows, gradient)  # pyright: ignore[reportReturnType]


def plain(x: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """The same by PyTorch's own ops, holding every logit: what `linear_cross_entropy` is tested
    and measured against."""
    if not len(x):
        return (x.sum() + weight.sum()) * 0
    logits = linear(x, weight)
    return cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), target)


class _Fused(torch.autograd.Function):
    """Gradients are made in the forward pass and scaled in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, target: Tensor, rows: int, gradient: Gradient
    ) -> Tensor:
        wanted = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        # Autocast would make float32 of the softmax, the largest tensor there is.
        with torch.autocast(x.device.type, enabled=False):
            loss, *grads = _forward(x, weight.detach(), target, rows, gradient, wanted)
        ctx.grads, ctx.count, ctx.kind = grads, max(len(x), 1), weight.dtype
        return loss / ctx.count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError("linear_cross_entropy: its gradients were given away already")
        (grad_x, grad_weight), ctx.grads = ctx.grads, None
        scale = grad / ctx.count
        # In place: the weight's is as large as the weight.
        return (
            None if grad_x is None else grad_x.mul_(scale.to(grad_x.dtype)),
            None if grad_weight is None else grad_weight.mul_(scale).to(ctx.kind),
            None,
            None,
            None,
        )


def _forward(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    rows: int,
    gradient: Gradient,
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Sum of the losses, and the gradients of that sum that are wanted, `rows` rows at a time."""
    exact = torch.promote_types(x.dtype, torch.float32)
    own = weight.to(x.dtype)
    total = torch.zeros((), dtype=exact, device=x.device)
    grad_x = torch.empty_like(x) if wanted[0] else None
    grad_weight = torch.zeros_like(weight, dtype=exact) if wanted[1] else None
    for begin in range(0, len(x), rows):
        part, goal = x[begin : begin + rows], target[begin : begin + rows, None]
        loss, grad = gradient(part @ own.T, goal)
        total += loss
        if grad_x is not None:
            torch.mm(grad, own, out=grad_x[begin : begin + rows])
        if grad_weight is not None:
            _add_product(grad_weight, grad, part)
    return total, grad_x, grad_weight


def _add_product(into: Tensor, grad: Tensor, x: Tensor) -> None:
    """into [classes, width] += gradᵀ x, in `into`'s dtype where the device can."""
    if into.dtype == grad.dtype:
        into.addmm_(grad.T, x)
    elif into.is_cuda:
        # In place: the sum would otherwise be written once more and read twice.
        product: Any = torch.addmm  # whose stub lacks out_dtype
        product(into, grad.T, x, out_dtype=into.dtype, out=into)
    else:
        into += grad.T @ x
