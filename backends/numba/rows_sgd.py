"""Stochastic gradient descent, in place in the blocks."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from backends.numba.arithmetic import spread
from backends.numba.lanes import load, scalar, store, width_of
from backends.numba.memory import row_at
from backends.numba.rows import prefetch_row, update
from backends.numba.threads import kernel
from recis_core.blocks import Blocks


@kernel
def step(
    begin,
    end,
    pointers,
    log2_rows,
    stride,
    rows,
    grad,
    form,
    rate,
    rate_form,
    factor,
    dim,
    ahead,
    weight,
    weight_form,
    lr,
    decay,
):
    size, weight_size = width_of(form), width_of(weight_form)
    shrink, scale = spread(np.float32(decay)), spread(np.float32(factor))
    for i in range(begin, end):
        if i + ahead < end:
            prefetch_row(pointers, log2_rows, stride, rows, i + ahead)
        if rows[i] < 0:
            continue
        row = row_at(pointers, rows[i], log2_rows, stride)
        paced = lr * scalar(rate, i, rate_form) if rate != 0 else lr
        pace = spread(np.float32(paced))
        for column in range(0, dim, 16):
            left = dim - column
            w_at = row + weight + column * weight_size
            w = load(w_at, left, weight_form)
            g = scale * load(grad + (i * dim + column) * size, left, form) + shrink * w
            store(w_at, left, w - pace * g, weight_form)


def rows_sgd(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    lr: float,
    decay: float,
) -> None:
    update(step, blocks, rows, grad, scale, rate, ("weight",), float(lr), float(decay))
