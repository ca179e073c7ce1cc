"""rows_sgd: w -= lr·rate·(g + decay·w)."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.update import rule, update
from recis_core.blocks import Blocks

RULE = r"""
constexpr int SLOTS = 0;
INLINE void apply(float& w, float g, float*, float rate, const float* c) {
    float lr = c[0], decay = c[1];
    w -= lr * rate * (g + decay * w);
}
"""
SOURCE = rule("rows_sgd", RULE)


def rows_sgd(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    lr: float,
    decay: float,
) -> None:
    update(SOURCE, blocks, rows, grad, scale, rate, ("weight",), (lr, decay))
