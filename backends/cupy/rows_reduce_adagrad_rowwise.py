"""rows_reduce_adagrad_rowwise: one sum of squares a row, gradients summed where they lie."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.reduction import reduce, reducing
from recis_core.blocks import Blocks

SOURCE = reducing(
    "rows_reduce_adagrad_rowwise",
    r"""
#define ROWWISE 1
constexpr int SLOTS = 0;
INLINE float square(float w, float g, const float* c) {
    g += c[2] * w;
    return g * g;
}
// `pace` is the learning rate over the root of the row's sum.
INLINE void apply(float& w, float g, float*, float pace, const float* c) {
    w -= pace * (g + c[2] * w);
}
""",
)


def rows_reduce_adagrad_rowwise(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    starts: Tensor,
    segments: Tensor,
    weights: Tensor | None,
    rate: Tensor | None,
    lr: float,
    eps: float,
    decay: float,
) -> None:
    leaves = grad, scale, starts, segments, weights
    reduce(SOURCE, blocks, rows, leaves, rate, ("weight", "row_sum"), (lr, eps, decay))
