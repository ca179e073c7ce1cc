"""rows_sgd: one pass over the touched rows."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.update import SIZES, Leaves, touched, update
from recis_core.blocks import Blocks


@triton.jit(do_not_specialize=[n for n in SIZES if not n.startswith("state")])
def _sgd(
    pointers, shift, stride, weight, rows, grad, scale, rate,
    starts, segments, weights, spilled, long, n, lr, decay,
    WEIGHT: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
    Q: tl.constexpr,
):  # fmt: skip
    mask, _, at, w, g, rated = touched(
        pointers, shift, stride, weight, rows, grad, scale, rate, starts, segments, weights,
        spilled, long, n, WEIGHT, DIM, COLUMNS, ROWS, Q,
    )  # fmt: skip
    tl.store(at, (w - lr * rated * (g + decay * w)).to(WEIGHT), mask=mask)


def rows_sgd(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    lr: float,
    decay: float,
    leaves: Leaves | None = None,
) -> None:
    update(_sgd, blocks, (), rows, grad, scale, rate, leaves, float(lr), float(decay))
