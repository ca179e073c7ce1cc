"""rows_adagrad: s += g²; w -= lr·rate·g / (√s + eps)."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.update import rule, update
from recis_core.blocks import Blocks

RULE = r"""
constexpr int SLOTS = 1;
INLINE void apply(float& w, float g, float* s, float rate, const float* c) {
    float lr = c[0], eps = c[1], decay = c[2];
    g += decay * w;
    s[0] += g * g;
    w -= lr * rate * g / (sqrtf(s[0]) + eps);
}
"""
SOURCE = rule("rows_adagrad", RULE)


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
    update(SOURCE, blocks, rows, grad, scale, rate, ("weight", "sum"), (lr, eps, decay))
