"""Adam on the rows a batch touched, with PyTorch's or TensorFlow's epsilon."""

from __future__ import annotations

import numpy as np

from recis_core.ops.rows_sgd import touched_rows, update_rules, update_traffic
from recis_core.rules import OneOf
from recis_core.spec import op
from recis_core.tolerance import ROUNDED
from recis_core.types import Blocks, Double, Index, Values

FORMS = ("torch", "tensorflow")


@op(tolerance=ROUNDED, mutates=("blocks",))
def rows_adam(
    blocks: Blocks,
    rows: Index,
    grad: Values,
    scale: Double | None,
    rate: Values | None,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    power1: float,
    power2: float,
    form: str,
):
    """g = scale·grad + decay·w; m = β1·m + (1-β1)·g; v = β2·v + (1-β2)·g²; then, by `form`,
    "torch": w -= lr·rate/(1-power1) · m / (√v/√(1-power2) + eps);
    "tensorflow" (RecIS): w -= lr·rate·√(1-power2)/(1-power1) · m / (√v + eps).

    power1, power2: β1 and β2 to the power of the step, host float64. Other arguments as
    `rows_sgd`. Slots: "weight", "mean", "square". Kingma & Ba, ICLR 2015; untouched rows keep all.
    """
    touched = rows >= 0
    rows = rows[touched]
    w = blocks["weight"][rows]
    g = grad[touched] * (1 if scale is None else scale[0]) + decay * w
    m = beta1 * blocks["mean"][rows] + (1 - beta1) * g
    v = beta2 * blocks["square"][rows] + (1 - beta2) * g * g
    step = lr * (1 if rate is None else rate[touched][:, None]) / (1 - power1)
    correction = np.sqrt(1 - power2)
    if form == "torch":
        w = w - step * m / (np.sqrt(v) / correction + eps)
    else:
        w = w - step * correction * m / (np.sqrt(v) + eps)
    blocks["weight"][rows], blocks["mean"][rows], blocks["square"][rows] = w, m, v


def adam_args(rng, n, capacity, dim, factors, form, lr, beta1, beta2, eps, decay, step):
    args = touched_rows(rng, n, capacity, dim, factors, "weight", "mean", "square")
    powers = dict(power1=beta1**step, power2=beta2**step)
    return dict(**args, lr=lr, beta1=beta1, beta2=beta2, eps=eps, decay=decay, **powers, form=form)


def adam_case(n, capacity, dim, factors, form, lr, beta1, beta2, eps, decay, step):
    return dict(
        n=n, capacity=capacity, dim=dim, factors=factors, form=form, lr=lr, beta1=beta1,
        beta2=beta2, eps=eps, decay=decay, step=step,
    )  # fmt: skip


@rows_adam.inputs(
    test=[
        adam_case(0, 50, 3, False, "torch", 0.1, 0.9, 0.999, 1e-8, 0.0, 1),
        adam_case(1, 2, 1, False, "torch", 0.1, 0.9, 0.999, 1e-8, 0.0, 1),
        adam_case(40, 50, 17, True, "torch", 0.01, 0.8, 0.9, 0.1, 0.1, 3),
        adam_case(300, 300, 64, False, "tensorflow", 0.01, 0.9, 0.99, 0.01, 0.0, 1),
        adam_case(70, 90, 8, False, "torch", 0.02, 0.9, 0.98, 1e-3, 0.1, 5),
    ],
    bench=[
        adam_case(1 << 16, 1 << 20, dim, False, "torch", 0.01, 0.9, 0.999, 1e-8, 0.0, 3)
        for dim in (16, 64)
    ],
)
def _(rng, **size):
    return adam_args(rng, **size)


@rows_adam.moves
def _(blocks, rows, grad, scale, rate, *scalars):
    return update_traffic(blocks, rows, grad, scale, rate, ("weight", "mean", "square"), 14)


rows_adam.requires(OneOf("form", FORMS), *update_rules("weight", "mean", "square"))
