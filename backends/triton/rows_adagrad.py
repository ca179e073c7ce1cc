"""rows_adagrad: one pass over the touched rows, weight and sum side by side."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.update import SIZES, Leaves, state_of, touched, update
from recis_core.blocks import Blocks


@triton.jit(do_not_specialize=[n for n in SIZES if n != "state2"])
def _adagrad(
    pointers, shift, stride, weight, state1, rows, grad, scale, rate,
    starts, segments, weights, spilled, long, n, lr, eps, decay,
    WEIGHT: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
    Q: tl.constexpr,
):  # fmt: skip
    mask, address, at, w, g, rated = touched(
        pointers, shift, stride, weight, rows, grad, scale, rate, starts, segments, weights,
        spilled, long, n, WEIGHT, DIM, COLUMNS, ROWS, Q,
    )  # fmt: skip
    squares = state_of(address, state1, COLUMNS)
    s = tl.load(squares, mask=mask, other=0)
    g += decay * w
    s += g * g
    tl.store(at, (w - lr * rated * g / (tl.sqrt(s) + eps)).to(WEIGHT), mask=mask)
    tl.store(squares, s, mask=mask)


def rows_adagrad(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    lr: float,
    eps: float,
    decay: float,
    leaves: Leaves | None = None,
) -> None:
    scalars = (float(lr), float(eps), float(decay))
    update(_adagrad, blocks, ("sum",), rows, grad, scale, rate, leaves, *scalars)
