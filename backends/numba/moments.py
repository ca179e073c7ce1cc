"""The one kernel of Adam and AdamW: their forms differ in a few factors only."""

from __future__ import annotations

import math

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
    mean,
    square,
    weight_form,
    mean_form,
    square_form,
    lr,
    beta1,
    beta2,
    root_factor,
    eps,
    decay,
    kept,
    kept_per_rate,
):
    """With g = factor·grad + decay·w and the moments m and v, w becomes
    (kept - kept_per_rate·rate)·w - lr·rate·m / (√v·root_factor + eps)."""
    size, weight_size = width_of(form), width_of(weight_form)
    mean_size, square_size = width_of(mean_form), width_of(square_form)
    shrink, scale = spread(np.float32(decay)), spread(np.float32(factor))
    b1, rest1 = spread(np.float32(beta1)), spread(np.float32(1 - beta1))
    b2, rest2 = spread(np.float32(beta2)), spread(np.float32(1 - beta2))
    small, correct = spread(np.float32(eps)), spread(np.float32(root_factor))
    for i in range(begin, end):
        if i + ahead < end:
            prefetch_row(pointers, log2_rows, stride, rows, i + ahead)
        if rows[i] < 0:
            continue
        row = row_at(pointers, rows[i], log2_rows, stride)
        paced = 1.0
        if rate != 0:
            paced = float(scalar(rate, i, rate_form))
        pace = spread(np.float32(lr * paced))
        keep = spread(np.float32(kept - kept_per_rate * paced))
        for column in range(0, dim, 16):
            left = dim - column
            w_at = row + weight + column * weight_size
            m_at = row + mean + column * mean_size
            v_at = row + square + column * square_size
            w = load(w_at, left, weight_form)
            g = scale * load(grad + (i * dim + column) * size, left, form) + shrink * w
            m = b1 * load(m_at, left, mean_form) + rest1 * g
            v = b2 * load(v_at, left, square_form) + rest2 * g * g
            store(m_at, left, m, mean_form)
            store(v_at, left, v, square_form)
            store(w_at, left, keep * w - pace * m / (root(v) * correct + small), weight_form)


def update_moments(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    lr: float,
    betas: tuple[float, float],
    powers: tuple[float, float],
    eps: float,
    torch_form: bool,
    decay: float = 0.0,
    kept: float = 1.0,
    kept_per_rate: float = 0.0,
) -> None:
    """Apply the kernel with epsilon inside (torch) or outside (TensorFlow) the bias correction."""
    correction = math.sqrt(1 - powers[1])
    pace = lr / (1 - powers[0]) * (1 if torch_form else correction)
    update(
        step,
        blocks,
        rows,
        grad,
        scale,
        rate,
        ("weight", "mean", "square"),
        float(pace),
        float(betas[0]),
        float(betas[1]),
        1 / correction if torch_form else 1.0,
        float(eps),
        float(decay),
        float(kept),
        float(kept_per_rate),
    )
