"""rows_adamw: one pass over the touched rows, weight and moments side by side."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.moments import moved, scalars_of
from backends.triton.update import SIZES, Leaves, state_of, touched, update
from recis_core.blocks import Blocks


@triton.jit(do_not_specialize=SIZES)
def _adamw(
    pointers, shift, stride, weight, state1, state2, rows, grad, scale, rate,
    starts, segments, weights, spilled, long, n,
    beta1, beta2, rest1, rest2, eps, step, correction, fixed, rated_decay,
    INSIDE: tl.constexpr,
    WEIGHT: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
    Q: tl.constexpr,
):  # fmt: skip
    mask, address, at, w, g, rated = touched(
        pointers, shift, stride, weight, rows, grad, scale, rate, starts, segments, weights,
        spilled, long, n, WEIGHT, DIM, COLUMNS, ROWS, Q,
    )  # fmt: skip
    mean, square = state_of(address, state1, COLUMNS), state_of(address, state2, COLUMNS)
    down = moved(mean, square, g, mask, beta1, beta2, rest1, rest2, eps, step, correction, INSIDE)
    w *= 1 - fixed - rated * rated_decay
    tl.store(at, (w - rated * down).to(WEIGHT), mask=mask)


def rows_adamw(
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
    leaves: Leaves | None = None,
) -> None:
    """The share of decay that follows the learning rate, or the fixed one, is 0 by form."""
    scalars = scalars_of(lr, beta1, beta2, eps, power1, power2)
    decays = (float(decay), 0.0) if form == "tensorflow" else (0.0, float(lr * decay))
    update(
        _adamw, blocks, ("mean", "square"), rows, grad, scale, rate, leaves, *scalars, *decays,
        INSIDE=form == "torch",
    )  # fmt: skip
