"""The moments Adam and AdamW share, with either place of epsilon."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import triton
import triton.language as tl


@triton.jit
def moved(
    mean, square, g, mask, beta1, beta2, rest1, rest2, eps, step, correction, INSIDE: tl.constexpr
):
    """Update both moments in place; what the weight has to go down by, times the rate."""
    m = beta1 * tl.load(mean, mask=mask, other=0) + rest1 * g
    v = beta2 * tl.load(square, mask=mask, other=0) + rest2 * g * g
    tl.store(mean, m, mask=mask)
    tl.store(square, v, mask=mask)
    if INSIDE:
        return step * m / (tl.sqrt(v) / correction + eps)
    return step * correction * m / (tl.sqrt(v) + eps)


class Scalars(NamedTuple):
    """What a kernel takes of the declared scalars, the bias corrections formed in float64."""

    beta1: float
    beta2: float
    rest1: float
    rest2: float
    eps: float
    step: float
    correction: float


def scalars_of(
    lr: float, beta1: float, beta2: float, eps: float, power1: float, power2: float
) -> Scalars:
    step, correction = lr / (1 - power1), sqrt(1 - power2)
    return Scalars(
        float(beta1), float(beta2), 1 - beta1, 1 - beta2, float(eps), float(step), correction
    )
