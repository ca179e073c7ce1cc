"""rows_adamw: decay of the weight by itself, then the step of Adam."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.moments import MOMENTS, moments
from backends.cupy.update import rule, update
from recis_core.blocks import Blocks

TEXT = (
    MOMENTS
    + r"""
INLINE void apply(float& w, float g, float* s, float rate, const float* c) {
    w = w * (1 - c[7] * (RATED ? rate : 1.f)) - move(g, s, rate, c);
}
"""
)
# The decay follows the learning rate and the row's rate, or neither (form "tensorflow").
RATED = rule("rows_adamw rated", "#define RATED 1\n" + TEXT)
PLAIN = rule("rows_adamw plain", "#define RATED 0\n" + TEXT)


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
) -> None:
    plain = form == "tensorflow"
    decay = decay if plain else lr * decay
    scalars = (*moments(lr, beta1, beta2, eps, power1, power2, form), decay)
    source = PLAIN if plain else RATED
    update(source, blocks, rows, grad, scale, rate, ("weight", "mean", "square"), scalars)
