"""rows_adam: one pass over the touched rows, weight and moments side by side."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.moments import moved, scalars_of
from backends.triton.update import SIZES, Leaves, state_of, touched, update
from recis_core.blocks import Blocks


@triton.jit(do_not_specialize=SIZES)
def _adam(
    pointers, shift, stride, weight, state1, state2, rows, grad, scale, rate,
    starts, segments, weights, spilled, long, n,
    beta1, beta2, rest1, rest2, eps, step, correction, decay,
    INSIDE: tl.constexpr,
    WEIGHT: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
    Q: tl.constexpr,
):  # fmt: skip
    mask, address, at, w, g, rated = touched(
        pointers, shift, stride, weight, rows, grad, scale, rate, starts, segments, weights,
        spilled, long, n, WEIGHT, DIM, COLUMNS, ROWS, Q,
    )  # fmt: skip
    mean, square = state_of(address, state1, COLUMNS), state_of(address, state2, COLUMNS)
    g += decay * w
    down = moved(mean, square, g, mask, beta1, beta2, rest1, rest2, eps, step, correction, INSIDE)
    tl.store(at, (w - rated * down).to(WEIGHT), mask=mask)


def rows_adam(
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
    scalars = scalars_of(lr, beta1, beta2, eps, power1, power2)
    update(
        _adam, blocks, ("mean", "square"), rows, grad, scale, rate, leaves, *scalars, float(decay),
        INSIDE=form == "torch",
    )  # fmt: skip
