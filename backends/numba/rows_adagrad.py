"""Adagrad, in place in the blocks."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from backends.numba.arithmetic import root, spread
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
    squares,
    weight_form,
    squares_form,
    lr,
    eps,
    decay,
):
    size = width_of(form)
    weight_size, squares_size = width_of(weight_form), width_of(squares_form)
    shrink, scale = spread(np.float32(decay)), spread(np.float32(factor))
    small = spread(np.float32(eps))
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
            s_at = row + squares + column * squares_size
            w = load(w_at, left, weight_form)
            g = scale * load(grad + (i * dim + column) * size, left, form) + shrink * w
            s = load(s_at, left, squares_form) + g * g
            store(s_at, left, s, squares_form)
            store(w_at, left, w - pace * g / (root(s) + small), weight_form)


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
    slots = ("weight", "sum")
    update(step, blocks, rows, grad, scale, rate, slots, float(lr), float(eps), float(decay))
