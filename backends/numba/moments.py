"""The one kernel of Adam and AdamW: their forms differ in a few factors only."""

from __future__ import annotations

import math

import numpy as np

from backends.numba.arithmetic import root, spread
from backends.numba.lanes import load, scalar, store, width_of
from backends.numba.memory import row_at
from backends.numba.rows import prefetch_row
from backends.numba.threads import kernel


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


SLOTS = ("weight", "mean", "square")


def adam_scalars(
    lr: float, beta1: float, beta2: float, eps: float, decay: float,
    power1: float, power2: float, form: str,
) -> tuple[float, ...]:  # fmt: skip
    """What `step` takes after the slots, of the declared scalars of Adam."""
    moved = _moved(lr, beta1, beta2, eps, power1, power2, form)
    return *moved, float(decay), 1.0, 0.0


def adamw_scalars(
    lr: float, beta1: float, beta2: float, eps: float, decay: float,
    power1: float, power2: float, form: str,
) -> tuple[float, ...]:  # fmt: skip
    """The same of AdamW, whose decay follows the rates but in form "tensorflow"."""
    moved = _moved(lr, beta1, beta2, eps, power1, power2, form)
    if form == "tensorflow":
        return *moved, 0.0, float(1 - decay), 0.0
    return *moved, 0.0, 1.0, float(lr * decay)


def _moved(
    lr: float, beta1: float, beta2: float, eps: float, power1: float, power2: float, form: str
) -> tuple[float, ...]:
    """Scalars of the move; epsilon inside (torch) or outside (TensorFlow) the bias correction."""
    correction = math.sqrt(1 - power2)
    inside = form == "torch"
    pace = lr / (1 - power1) * (1 if inside else correction)
    root_factor = 1 / correction if inside else 1.0
    return float(pace), float(beta1), float(beta2), root_factor, float(eps)
