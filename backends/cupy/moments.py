"""CUDA text and host scalars of the moments that Adam and AdamW share."""

from __future__ import annotations

from math import sqrt

MOMENTS = r"""
constexpr int SLOTS = 2;

// By how much the weight moves: c begins as `moments` below says.
INLINE float move(float g, float* s, float rate, const float* c) {
    s[0] = c[0] * s[0] + c[1] * g;
    s[1] = c[2] * s[1] + c[3] * g * g;
    return rate * c[4] * s[0] / (sqrtf(s[1]) * c[5] + c[6]);
}
"""


def moments(
    lr: float, beta1: float, beta2: float, eps: float, power1: float, power2: float, form: str
) -> tuple[float, ...]:
    """β1, 1-β1, β2, 1-β2, the step, what √v is multiplied by, and epsilon, formed in float64.

    Form "torch" puts epsilon beside the bias-corrected root, the others beside the plain one.
    """
    correction = sqrt(1 - power2)
    step, root = lr / (1 - power1), 1 / correction
    if form != "torch":
        step, root = step * correction, 1.0
    return beta1, 1 - beta1, beta2, 1 - beta2, step, root, eps
